"""The JSON of the Hub's API: repos, files, folders, refs and commits, key by key as clients read them.

What a folder cannot know is given its plainest value (no likes, no downloads, the first day of 1970), since some
clients fail on a key that is not there.
"""

from __future__ import annotations

from typing import Any

from bundler.plan.git_objects import COMMIT_DATE, COMMIT_TITLE, lfs_pointer
from bundler.serve.source import Refs, RepoKey, ServedFile, Snapshot


def repo_payload(key: RepoKey, *, is_gated: bool) -> dict[str, Any]:
    """Return what is said of a repo without looking at its files."""
    return {
        "_id": str(key),
        "id": key.repo_id,
        "author": key.repo_id.split("/")[0] if "/" in key.repo_id else None,
        "private": False,
        "gated": "manual" if is_gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "createdAt": COMMIT_DATE,
        "lastModified": COMMIT_DATE,
    }


def commit_payload(snapshot: Snapshot, *, with_blobs: bool) -> dict[str, Any]:
    """Return what a repo's info says of one commit, with the sizes and ids of its files if wanted."""
    files = snapshot.files.values()
    return {
        "sha": snapshot.commit,
        "siblings": [_sibling(file) if with_blobs else {"rfilename": file.path} for file in files],
        "usedStorage": sum(file.size_bytes for file in files),
    }


def entry_payload(snapshot: Snapshot, path: str, *, expand: bool) -> dict[str, Any]:
    """Return a file or folder of a commit, as in the listing of a tree.

    Args:
        snapshot: The commit.
        path: Of a file or folder that it has.
        expand: Say in which commit it was last changed.
    """
    payload: dict[str, Any]
    if path in snapshot.folders:
        payload = {"type": "directory", "path": path, "size": 0, "oid": snapshot.folders[path]}
    else:
        file = snapshot.files[path]
        payload = {"type": "file", "path": path, "size": file.size_bytes, "oid": file.blob_id}
        if file.lfs_sha256:
            payload["lfs"] = {"oid": file.lfs_sha256, **_lfs(file)}
    if expand:
        payload["lastCommit"] = _commit(snapshot.commit)
    return payload


def refs_payload(refs: Refs) -> dict[str, Any]:
    """Return branches and tags; there are no pull requests and no converted branches."""
    return {
        "branches": [_ref(name, "heads", commit) for name, commit in refs.branches.items()],
        "tags": [_ref(name, "tags", commit) for name, commit in refs.tags.items()],
        "converts": [],
        "pullRequests": [],
    }


def history_payload(commit: str) -> list[dict[str, Any]]:
    """Return the history of a commit: itself."""
    return [{**_commit(commit), "message": "", "authors": [{"user": "bundle"}]}]


def _sibling(file: ServedFile) -> dict[str, Any]:
    payload: dict[str, Any] = {"rfilename": file.path, "size": file.size_bytes, "blobId": file.blob_id}
    if file.lfs_sha256:
        # Here, unlike in a tree, the key is `sha256`.
        payload["lfs"] = {"sha256": file.lfs_sha256, **_lfs(file)}
    return payload


def _lfs(file: ServedFile) -> dict[str, int]:
    assert file.lfs_sha256
    return {"size": file.size_bytes, "pointerSize": len(lfs_pointer(file.lfs_sha256, file.size_bytes))}


def _commit(commit: str) -> dict[str, Any]:
    return {"id": commit, "title": COMMIT_TITLE, "date": COMMIT_DATE}


def _ref(name: str, folder: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": commit}
