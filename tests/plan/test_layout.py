"""bundler.plan.layout: the names that a lock owns below HF_HOME."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundler.errors import LockError
from bundler.plan.folders import default_hf_home
from bundler.plan.layout import layout
from bundler.plan.lock import Lock, LockedFile, LockedRepo
from bundler.plan.names import prepared_folder, repo_folder, snapshot_link_target
from tests.support.bundles import COMMIT, OTHER_COMMIT, lock_of, locked_file, locked_repo


def test_the_layout_is_the_one_of_the_stock_client() -> None:
    repo = locked_repo(
        "openai-community/gpt2", {"sub/vocab.json": b"{}"}, aliases=["gpt2"], absent=["chat_template.jinja"]
    )
    [made] = layout(lock_of(repo)).repos
    blob = "hub/models--openai-community--gpt2/blobs/9e26dfeeb6e641a33dae4961196235bdb965b21b"
    [snapshot] = made.snapshots
    assert [b.path for b in made.blobs] == [blob]
    assert snapshot.path == f"hub/models--openai-community--gpt2/snapshots/{COMMIT}/sub/vocab.json"
    assert snapshot_link_target(snapshot.path, blob) == "../../../blobs/9e26dfeeb6e641a33dae4961196235bdb965b21b"
    assert [(t.path, t.content) for t in made.ref_texts()] == [
        ("hub/models--openai-community--gpt2/refs/main", COMMIT.encode())
    ]
    assert [t.path for t in made.markers] == [
        f"hub/models--openai-community--gpt2/.no_exist/{COMMIT}/chat_template.jinja"
    ]
    assert made.alias_links() == [("hub/models--gpt2", "models--openai-community--gpt2")]


def test_folder_names_are_those_of_the_installed_libraries() -> None:
    from huggingface_hub.file_download import repo_folder_name

    for repo_id in ("gpt2", "openai-community/gpt2", "org/Name_with-all.sorts"):
        assert repo_folder(repo_id, "model") == repo_folder_name(repo_id=repo_id, repo_type="model")
        assert repo_folder(repo_id, "dataset") == repo_folder_name(repo_id=repo_id, repo_type="dataset")


@pytest.mark.parametrize("name", ["wikitext", "WikiText2", "the_pile", "HTMLPages", "c4-En", "ABC", "aB1C"])
def test_prepared_folders_are_named_as_the_datasets_library_does(name: str) -> None:
    from datasets.naming import camelcase_to_snakecase

    assert prepared_folder(f"Org/{name}") == f"Org___{camelcase_to_snakecase(name)}"


def test_the_tree_listing_is_one_that_the_client_reads(tmp_path: Path) -> None:
    from huggingface_hub._tree_cache import read_tree_cache

    repo = locked_repo("org/m", {"config.json": b"{}", "w.safetensors": b"ww"}, lfs=["w.safetensors"])
    [text] = layout(lock_of(repo)).repos[0].tree_texts()
    path = tmp_path / "trees" / f"{COMMIT}.json"
    path.parent.mkdir()
    path.write_bytes(text.content)
    entries = read_tree_cache(str(tmp_path), COMMIT)
    assert entries is not None
    assert {name: (e.size, e.blob_id, e.lfs_sha256) for name, e in entries.items()} == {
        file.path: (file.size_bytes, file.blob_id, file.lfs_sha256) for file in repo.files
    }


def test_entries_of_one_commit_are_merged_and_their_listing_has_the_files_of_both() -> None:
    tokenizer = locked_repo("org/m", {"vocab.json": b"{}"}, kind="tokenizer")
    model = locked_repo("org/m", {"vocab.json": b"{}", "w": b"ww"}, aliases=["m"])
    [made] = layout(lock_of(tokenizer, model)).repos
    assert len(made.blobs) == 2
    [text] = made.tree_texts()
    assert sorted(json.loads(text.content)["files"]) == ["vocab.json", "w"]


def test_two_commits_of_one_repo_stand_side_by_side() -> None:
    old = locked_repo("org/m", {"w": b"old"}, revision="v1", commit=OTHER_COMMIT)
    new = locked_repo("org/m", {"w": b"new"})
    [made] = layout(lock_of(old, new)).repos
    assert made.refs == {"v1": OTHER_COMMIT, "main": COMMIT}
    assert len(made.snapshots) == len(made.blobs) == 2


def test_a_commit_as_revision_needs_no_ref() -> None:
    [made] = layout(lock_of(locked_repo("org/m", {"w": b"w"}, revision=COMMIT))).repos
    assert made.refs == {}


def test_a_further_ref_is_one_that_yields_unless_an_entry_asked_for_it() -> None:
    pinned = locked_repo("org/m", {"w": b"w"}, revision=COMMIT, refs=["main"])
    [made] = layout(lock_of(pinned)).repos
    assert [(text.path, text.content) for text in made.ref_texts()] == [
        ("hub/models--org--m/refs/main", COMMIT.encode())
    ]
    assert made.yielding_refs == {"main"}
    [made] = layout(lock_of(pinned, locked_repo("org/m", {"w": b"w"}))).repos
    assert (made.refs, made.yielding_refs) == ({"main": COMMIT}, frozenset())
    with pytest.raises(LockError, match="two different commits"):
        layout(lock_of(pinned, locked_repo("org/m", {"v": b"v"}, commit=OTHER_COMMIT)))


def _repo(files: tuple[LockedFile, ...], **changes: object) -> LockedRepo:
    return LockedRepo(kind="model", repo_id="org/m", revision="main", commit=COMMIT, files=files, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("repos", "said"),
    [
        ((_repo((LockedFile(path="w", size_bytes=1, blob_id="a" * 40),)),), "without sha256"),
        ((locked_repo("org/m", {"w": b"1"}), locked_repo("org/m", {"w": b"2"})), "two different contents"),
        (
            (locked_repo("org/m", {"w": b"1"}), locked_repo("org/m", {"v": b"1"}, commit=OTHER_COMMIT)),
            "two different commits",
        ),
        ((locked_repo("org/m", {"w": b"1", "w/x": b"2"}),), "both a file and a folder"),
        ((locked_repo("org/m", {"w": b"1"}, absent=["w"]),), "both a file and absent"),
        (
            (locked_repo("org/m", {"w": b"1"}, aliases=["x"]), locked_repo("org/n", {"w": b"1"}, aliases=["x"])),
            "made by two entries",
        ),
        ((locked_repo("org/m", {"w": b"1"}, aliases=["org/n"]), locked_repo("org/n", {"w": b"1"})), "folder"),
    ],
)
def test_a_lock_that_contradicts_itself_is_refused(repos: tuple[LockedRepo, ...], said: str) -> None:
    with pytest.raises(LockError, match=said):
        layout(Lock(name="x", manifest_sha256="0" * 64, repos=repos))


def test_one_etag_with_two_contents_is_refused() -> None:
    first = locked_file("a", b"1", lfs=False)
    second = LockedFile(path="b", size_bytes=1, blob_id=first.blob_id, sha256="0" * 64, blake3="0" * 64)
    with pytest.raises(LockError, match="etag"):
        layout(lock_of(_repo((first, second))))


def test_the_cache_root_follows_the_librarys_rule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_hf_home() == tmp_path / ".cache" / "huggingface"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_hf_home() == tmp_path / "xdg" / "huggingface"
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert default_hf_home() == tmp_path / "hf"
    assert default_hf_home(tmp_path / "option") == tmp_path / "option"


def test_a_repo_has_few_aliases_as_each_file_has_a_name_below_each() -> None:
    names = [f"org/old{number:02}" for number in range(17)]
    assert len(layout(lock_of(locked_repo("org/m", {"a": b"a"}, aliases=names[1:]))).repos[0].aliases) == 16
    with pytest.raises(LockError, match="org/m: expected at most 16 aliases, found 17"):
        layout(lock_of(locked_repo("org/m", {"a": b"a"}, aliases=names)))
