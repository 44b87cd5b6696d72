"""A large file that several threads write at once and hash in order, under a temporary name until it is whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bundler.files.atomic import atomic_file
from bundler.files.digest import Digests, Hasher
from bundler.files.parallel import Lane, count_down
from bundler.plan.content import Content


class LargeFile:
    """See the module's text. Each digest has a lane of its own: two threads may hash one file.

    Args:
        path: Its final name.
        content: What it must be.
        check: Called with its digests when all is written and hashed; what it raises keeps the file from its name.
        on_named: Called when it has its name.
        keep_cached: Leave it in the page cache, since it is read soon.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        content: Content,
        check: Callable[[Digests], None],
        on_named: Callable[[], None],
        *,
        keep_cached: bool,
    ) -> None:
        self._size_bytes = content.size_bytes
        self._check = check
        self._on_named = on_named
        self._hashers = [Hasher((name,), size_bytes=content.size_bytes) for name in content.algorithms]
        self._lanes = [Lane() for _ in self._hashers]
        self._end_lane = count_down(len(self._lanes), self._finish)
        self._open = ExitStack()
        self._file = self._open.enter_context(atomic_file(path, sync_dir=False, keep_cached=keep_cached))

    def write(self, offset: int, part: memoryview, done: Callable[[], None]) -> None:
        """Write and hash a part, on any thread.

        Args:
            offset: Where it begins in the file.
            part: Its bytes, at least one.
            done: Called when they are no longer needed, perhaps by another thread. Of the last part that is after the
                file has got its name.

        Raises:
            OSError: It cannot be written.
            Exception: What `check` raised.
        """
        self._file.write_at(part, offset)
        end = count_down(len(self._lanes), done)
        for lane, hasher in zip(self._lanes, self._hashers, strict=True):
            lane.put(offset, offset + len(part), partial(self._hash, hasher, offset, part, end))

    def discard(self) -> None:
        """Delete it, unless it is whole."""
        error = OSError("not all of it came")
        self._open.__exit__(type(error), error, None)

    def _hash(self, hasher: Hasher, offset: int, part: memoryview, end: Callable[[], None]) -> None:
        hasher.update(part)
        if offset + len(part) == self._size_bytes:
            self._end_lane()
        end()

    def _finish(self) -> None:
        found: dict[str, str] = {}
        for hasher in self._hashers:
            found |= {name: value for name, value in asdict(hasher.result()).items() if isinstance(value, str)}
        self._check(Digests(self._size_bytes, **found))
        self._open.close()
        self._on_named()
