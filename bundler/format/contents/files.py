"""Verified files that differences are taken from while a bundle is unpacked."""

from __future__ import annotations

import os
from collections.abc import Mapping

from bundler.errors import FormatError
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
