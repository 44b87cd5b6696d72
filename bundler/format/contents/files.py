"""Verified files that differences are taken from while a bundle is unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from bundler.errors import FormatError
from bundler.files.digest import hash_file
from bundler.format.contents.bases import TAMPERED_HINT


class FileContents:
    """Files by their content (see `bundler.format.contents.bases.Contents`). Threads may read while one adds.

    Args:
        paths: SHA-256 -> a verified file with that content.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)

    def __contains__(self, sha256: str) -> bool:
        """Tell whether there is a file with this content."""
        return sha256 in self._paths

    def add(self, sha256: str, path: str) -> None:
        """Have a file that is whole and verified."""
        self._paths[sha256] = path

    def find_changed(self, contents: Iterable[str]) -> str | None:
        """Return the path of a file that is no longer what it was verified to be, among those with these contents."""
        for sha256 in contents:
            path = self._paths.get(sha256)
            try:
                if path is not None and hash_file(Path(path), "sha256").sha256 != sha256:
                    return path
            except OSError:
                return path
        return None

    def read_into(self, sha256: str, offset: int, room: memoryview) -> None:
        """Fill `room` with the content's bytes from `offset`.

        Raises:
            FormatError: The content ends before.
            OSError: The file cannot be read.
        """
        path = self._paths[sha256]
        # Past what the system call takes, no content has anything.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            done = 0
            while done < len(room):
                count = os.preadv(descriptor, [room[done:]], offset + done) if offset + len(room) < 1 << 63 else 0
                if count == 0:
                    raise FormatError(
                        f"it asks for bytes {offset} to {offset + len(room)} of base {sha256}, which ends before",
                        hint=TAMPERED_HINT,
                    )
                done += count
        finally:
            os.close(descriptor)
