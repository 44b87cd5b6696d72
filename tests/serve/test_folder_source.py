"""Folders of plain repos: what is a repo, what is served of it, and when its commit changes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from bundler.errors import FormatError
from bundler.files.digest import Algorithm, Digests, hash_file
from bundler.serve.source import (
    ContentChangedError,
    FileNotServedError,
    RepoKey,
    RepoNotServedError,
    RevisionNotServedError,
)
from bundler.serve.sources import open_source
from bundler.serve.sources.folder import FolderSource
from tests.serve.conftest import write_tree
from tests.support.messages import Told

MODEL = RepoKey("model", "org/model")


def served_paths(folder: Path, key: RepoKey = MODEL) -> list[str]:
    return list(FolderSource(folder).snapshot(key, "main").files)


def read(source: FolderSource, path: str, revision: str = "main") -> bytes:
    content = source.open(MODEL, source.snapshot(MODEL, revision), path)
    try:
        return content.read_at(0, 1 << 20)
    finally:
        content.close()


def test_namespaces_hold_repos_and_single_names_hold_files(repos: Path) -> None:
    assert [str(key) for key in FolderSource(repos).repos()] == [
        "datasets/org/corpus",
        "datasets/squad",
        "kernels/org/relu",
        "legacy",
        "org/model",
        "org/secret",
        "spaces/org/metric",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "legacy/onnx",
        "org",
        "org/model/onnx",
        "datasets/org",
        "../repos",
        "_branches/model-dev",
        "",
        "a/b/c",
        "ORG/model",
    ],
)
def test_nothing_else_is_a_repo(repos: Path, name: str) -> None:
    source = FolderSource(repos)
    for repo_type in ("model", "dataset"):
        with pytest.raises(RepoNotServedError):
            source.canonical(RepoKey(repo_type, name))


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".cache/huggingface/download/x.metadata",
        ".env",
        ".bundle-tmp-1-ab",
        "token",
        "stored_tokens",
        "sub/token",
        "sub/.hidden",
        "back\\slash",
        "line\nbreak",
    ],
)
def test_secrets_and_hidden_files_are_not_served(tmp_path: Path, path: str) -> None:
    write_tree(tmp_path / "org/model", {"config.json": b"{}", ".gitattributes": b"", path: b"x"})
    assert served_paths(tmp_path) == [".gitattributes", "config.json"]


def test_links_are_followed_inside_the_served_folder_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "repos"
    write_tree(tmp_path, {"outside.txt": b"x", "outside/secret.txt": b"x"})
    write_tree(root, {"org/model/config.json": b"{}", "org/other/shared.bin": b"shared", "other/token": b"hf_x"})
    model = root / "org/model"
    (model / "inside.bin").symlink_to("../other/shared.bin")
    (model / "outside.txt").symlink_to("../../../outside.txt")
    (model / "absolute.txt").symlink_to(tmp_path / "outside.txt")
    (model / "folder").symlink_to(tmp_path / "outside")
    (model / "innocent.txt").symlink_to(root / "other/token")
    (model / "itself").symlink_to(model)
    (model / "broken").symlink_to("nowhere")
    os.mkfifo(model / "pipe")
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "org" / "linked").symlink_to(tmp_path / "outside")
    with caplog.at_level(logging.WARNING):
        assert served_paths(root) == ["config.json", "inside.bin"]
    for name in ("outside.txt", "absolute.txt", "folder", "innocent.txt", "itself", "broken", "pipe"):
        assert str(model / name) in caplog.text
    source = FolderSource(root)
    assert read(source, "inside.bin") == b"shared"
    assert [key.repo_id for key in source.repos()] == ["org/model", "org/other"]
    with pytest.raises(RepoNotServedError):
        source.canonical(RepoKey("model", "org/linked"))


def test_the_same_content_has_the_same_commit_elsewhere(repos: Path, tmp_path: Path) -> None:
    files = {path.relative_to(repos / "org/model").as_posix(): path.read_bytes()
             for path in (repos / "org/model").rglob("*") if path.is_file()}  # fmt: skip
    copy = write_tree(tmp_path / "copy/other/name", dict(reversed(files.items())))
    (copy / "config.json").chmod(0o755)
    copied = FolderSource(tmp_path / "copy").snapshot(RepoKey("model", "other/name"), "main")
    assert copied == FolderSource(repos).snapshot(MODEL, "main")


def test_a_changed_file_makes_a_new_commit_and_the_old_one_is_gone(repos: Path) -> None:
    source = FolderSource(repos)
    old = source.snapshot(MODEL, "main")
    (repos / "org/model/config.json").write_bytes(b'{"changed": true}')
    with pytest.raises(ContentChangedError):
        source.open(MODEL, old, "config.json")
    new = source.snapshot(MODEL, "main")
    assert new.commit != old.commit
    assert source.snapshot(MODEL, new.commit) is new
    assert read(source, "config.json") == b'{"changed": true}'
    with pytest.raises(RevisionNotServedError):
        source.snapshot(MODEL, old.commit)


def test_a_file_swapped_for_a_link_is_not_followed(repos: Path) -> None:
    source = FolderSource(repos)
    snapshot = source.snapshot(MODEL, "main")
    config = repos / "org/model/config.json"
    config.unlink()
    config.symlink_to("/etc/hostname")
    with pytest.raises(ContentChangedError):
        source.open(MODEL, snapshot, "config.json")


def test_branches_tags_and_commits_name_snapshots(repos: Path) -> None:
    source = FolderSource(repos)
    main, dev = source.snapshot(MODEL, "main"), source.snapshot(MODEL, "feature/dev")
    assert (list(dev.files), read(source, "config.json", "feature/dev")) == (
        ["config.json"],
        b'{"model_type": "gpt2", "dev": true}',
    )
    refs = source.refs(MODEL)
    assert (refs.branches, refs.tags) == ({"main": main.commit, "feature/dev": dev.commit}, {"v1.0": main.commit})
    for name in ("v1.0", "refs/heads/main", "refs/tags/v1.0", main.commit):
        assert source.snapshot(MODEL, name) == main
    assert FolderSource(repos).snapshot(MODEL, dev.commit) == dev
    for name in ("v2", "", "dev", main.commit[:10], "0" * 40):
        with pytest.raises(RevisionNotServedError):
            source.snapshot(MODEL, name)


def test_a_file_that_the_snapshot_lacks_cannot_be_opened(repos: Path) -> None:
    source = FolderSource(repos)
    with pytest.raises(FileNotServedError):
        source.open(MODEL, source.snapshot(MODEL, "feature/dev"), "README.md")


def test_nothing_is_hashed_before_a_repo_is_asked_for(repos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def recording(path: Path, *algorithms: Algorithm) -> Digests:
        hashed.append(path.name)
        return hash_file(path, *algorithms)

    monkeypatch.setattr("bundler.serve.sources.hashes.hash_file", recording)
    # What was written a moment ago is hashed twice, and the kernel lets nobody set back when that was.
    monkeypatch.setattr("bundler.serve.sources.hashes._YOUNG_NS", 0)
    source = FolderSource(repos)
    source.repos()
    assert hashed == []
    source.snapshot(RepoKey("model", "legacy"), "main")
    assert sorted(hashed) == ["config.json", "model.onnx"]
    source.snapshot(RepoKey("model", "legacy"), "main")
    assert len(hashed) == 2


def test_what_is_no_folder_of_repos_is_refused_with_a_reason(tmp_path: Path, told: Told) -> None:
    write_tree(tmp_path / "one-repo", {"config.json": b"{}"})
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.tar.zst").write_bytes(b"not a bundle")
    for place, what in (
        ("one-repo", "one repo in place of a folder of repos"),
        ("empty", "an empty folder"),
        ("file.tar.zst", "a file that is no bundle"),
        ("missing", "nothing at all"),
    ):
        with pytest.raises(FormatError) as caught:
            open_source(tmp_path / place)
        assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
        told("serve", what, caught.value, place=tmp_path / place)


def test_folders_without_any_file_of_a_repo_are_refused_with_what_was_expected(tmp_path: Path, told: Told) -> None:
    write_tree(
        tmp_path, {"apt/apt.conf.d/01autoremove": b"x", "ssl/certs/a.pem": b"x", "ssl/certs/sub/b.pem": b"x"}
    )
    (tmp_path / "passwd").write_text("x")
    with pytest.raises(FormatError) as caught:
        FolderSource(tmp_path)
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    told("serve", "folders without any file of a repo", caught.value, place=tmp_path)


@pytest.mark.parametrize("sign", ["ssl/certs/README.md", "apt/apt.conf.d/data/train-0.parquet", "hub.yaml"])
def test_one_sign_of_a_repo_or_the_settings_are_enough(tmp_path: Path, sign: str) -> None:
    write_tree(tmp_path, {"apt/apt.conf.d/01autoremove": b"x", "ssl/certs/a.pem": b"x", sign: b"version: 1"})
    assert [str(key) for key in FolderSource(tmp_path).repos()] == ["apt/apt.conf.d", "ssl/certs"]


def test_a_file_that_was_changed_in_place_is_served_as_it_is_now_whatever_its_time_says(repos: Path) -> None:
    path = repos / "legacy" / "config.json"
    source, key = FolderSource(repos), RepoKey("model", "legacy")
    before = source.snapshot(key, "main")
    status, old = path.stat(), path.read_bytes()
    opened = source.open(key, before, "config.json")
    with path.open("r+b") as stream:
        stream.write(old[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = source.snapshot(key, "main")
    assert after.files["config.json"].blob_id != before.files["config.json"].blob_id
    # Nothing of the new content comes under the old name, to a client that is reading.
    assert opened.read_at(0, len(old)) == b""
    opened.close()


def test_the_settings_are_read_again_when_they_change_and_kept_while_they_are_malformed(repos: Path) -> None:
    source, settings = FolderSource(repos), repos / "hub.yaml"
    new, legacy = RepoKey("model", "new-name"), RepoKey("model", "legacy")
    text = "version: 1\nrenames: {new-name: legacy}\n"
    for content in (text, text + "wrong: 3\n"):
        settings.write_text(content)
        assert source.canonical(new) == legacy
    settings.unlink()
    with pytest.raises(RepoNotServedError):
        source.canonical(new)


@pytest.mark.parametrize("name", ["id_ed25519", "credentials", "netrc"])
def test_a_name_that_secrets_have_is_not_served_nor_a_link_to_one(tmp_path: Path, name: str) -> None:
    repo = tmp_path / "org" / "m"
    repo.mkdir(parents=True)
    (repo / "config.json").write_text("{}")
    (repo / name).write_text("secret")
    (repo / "harmless.txt").symlink_to(name)
    (repo / "hidden.txt").symlink_to(".env")
    (repo / ".env").write_text("secret")
    assert set(FolderSource(tmp_path).snapshot(RepoKey("model", "org/m"), "main").files) == {"config.json"}
