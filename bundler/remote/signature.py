"""What is found at an address in the place of a bundle's signature."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FoundSignature:
    """Bytes that may be the signature of a bundle.

    Attributes:
        content: The bytes; of too many the first one after the most that was asked for comes along.
        source: What they are called in messages.
        bundle_digest: The digest of the bundle that they stand beside; None where the address does not tell.
    """

    content: bytes
    source: str
    bundle_digest: str | None = None
