"""Git's names for things: the ids of trees and commits, and the text of an LFS pointer.

A served folder is not a git repository, and a file of another host is in none. Yet clients and locks want a commit, and
folders and LFS files have git ids on the Hub. They are computed as git would (`gitformat-loose`, `git-mktree`, the
git-lfs pointer specification), so equal files give equal commits on every machine, whatever their dates, owners and
permissions.
"""

from __future__ import annotations

from collections.abc import Mapping

from bundler.files.digest import git_blob_sha1, git_object_sha1

# The one date and author there is: a folder does not know when and by whom its content was made.
COMMIT_DATE = "1970-01-01T00:00:00.000Z"
COMMIT_TITLE = "Files as served"
_COMMIT_BY = "bundle <bundle@localhost> 0 +0000"


def lfs_pointer(sha256: str, size_bytes: int) -> bytes:
    """Return the file that stands for an LFS file in git.

    Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md, "The Pointer".
    """
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n".encode()


def lfs_pointer_id(sha256: str, size_bytes: int) -> str:
    """Return the git blob id of an LFS file: that of its pointer."""
    return git_blob_sha1(lfs_pointer(sha256, size_bytes))


def tree_ids(blobs: Mapping[str, str]) -> dict[str, str]:
    """Return the git tree id of every folder.

    Args:
        blobs: Blob id by POSIX path. All count as plain files: the executable bit is a matter of the disk they
            happen to lie on.

    Returns:
        Tree id by folder path; the root is ``""``.
    """
    # Per folder: (name to sort by, mode and name, id) of each entry.
    rows: dict[str, list[tuple[str, str, str]]] = {"": []}
    for path, blob_id in blobs.items():
        folder, _, name = path.rpartition("/")
        while folder not in rows:
            rows[folder] = []
            folder = folder.rpartition("/")[0]
        rows[path.rpartition("/")[0]].append((name, f"100644 {name}", blob_id))
    ids: dict[str, str] = {}
    # Deepest first, so that a folder's id is known before its parent needs it.
    for folder in sorted(rows, key=lambda path: path.count("/") + bool(path), reverse=True):
        entries = sorted(rows[folder], key=lambda row: row[0].encode())
        ids[folder] = git_object_sha1(
            "tree", b"".join(entry.encode() + b"\0" + bytes.fromhex(id_) for _, entry, id_ in entries)
        )
        if folder:
            parent, _, name = folder.rpartition("/")
            # Git sorts a folder as if its name ended in a slash.
            rows[parent].append((f"{name}/", f"40000 {name}", ids[folder]))
    return ids


def commit_id(blobs: Mapping[str, str]) -> str:
    """Return the id of a commit without parents that holds `blobs` (see `tree_ids`)."""
    tree = tree_ids(blobs)[""]
    text = f"tree {tree}\nauthor {_COMMIT_BY}\ncommitter {_COMMIT_BY}\n\n{COMMIT_TITLE}\n"
    return git_object_sha1("commit", text.encode())
