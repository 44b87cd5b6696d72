"""bundler.plan.lock: one text per value, and every fault of a bad text named."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.errors import LockError
from bundler.plan.lock import Card, InvalidLockError, Lock, LockedFile, LockedRepo
from bundler.plan.lock_rules import state_endpoint
from bundler.text.fault import Fault
from bundler.text.wording import has_control_character
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
names = st.text(characters, min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..") and not has_control_character(text)
)

claims = st.sets(names, max_size=3).map(lambda found: tuple(sorted(found)))


@settings(max_examples=60)
@given(
    st.dictionaries(names, st.tuples(st.integers(0, 2**50), hexes), max_size=5),
    st.sets(names, max_size=3),
    st.none() | st.builds(Card, licenses=claims, base_models=claims, datasets=claims),
    st.none()
    | st.sampled_from(["https://huggingface.co", "http://[::1]:8080/a/b-c", "https://hub.example.org:443"]),
)
def test_any_lock_survives_its_text(
    files: dict[str, tuple[int, str]], absent: set[str], card: Card | None, endpoint: str | None
) -> None:
    repo = LockedRepo(
        kind="model",
        repo_id="org/m",
        revision="v1.0",
        commit="a" * 40,
        card=card,
        endpoint=endpoint,
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
        target = (
            repo["files"][0]
            if key in ("path", "size", "blob_id", "sha256")
            else repo
            if key in (*repo, "card", "endpoint")
            else raw
        )
        target[key] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "expected a lock in JSON"),
        ("[]", "expected a JSON object, found a list"),
        ('{"lock_version": 1, "lock_version": 1}', "appears twice"),
        (_edited(lock_version=4), "lock_version: expected 1 to 3, found 4"),
        (_edited(lock_version=2), "lock_version: expected 1 for what it has, found 2"),
        (_edited(kind="kernel"), "lock_version: expected 2 for what it has, found 1"),
        (_edited(lock_version=True), "lock_version"),
        (_edited(name="../x"), "name: expected"),
        (_edited(surprise=1), "surprise: unknown key"),
        (_edited(kind="bucket"), "repos[0].kind"),
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
        (_edited(endpoint="https://u:p@hub"), "repos[0].endpoint: expected the address of a Hub"),
        (_edited(endpoint="https://hub?token=x"), "repos[0].endpoint: expected the address of a Hub"),
        (_edited(endpoint="https://hub/\x1b[2J"), "repos[0].endpoint: expected the address of a Hub"),
        (_edited(endpoint=1), "repos[0].endpoint: expected a string"),
        (_edited(card=[]), "repos[0].card: expected the keys licenses, base_models, datasets; found a list"),
        (_edited(card={"licenses": []}), "repos[0].card.base_models: missing"),
        (_edited(files={}), "repos[0].files: expected a list, found an object"),
    ],
)
def test_a_bad_lock_is_refused_with_the_path_to_the_bad_key(text: str, said: str) -> None:
    with pytest.raises(LockError) as caught:
        Lock.loads(text, source="demo.lock")
    assert str(caught.value).startswith("demo.lock: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", ["kernel", "space"])
def test_a_lock_with_a_newer_kind_has_a_version_that_earlier_readers_refuse_by_name(kind: str) -> None:
    text = _edited(kind=kind, lock_version=2)
    lock = Lock.loads(text)
    assert (lock.version, lock.repos[0].repo_type) == (2, kind)
    assert Lock.loads(lock.dumps()) == lock
    assert lock.dumps().startswith('{\n "lock_version": 2,\n')


def test_commands_that_proved_it_stand_in_a_lock_of_a_version_of_their_own() -> None:
    lock = replace(Lock.loads(EXAMPLE), proven_by=("python train.py", "true"))
    assert lock.dumps().splitlines()[1:5:3] == [
        ' "lock_version": 3,',
        ' "proven_by": ["python train.py", "true"],',
    ]
    assert Lock.loads(lock.dumps()) == lock
    for wrong, said in ((["a\nb"], "in one line"), ([""], "an empty one"), (["x", "x"], "proven_by[1]")):
        with pytest.raises(InvalidLockError, match=re.escape(said)):
            Lock.loads(_edited(proven_by=wrong, lock_version=3))


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(InvalidLockError) as caught:
        Lock.loads(_edited(commit="x", size=-1, revision=""), source="demo.lock")
    assert caught.value.message == (
        "demo.lock: 3 faults\n"
        "  repos[0].revision: expected a branch, tag or commit, found ''\n"
        "  repos[0].commit: expected 40 lower-case hex digits, found 'x'\n"
        "  repos[0].files[0].size: expected at least 0, found -1"
    )


def test_a_published_and_an_own_sha256_that_differ_are_refused() -> None:
    raw = json.loads(EXAMPLE)
    raw["repos"][0]["files"][0] |= {"lfs_sha256": "a" * 64, "sha256": "b" * 64}
    with pytest.raises(LockError, match="differs from lfs_sha256"):
        Lock.loads(json.dumps(raw))


def _one_fault(text: str) -> Fault:
    with pytest.raises(InvalidLockError) as caught:
        Lock.loads(text, source="demo.lock")
    # Whatever stands in a lock, its error can be written to any terminal and any file.
    assert str(caught.value).encode("utf-8", "strict")
    assert all(character.isprintable() or character == "\n" for character in str(caught.value))
    (fault,) = caught.value.faults
    return fault


def _with_prepared(**changes: Any) -> str:
    raw = json.loads(EXAMPLE)
    row = {"path": "d/x.arrow", "size": 1, "sha256": "0" * 64, "blake3": "0" * 64}
    raw["repos"][0]["prepared"] = [row | changes]
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        pytest.param(_edited(configs=["\ud800"]), "", "half of a surrogate pair", id="surrogate in a value"),
        pytest.param(_edited(**{"\udfff": 1}), "", "half of a surrogate pair", id="surrogate in a key"),
        pytest.param("[" * 100_000, "", "nested too deeply", id="nesting"),
        pytest.param(EXAMPLE.replace('"size": 2', f'"size": {"9" * 5000}'), "", "4,300 digits", id="5000 digits"),
        pytest.param(EXAMPLE.replace('"size": 2', '"size": NaN', 1), "", "NaN is not a number", id="NaN"),
        pytest.param(_edited(size=2**63), "repos[0].files[0].size", "expected at most", id="2**63"),
        pytest.param(_edited(size=10**4299), "repos[0].files[0].size", "one of 4,300 digits", id="4300 digits"),
        pytest.param(_edited(size=1e300), "repos[0].files[0].size", "expected a number, found", id="float"),
        pytest.param(
            _edited(lock_version=[[[]]]), "lock_version", "a number from 1 to 3, found a list", id="version list"
        ),
        pytest.param(
            _edited(lock_version=None), "lock_version", "a number from 1 to 3, found null", id="version null"
        ),
        pytest.param(_edited(path="a\x00b"), "repos[0].files[0].path", "has a control character", id="NUL"),
        pytest.param(_edited(path="a\x1b[2Jb"), "repos[0].files[0].path", "has a control character", id="escape"),
        pytest.param(_edited(name="a\x1b]0;x\x07"), "name", "expected lower-case", id="escape in the name"),
        pytest.param(_edited(**{"\x1b[2J": 1}), "\x1b[2J", "unknown key", id="escape in a key"),
        pytest.param(_edited(configs=["../x"]), "repos[0].configs[0]", "dataset configuration", id="config"),
        pytest.param(
            _edited(configs=["a\x00"]), "repos[0].configs[0]", "dataset configuration", id="NUL in a config"
        ),
        pytest.param(_edited(blob_id=""), "repos[0].files[0].blob_id", "40 lower-case hex", id="empty blob id"),
        pytest.param(_edited(sha256=""), "repos[0].files[0].sha256", "64 lower-case hex", id="empty sha256"),
        pytest.param(
            _with_prepared(blake3=""), "repos[0].prepared[0].blake3", "64 lower-case hex", id="empty blake3"
        ),
        pytest.param(_with_prepared(size=-1), "repos[0].prepared[0].size", "at least 0", id="prepared size"),
    ],
)
def test_a_lock_from_an_enemy_ends_in_one_fault_and_no_traceback(text: str, path: str, said: str) -> None:
    fault = _one_fault(text)
    assert fault.path == path
    assert said in fault.message


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("no JSON", "expected a choice of files in JSON"),
        ("3", "expected a pattern"),
        ('{"train": {"a": "b"}}', "expected a pattern"),
        ('"/etc/passwd"', "is absolute"),
        ('["../x"]', "'..' folder"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_data_files_of_a_lock_are_choices_of_files(choice: str, said: str) -> None:
    raw = json.loads(EXAMPLE)
    raw["repos"][0]["data_files"] = [choice]
    fault = _one_fault(json.dumps(raw))
    assert fault.path == "repos[0].data_files[0]"
    assert said in fault.message


def test_folders_of_a_dataset_and_what_was_left_out_are_in_a_lock_only_if_they_are_used() -> None:
    lock = Lock.loads(EXAMPLE)
    changed = lock.with_repos((replace(lock.repos[0], data_dirs=("a", "b/c"), partial=True), *lock.repos[1:]))
    assert Lock.loads(changed.dumps()) == changed
    assert not {"data_dirs", "partial", "refs"} & set(json.loads(EXAMPLE)["repos"][0])
    raw = json.loads(changed.dumps())
    raw["repos"][0]["data_dirs"] = ["../x"]
    assert _one_fault(json.dumps(raw)).path == "repos[0].data_dirs[0]"


def test_sizes_that_add_up_to_more_than_any_disk_are_refused() -> None:
    raw = json.loads(EXAMPLE)
    for file in raw["repos"][0]["files"]:
        file["size"] = 2**62
    fault = _one_fault(json.dumps(raw))
    assert (fault.path, fault.message) == (
        "repos",
        "the sizes of all files add up to more than 9,223,372,036,854,775,807 bytes",
    )


def test_a_lock_longer_than_the_bound_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.plan.lock.MAX_CHARACTERS", 1000)
    assert "longer than 1000" in _one_fault("[" * 1001).message
    assert "expected a lock in JSON" in _one_fault("[" * 1000).message


def test_every_prefix_of_a_lock_and_every_wrong_byte_ends_in_an_error_of_ours() -> None:
    for end in range(len(EXAMPLE) - 2):
        with pytest.raises(LockError):
            Lock.loads(EXAMPLE[:end])
    for place in range(len(EXAMPLE)):
        for wrong in '\x00\ud800"{[9':
            # A few letters may be any: then the text is that of another lock.
            with contextlib.suppress(LockError):
                Lock.loads(EXAMPLE[:place] + wrong + EXAMPLE[place + 1 :])


@pytest.mark.parametrize(
    ("address", "stated"),
    [
        ("https://huggingface.co", "https://huggingface.co"),
        ("HTTPS://user:secret@hub.example.org:8443/hf/?token=x#y", "https://hub.example.org:8443/hf"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://[::1", None),
        ("ftp://hub", None),
        ("https://hub/a b", None),
    ],
)
def test_an_endpoint_is_stated_without_what_is_secret(address: str, stated: str | None) -> None:
    assert state_endpoint(address) == stated


def test_a_lock_without_an_endpoint_has_the_text_that_it_had() -> None:
    repo = locked_repo("org/m", {"a": b"a"})
    text = lock_of(repo).dumps()
    assert "endpoint" not in text
    stated = lock_of(replace(repo, endpoint="https://huggingface.co")).dumps()
    assert stated.replace('   "endpoint": "https://huggingface.co",\n', "") == text
