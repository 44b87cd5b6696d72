"""An object of a server without ranges, brought into a file without a name: for readers that begin at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from bundler.errors import ChangedError, NetworkError, SpaceError
from bundler.files.space import check_room, report_full_disk
from bundler.remote.object import Body, RemoteObject, Take
from bundler.remote.waiting import note
from bundler.text.wording import size

_BLOCK_BYTES = 1 << 20
_TRIES = 4

Result = TypeVar("Result")


class WholeObject:
    """A copy of an object that is gone when it is closed, or when the process dies (see `RemoteObject`).

    Args:
        source: The object; its server sends all of it at once. Closed with this.

    Raises:
        ChangedError: It became longer.
        NetworkError: It broke off again and again.
        SpaceError: The folder for temporary files has no room for it.
    """

    has_ranges = True

    def __init__(self, source: RemoteObject) -> None:
        self.label = source.label
        self.content_digest, self.bundle_digest = source.content_digest, source.bundle_digest
        self._source = source
        folder = Path(tempfile.gettempdir())
        hint = "point TMPDIR at a folder with more room, or install it: that takes no copy"
        if source.size_bytes is not None:
            check_room({folder: source.size_bytes}, hint=hint)
        # Of what does not say its length, and may have no end, half of the room at most: others need some, too.
        self._most_bytes = shutil.disk_usage(folder).free // 2 if source.size_bytes is None else source.size_bytes
        # The system deletes it with the last descriptor, whatever becomes of this process.
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        try:
            with report_full_disk(
                folder,
                f"{folder}: no room for {self.label}, whose server sends no ranges",
                hint=hint,
            ):
                self.size_bytes: int | None = try_again(self._copy)
        except BaseException:
            self._file.close()
            raise

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` (see `RemoteObject`)."""
        done = 0
        while done < len(target):
            count = os.preadv(self._file.fileno(), [target[done:]], start + done)
            if not count:
                raise NetworkError(f"{self.label}: ends at byte {start + done}")
            done += count

    @property
    def version(self) -> str | None:
        """What tells the object from others (see `RemoteObject`)."""
        return self._source.version

    def read_blocks(self, start: int, stop: int, take: Take, halt: threading.Event) -> None:
        """Hand over the bytes from `start` to `stop` (see `RemoteObject`)."""
        room = memoryview(bytearray(_BLOCK_BYTES))
        while start < stop and not halt.is_set():
            block = room[: stop - start]
            self.read_into(start, block)
            take(block)
            start += len(block)

    def stream(self) -> Body:
        """Open the object itself again."""
        return self._source.stream()

    def close(self) -> None:
        """Delete the copy, and close all connections."""
        self._file.close()
        self._source.close()

    def _copy(self) -> int:
        room = memoryview(bytearray(_BLOCK_BYTES))
        length = 0
        self._file.seek(0)
        self._file.truncate()
        with self._source.stream() as body:
            while count := body.readinto(room):
                length += count
                if length > self._most_bytes and self._source.size_bytes is not None:
                    raise ChangedError(
                        f"{self.label}: it was replaced while it was read: it had {self._most_bytes:,} bytes, and has "
                        "more now",
                        hint="run the same command again",
                    )
                if length > self._most_bytes:
                    raise SpaceError(
                        f"{self.label}: its server sends no ranges and does not say how long it is; more than "
                        f"{size(self._most_bytes)} came, half of the room for a copy",
                        hint="point TMPDIR at a folder with more room, or install it: that takes no copy",
                    )
                self._file.write(room[:count])
        self._file.flush()
        return length


def try_again(bring: Callable[[], Result]) -> Result:
    """Return what `bring` returns, which begins from the start each time: thrice more where the connection breaks."""
    for _ in range(_TRIES - 1):
        try:
            return bring()
        except NetworkError as error:
            note(f"{error.message}; it is asked for from the start again")
    return bring()
