"""bundler.plan.lock: one text per value, and every fault of a bad text named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.errors import LockError
from bundler.plan.lock import Lock, LockedFile, LockedRepo
from tests.support.bundles import lock_of, locked_repo

EXAMPLE = """{
 "lock_version": 1,
 "name": "demo",
 "manifest_sha256": "0000000000000000000000000000000000000000000000000000000000000000",
 "repos": [
  {
   "kind": "tokenizer",
   "repo_id": "openai-community/gpt2",
   "revision": "main",
   "commit": "cccccccccccccccccccccccccccccccccccccccc",
   "aliases": ["gpt2"],
   "trust_remote_code": false,
   "allow_pickle": false,
   "configs": [],
   "files": [
    {"path": "merges.txt", "size": 2, "blob_id": "9daeafb9864cf43055ae93beb0afd6c7d144bfa4"},
    {"path": "vocab.json", "size": 2, "blob_id": "9e26dfeeb6e641a33dae4961196235bdb965b21b"}
   ],
   "absent": [
    "chat_template.jinja"
   ],
   "prepared": []
  }
 ]
}
"""


def test_the_text_of_a_lock_is_the_documented_one() -> None:
    lock = Lock.loads(EXAMPLE)
    assert lock.dumps() == EXAMPLE
    assert lock.repos[0].files[1] == LockedFile(
        path="vocab.json", size_bytes=2, blob_id="9e26dfeeb6e641a33dae4961196235bdb965b21b"
    )
    assert not lock.is_complete


def test_a_complete_lock_survives_its_text() -> None:
    lock = lock_of(
        locked_repo(
            "org/m", {"a/b.json": b"{}", "w.safetensors": b"ww"}, lfs=["w.safetensors"], absent=["x.json"]
        ),
        locked_repo("org/d", {"d.txt": b"d"}, kind="dataset", prepared={"default/0.0.0/h/d.arrow": b"a"}),
    )
    assert lock.is_complete
    assert Lock.loads(lock.dumps()) == lock


hexes = st.text("0123456789abcdef", min_size=40, max_size=40)
characters = st.characters(codec="utf-8", exclude_characters="/\\\x7f", min_codepoint=32)
names = st.text(characters, min_size=1, max_size=20).filter(lambda text: text not in (".", ".."))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, st.tuples(st.integers(0, 2**50), hexes), max_size=5), st.sets(names, max_size=3))
def test_any_lock_survives_its_text(files: dict[str, tuple[int, str]], absent: set[str]) -> None:
    repo = LockedRepo(
        kind="model",
        repo_id="org/m",
        revision="v1.0",
        commit="a" * 40,
        files=tuple(LockedFile(path=p, size_bytes=s, blob_id=b) for p, (s, b) in sorted(files.items())),
        absent=tuple(sorted(absent)),
    )
    lock = lock_of(repo)
    assert Lock.loads(lock.dumps()) == lock
    assert json.loads(lock.dumps())["repos"][0]["repo_id"] == "org/m"


def _edited(**changes: Any) -> str:
    raw = json.loads(EXAMPLE)
    repo = raw["repos"][0]
    for key, value in changes.items():
        target = repo["files"][0] if key in ("path", "size", "blob_id", "sha256") else repo if key in repo else raw
        target[key] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "expected a lock in JSON"),
        ("[]", "expected a JSON object, found a list"),
        ('{"lock_version": 1, "lock_version": 1}', "stands twice"),
        (_edited(lock_version=2), "lock_version: expected 1, found 2"),
        (_edited(lock_version=True), "lock_version"),
        (_edited(name="../x"), "name: expected"),
        (_edited(surprise=1), "surprise: unknown key"),
        (_edited(kind="space"), "repos[0].kind"),
        (_edited(repo_id="a/b/c"), "repos[0].repo_id"),
        (_edited(repo_id="../.."), "repos[0].repo_id"),
        (_edited(aliases=["b", "a"]), "repos[0].aliases: expected sorted"),
        (_edited(aliases=["../gpt2"]), "repos[0].aliases[0]"),
        (_edited(revision="../main"), "repos[0].revision"),
        (_edited(commit="C" * 40), "repos[0].commit: expected 40 lower-case hex"),
        (_edited(path="../escape"), "repos[0].files[0].path"),
        (_edited(path="/etc/passwd"), "repos[0].files[0].path"),
        (_edited(path="zzz"), "repos[0].files: expected sorted"),
        (_edited(size=-1), "repos[0].files[0].size"),
        (_edited(size=True), "repos[0].files[0].size: expected a number, found true or false"),
        (_edited(blob_id="x"), "repos[0].files[0].blob_id"),
        (_edited(sha256="0"), "repos[0].files[0].sha256: expected 64"),
        (_edited(absent=["../x"]), "repos[0].absent[0]"),
        (_edited(files={}), "repos[0].files: expected a list, found an object"),
    ],
)
def test_a_bad_lock_is_refused_with_the_path_to_the_bad_key(text: str, said: str) -> None:
    with pytest.raises(LockError) as caught:
        Lock.loads(text, source="demo.lock")
    assert str(caught.value).startswith("demo.lock: ")
    assert said in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(LockError, match=r"3 fault\(s\)") as caught:
        Lock.loads(_edited(commit="x", size=-1, revision=""))
    for key in ("commit", "files[0].size", "revision"):
        assert key in str(caught.value)


def test_a_published_and_an_own_sha256_that_differ_are_refused() -> None:
    raw = json.loads(EXAMPLE)
    raw["repos"][0]["files"][0] |= {"lfs_sha256": "a" * 64, "sha256": "b" * 64}
    with pytest.raises(LockError, match="differs from lfs_sha256"):
        Lock.loads(json.dumps(raw))
