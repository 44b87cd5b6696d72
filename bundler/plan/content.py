"""What a lock states about a content: its length and all of its digests."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.files.digest import Algorithm, Digests


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """All that a lock states about one content, collected from all places where the lock lists it.

    Attributes:
        size_bytes: Its length.
        sha256: Its SHA-256; contents with the same one are the same.
        blake3: Its BLAKE3.
        git_sha1: Its git blob id, if a file that is not an LFS file has it; else None.
    """

    size_bytes: int
    sha256: str
    blake3: str
    git_sha1: str | None = None

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The digests to compute to know that bytes are this content."""
        return ("blake3", "sha256", "git_sha1") if self.git_sha1 else ("blake3", "sha256")

    def compare(self, found: Digests) -> str | None:
        """Return how bytes with the digests `found` differ from this content; None if they do not.

        A digest that `found` does not have is not compared.
        """
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
