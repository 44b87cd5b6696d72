"""What is read where a bundle turns out to be damaged: the same bundle, with what parity gives in place of the damage.

A pipe is read once, and what came before the damage is needed to rebuild what did not come: where there is parity for
it, it is copied meanwhile into a file without a name in the folder for temporary files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bundler.errors import BundleError, DependencyError, FormatError, UsageError
from bundler.files.space import report_full_disk
from bundler.format.storage.stream_input import Readable
from bundler.format.storage.volume_names import volume_base
from bundler.parity.lay_again import lay_again
from bundler.parity.names import PARITY_SUFFIX, find_parity
from bundler.parity.rebuilt import Rebuilt, open_rebuilt
from bundler.remote.address import Address, Place
from bundler.text.wording import name_some, size

_BLOCK_BYTES = 1 << 20


class Fallback:
    """A bundle, and parity that stands behind it.

    Args:
        source: The bundle: a file, volumes, an address or a pipe.
        parity: Files of parity besides those that are beside it; None for using none at all.

    Attributes:
        source: What is read first.

    Raises:
        UsageError: Parity is named for an address.
    """

    def __init__(self, source: Place | Sequence[Path] | Readable, parity: Sequence[Path] | None) -> None:
        self._parity = list(parity or ())
        self._base, self._places = Path(), list[Path]()
        self._copy: _Copy | None = None
        self.source = source
        if isinstance(source, Address):
            if parity:
                raise UsageError(
                    f"{source}: parity is of files, and this is an address",
                    hint="bring the bundle with `bundle pull`, or as the server's own tools do, and install the file",
                )
        elif isinstance(source, Path | Sequence):
            self._places = [source] if isinstance(source, Path) else list(source)
            self._base = volume_base(self._places[0]) or self._places[0]
            if parity is not None:
                self._parity += find_parity(self._base, {place.absolute().parent for place in self._places})
        elif parity:
            self._base = _name_bundle(parity[0])
            self.source = self._copy = _Copy(source)

    @contextmanager
    def open(
        self,
        error: BundleError,
        *,
        on_total: Callable[[int], None],
        progress: Callable[[int], None],
        on_note: Callable[[str], None],
    ) -> Iterator[Rebuilt]:
        """Rebuild the bundle after `error`, or raise that again where there is no parity of it, or nothing to rebuild.

        Raises:
            BundleError: As of `bundler.parity.rebuilt.open_rebuilt`; `error`.
        """
        if not self._parity:
            raise error
        on_note(f"{error.message}; trying to rebuild it from parity")
        with ExitStack() as opened:
            copy = self._copy.finish() if self._copy else None
            try:
                rebuilt = opened.enter_context(
                    open_rebuilt(
                        self._base,
                        list(dict.fromkeys(self._parity)),
                        places=self._places,
                        copy=copy,
                        on_total=on_total,
                        progress=progress,
                        on_note=on_note,
                    )
                )
            except (FormatError, DependencyError) as problem:
                on_note(f"not rebuilt: {problem.message}")
                raise error from problem
            if not rebuilt.files:
                raise error
            on_note(f"rebuilt from parity: {size(rebuilt.rebuilt_bytes)} of {_list(rebuilt)}")
            yield rebuilt

    def close(self) -> None:
        """Delete the copy of a pipe."""
        if self._copy is not None:
            self._copy.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Copy:
    """A pipe that is copied while it is read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._folder = Path(tempfile.gettempdir())
        # The system deletes it with the last descriptor, whatever becomes of this process.
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read some bytes (see `bundler.format.storage.stream_input.Readable`)."""
        count = self._stream.readinto(buffer)
        view = memoryview(buffer)[: count or 0]
        with self._report_full_disk():
            while view:
                view = view[os.write(self._file.fileno(), view) :]
        return count

    def finish(self) -> int:
        """Copy what was not read; return a descriptor of all that came, where it belongs if that is known."""
        room = memoryview(bytearray(_BLOCK_BYTES))
        while self.readinto(room):
            pass
        with self._report_full_disk():
            if laid := lay_again(self._file.fileno()):
                self._file.close()
                self._file = laid
        return self._file.fileno()

    def _report_full_disk(self) -> AbstractContextManager[object]:
        return report_full_disk(
            self._folder,
            f"{self._folder}: no room for a copy of the pipe, from which parity rebuilds what did not come",
            hint="point TMPDIR at a folder with room for the bundle twice, or leave --parity away",
        )

    def close(self) -> None:
        self._file.close()


def _name_bundle(parity: Path) -> Path:
    """Return the name of the bundle that a file of parity is beside."""
    whole = (volume_base(parity) or parity).name
    return parity.with_name(whole.removesuffix(PARITY_SUFFIX))


def _list(rebuilt: Rebuilt) -> str:
    names = [f"{path}, which was missing" if path in rebuilt.missing else str(path) for path in rebuilt.files]
    return name_some(names, shown=10, total=len(names))
