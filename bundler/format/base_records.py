"""What the index of a bundle says of content that is not in it as a whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class BaseRecord:
    """What a delta records about its base.

    Attributes:
        name: The base's name.
        digest: The base's bundle digest; None if the delta was made from a lock only.
        omitted_bytes: Length of the list of omitted contents, the second tar member.
        omitted_sha256: Its SHA-256, hex.
        whole: Digest of the bundle that is whole: what an installation of this delta is. None in version 1, where
            an installation has the digest of the delta.
    """

    name: str
    digest: str | None
    omitted_bytes: int
    omitted_sha256: str
    whole: str | None = None

    def header(self) -> dict[str, object]:
        """Return what stands in the header of an index."""
        return {key: value for key, value in asdict(self).items() if key != "whole" or value is not None}


@dataclass(frozen=True)
class BasesRecord:
    """What the index says of the list of bases (`bundler.format.contents.bases`).

    Attributes:
        list_bytes: Its length.
        list_sha256: Its SHA-256, hex.
    """

    list_bytes: int
    list_sha256: str
