"""Hand out one file of a bundle, or one tensor of a file, from wherever the bundle is: verified, and little else read.

Rule book:

* each chunk is compared with the index before it is decoded; a whole file also with its digest in the lock, at its end;
* of a tensor only the file's header and its own bytes are read, in chunks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bundler.errors import FormatError, IntegrityError, NotInstalledError
from bundler.files.digest import Hasher
from bundler.format.codec.codecs import Buffer
from bundler.format.reader import BundleReader
from bundler.plan.layout import Blob, RepoLayout
from bundler.text.wording import close_matches

# As the safetensors library caps it.
_MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Extract:
    """Bytes of a blob.

    Attributes:
        blob: The blob.
        start: The first byte.
        stop: The byte after the last.
    """

    blob: Blob
    start: int
    stop: int


def find_extract(reader: BundleReader, repo: str, path: str) -> Extract:
    """Find what ``REPO FILE[:TENSOR]`` names in a bundle.

    Args:
        reader: The bundle.
        repo: Id or alias of a repo.
        path: A file of it; or a file in the safetensors format, a colon, and the name of a tensor.

    Raises:
        NotInstalledError: There is none; what is near is named.
        FormatError: The file of a tensor is not in the safetensors format; or a delta leaves the file to its base.
    """
    found = _find_repo(reader, repo)
    files = {file.repo_path: file.blob for layout in found for file in layout.snapshots}
    name, colon, tensor = path, "", ""
    if path not in files:
        # A tensor's name may have a colon, a file's name hardly.
        name, colon, tensor = path.partition(":")
    blob = files.get(name)
    if blob is None:
        raise NotInstalledError(
            f"{reader.label}: {repo} has no file {name!r} in it", hint=_suggest(name, files, "its files")
        )
    if reader.omitted is not None and blob.sha256 in reader.omitted:
        raise FormatError(
            f"{reader.label}: is a delta, and leaves {name} to its base", hint="name the base, or install both"
        )
    if not colon:
        return Extract(blob, 0, blob.size_bytes)
    return _find_tensor(reader, blob, name, tensor)


def read_extract(reader: BundleReader, extract: Extract, *, jobs: int) -> Iterator[memoryview]:
    """Yield the bytes of an extract in order; each piece is good until the next is asked for.

    Raises:
        DamagedError: A chunk is damaged.
        IntegrityError: A whole file is not what the lock names; its bytes were yielded by then.
    """
    offset = reader.member_of(extract.blob).offset
    first, last = offset + extract.start, offset + extract.stop
    blob = extract.blob
    is_whole = (extract.start, extract.stop) == (0, blob.size_bytes)
    content = reader.plan.layout.contents[blob.sha256]
    hasher = Hasher(content.algorithms, size_bytes=blob.size_bytes) if is_whole else None
    for start, raw in reader.runs([(first, last)], jobs=jobs):
        part = _cut(raw, max(first - start, 0), last - start)
        if hasher is not None:
            hasher.update(part)
        yield part
    if hasher is not None and (problem := content.compare(hasher.result())):
        raise IntegrityError(f"{reader.label}: {blob.path}: {problem}", hint="what was written is not to be used")


def _cut(raw: Buffer, start: int, stop: int) -> memoryview:
    return memoryview(raw)[start:stop]


def _find_repo(reader: BundleReader, name: str) -> list[RepoLayout]:
    repos = reader.plan.layout.repos
    found = [repo for repo in repos if name in (repo.repo_id, *repo.aliases)]
    if not found:
        known = {each for repo in repos for each in (repo.repo_id, *repo.aliases)}
        raise NotInstalledError(
            f"{reader.label}: bundle {reader.name} has no repo {name!r}", hint=_suggest(name, known, "it has")
        )
    return found


def _find_tensor(reader: BundleReader, blob: Blob, name: str, tensor: str) -> Extract:
    """Find a tensor by the file's header (safetensors, "Format")."""
    with reader.open_blob(blob) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= min(_MOST_HEADER_BYTES, blob.size_bytes - 8):
            raise FormatError(f"{reader.label}: {name} is not in the safetensors format, so it has no tensors")
        try:
            header: Any = json.loads(stream.read(length))
            tensors = {key: value["data_offsets"] for key, value in header.items() if key != "__metadata__"}
            if tensor not in tensors:
                raise NotInstalledError(
                    f"{reader.label}: {name} has no tensor {tensor!r}", hint=_suggest(tensor, tensors, "it has")
                )
            begin, end = tensors[tensor]
            start, stop = 8 + length + begin, 8 + length + end
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"{reader.label}: the header of {name} is malformed") from error
    if not (8 + length <= start <= stop <= blob.size_bytes):
        raise FormatError(f"{reader.label}: {name} puts {tensor!r} outside its bytes")
    return Extract(blob, start, stop)


def _suggest(name: str, known: Any, what: str) -> str:
    close = close_matches(name, known, at_most=1)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = sorted(known)
    return f"{what}: {', '.join(shown[:10])}{' and more' if len(shown) > 10 else ''}"
