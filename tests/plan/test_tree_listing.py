"""bundler.plan.layout.tree_json: the client's list of files, byte for byte as `json` spells it."""

from __future__ import annotations

import json

import pytest

from bundler.plan.layout import tree_json
from bundler.plan.lock import LockedFile

PLAIN = LockedFile(path="b/config.json", size_bytes=0, blob_id="1" * 40)
LARGE = LockedFile(path="a.bin", size_bytes=1 << 40, blob_id="2" * 40, lfs_sha256="3" * 64)
ODD = LockedFile(path='ü "quoted" \\ 名.txt', size_bytes=7, blob_id="4" * 40)


@pytest.mark.parametrize("files", [[], [PLAIN], [PLAIN, LARGE, ODD]])
def test_it_is_what_json_writes_of_sorted_files(files: list[LockedFile]) -> None:
    listing: dict[str, dict[str, object]] = {}
    for file in sorted(files, key=lambda file: file.path):
        listing[file.path] = {"size": file.size_bytes, "blob_id": file.blob_id}
        if file.lfs_sha256:
            listing[file.path] |= {"lfs_sha256": file.lfs_sha256, "lfs_size": file.size_bytes}
    expected = json.dumps({"format_version": 1, "files": listing}, indent=1, ensure_ascii=False)
    assert tree_json(files) == expected.encode()
