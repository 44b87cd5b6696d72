"""Ids are git's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bundler.files.digest import git_blob_sha1
from bundler.plan.git_objects import commit_id, lfs_pointer, tree_ids
from tests.serve.conftest import write_tree

# Names that sort differently as a file and as a folder, which git's order of a tree depends on.
FILES = {
    "a.txt": b"",
    "a/b/c.txt": b"deep",
    "a/b.txt": b"b",
    "a-b": b"between 'a.' and 'a/'",
    "a0": b"after 'a/'",
    "é/ü.txt": "ünïcode".encode(),
    "only/folders/below/file": b"x",
}


def git(*words: str, cwd: Path) -> str:
    return subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def test_trees_have_the_ids_that_git_gives_them(tmp_path: Path) -> None:
    write_tree(tmp_path, FILES)
    git("init", "--quiet", cwd=tmp_path)
    git("add", "--all", cwd=tmp_path)
    root = git("write-tree", cwd=tmp_path)
    listing = git("-c", "core.quotePath=false", "ls-tree", "-r", "-t", root, cwd=tmp_path)
    folders = {}
    for line in listing.splitlines():
        facts, path = line.split("\t")
        if facts.split()[1] == "tree":
            folders[path] = facts.split()[2]
    blobs = {path: git_blob_sha1(content) for path, content in FILES.items()}
    assert tree_ids(blobs) == {"": root, **folders}


def test_a_commit_has_the_id_that_git_gives_it(tmp_path: Path) -> None:
    git("init", "--quiet", cwd=tmp_path)
    blobs = {"config.json": git_blob_sha1(b"{}")}
    (tmp_path / "config.json").write_bytes(b"{}")
    git("add", "--all", cwd=tmp_path)
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in
           {"NAME": "bundle", "EMAIL": "bundle@localhost", "DATE": "@0 +0000"}.items()}  # fmt: skip
    tree = git("write-tree", cwd=tmp_path)
    made = subprocess.run(
        ["git", "commit-tree", tree, "-m", "Files as served"],
        cwd=tmp_path,
        env=who,
        check=True,
        capture_output=True,
        text=True,
    )
    assert commit_id(blobs) == made.stdout.strip()


def test_no_files_make_the_empty_tree() -> None:
    assert tree_ids({}) == {"": "4b825dc642cb6eb9a060e54bf8d69288fbee4904"}


def test_the_order_in_which_files_are_listed_does_not_matter() -> None:
    blobs = {path: git_blob_sha1(content) for path, content in FILES.items()}
    assert commit_id(dict(reversed(blobs.items()))) == commit_id(blobs)


def test_an_lfs_pointer_is_the_text_of_its_specification() -> None:
    # The example of git-lfs docs/spec.md.
    sha256 = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
    assert lfs_pointer(sha256, 12345) == (
        b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
        b"size 12345\n"
    )
