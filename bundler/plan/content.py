"""What a lock claims of one content: all of its digests at once."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.files.digest import Algorithm, Digests


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """All that a lock claims of one content, wherever it stands: who shares it under one digest knows the others.

    Attributes:
        size_bytes: Its length.
        sha256: Its SHA-256, by which equal contents are one.
        blake3: Its BLAKE3.
        git_sha1: Git's blob id of it, where a file that is no LFS file has it.
    """

    size_bytes: int
    sha256: str
    blake3: str
    git_sha1: str | None = None

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The digests that must be taken to know that bytes are this content."""
        return ("blake3", "sha256", "git_sha1") if self.git_sha1 else ("blake3", "sha256")

    def compare(self, found: Digests) -> str | None:
        """Return what is wrong with bytes of these digests, of whichever were taken; None if nothing is."""
        if found.size_bytes != self.size_bytes:
            return f"expected {self.size_bytes} bytes, found {found.size_bytes}"
        for name, expected, value in (
            ("blake3", self.blake3, found.blake3),
            ("sha256", self.sha256, found.sha256),
            ("git blob id", self.git_sha1, found.git_sha1),
        ):
            if None not in (expected, value) and value != expected:
                return f"expected {name} {expected}, found {value}"
        return None
