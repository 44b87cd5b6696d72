"""Look at many names of a few folders: each through its folder, which is open, since looking up a path takes longer."""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Self


class NameReader:
    """Reads status and link of one name after the other; names of one folder should come one after the other."""

    def __init__(self) -> None:
        self._folder = ""
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def read(self, place: str) -> tuple[os.stat_result, str | None]:
        """Return the status of a name itself, and what it says if it is a link.

        Args:
            place: A path. The folder is looked up again only when it is another one than that of the last name.

        Raises:
            OSError: There is no such name, or it may not be looked at; the error has the whole path.
        """
        folder, _, name = place.rpartition("/")
        try:
            if folder != self._folder or self._descriptor < 0:
                self._close()
                self._descriptor = os.open(
                    folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
                )
                self._folder = folder
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                return status, None
            return status, os.readlink(name, dir_fd=self._descriptor)
        except OSError as error:
            error.filename = place
            raise

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
