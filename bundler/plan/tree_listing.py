"""The list of a commit's files, which huggingface_hub 2 keeps in `trees/` and believes."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bundler.plan.lock import LockedFile


def tree_json(files: Iterable[LockedFile]) -> bytes:
    """Return a `trees/<commit>.json` (format_version 1 of huggingface_hub) that lists `files`."""
    listing: dict[str, dict[str, object]] = {}
    for file in sorted(files, key=lambda f: f.path):
        listing[file.path] = {"size": file.size_bytes, "blob_id": file.blob_id}
        if file.lfs_sha256:
            listing[file.path] |= {"lfs_sha256": file.lfs_sha256, "lfs_size": file.size_bytes}
    return json.dumps({"format_version": 1, "files": listing}, indent=1, ensure_ascii=False).encode()
