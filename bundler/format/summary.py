"""Describe what a bundle holds; only its index and its lock are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.format.base_records import BaseRecord
from bundler.format.codec.codecs import find_codec
from bundler.format.reader import BundleReader
from bundler.plan.lock import Lock


@dataclass(frozen=True, kw_only=True)
class BundleSummary:
    """What a bundle holds.

    Attributes:
        lock: The lock inside.
        digest: The bundle's digest.
        whole_digest: The digest that an installation has; of a delta that of the whole bundle.
        size_bytes: Its length.
        tar_bytes: Length of the tar stream that it decodes to.
        volumes: Its files, if it is in volumes; else empty.
        chunks: Codec name -> number of chunks stored with it.
        base: The base of a delta; None for a whole bundle.
        omitted_files: How many contents a delta leaves out because its base has them.
    """

    lock: Lock
    digest: str
    whole_digest: str
    size_bytes: int
    tar_bytes: int
    volumes: tuple[Path, ...]
    chunks: Mapping[str, int]
    base: BaseRecord | None
    omitted_files: int

    @property
    def content_bytes(self) -> int:
        """Sizes of the repos' files together."""
        return sum(repo.size_bytes for repo in self.lock.repos)

    @property
    def ratio(self) -> float:
        """Length of the bundle over that of its tar stream."""
        return self.size_bytes / max(self.tar_bytes, 1)


def summarize(reader: BundleReader) -> BundleSummary:
    """Describe an open bundle.

    Raises:
        LockError: The lock inside is malformed.
    """
    index = reader.index
    return BundleSummary(
        lock=reader.lock,
        digest=reader.digest,
        whole_digest=reader.whole_digest,
        size_bytes=reader.size_bytes,
        tar_bytes=index.tar_bytes,
        volumes=tuple(reader.volumes),
        chunks=Counter(find_codec(chunk.codec).name for chunk in index.chunks),
        base=index.base,
        omitted_files=len(reader.omitted or ()),
    )
