"""The place in a document that a `make` target writes: two comment lines, and what stands between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.files.atomic import atomic_write

END = "<!-- end -->"


@dataclass(frozen=True)
class Marks:
    """The marks of one target.

    Attributes:
        target: Name of the `make` target that writes between them.
    """

    target: str

    @property
    def begin(self) -> str:
        """The line before the place."""
        return f"<!-- begin: written by `make {self.target}`, do not edit -->"

    def stand_in(self, document: Path) -> bool:
        """Return whether a document has the place."""
        return document.is_file() and self.begin in document.read_text(encoding="utf-8")

    def read(self, document: Path) -> str:
        """Return what stands there.

        Raises:
            ValueError: The document has no such place.
        """
        return self._parts(document)[1].strip()

    def write(self, document: Path, text: str) -> None:
        """Replace what stands there.

        Raises:
            ValueError: The document has no such place.
        """
        before, _, after = self._parts(document)
        atomic_write(document, f"{before}{self.begin}\n{text}\n{END}{after}".encode())

    def _parts(self, document: Path) -> tuple[str, str, str]:
        before, begin, rest = document.read_text(encoding="utf-8").partition(self.begin)
        between, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(
                f"{document}: expected the lines {self.begin!r} and {END!r}; put them where the text belongs"
            )
        return before, between, after
