"""The tar stream that a bundle decodes to, as a pure function of a lock (FORMAT.md, "The tar stream").

Headers are POSIX.1-1988 ustar, with a pax extended header (POSIX.1-2001) only if a name is long or not ASCII, or a file
has 8 GiB or more. We write the headers ourselves, because they decide a bundle's offsets: a library that writes them
differently in a new release would change the format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from bundler.format.contents.bases import Bases, Differences, bases_text, check_bases
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.layout import Blob, Layout, layout
from bundler.plan.lock import Lock
from bundler.plan.names import snapshot_link_target
from bundler.text.pieces import encode_pieces

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)
_USTAR_NAME_BYTES = 100
# The size field of ustar has eleven octal digits.
_USTAR_MAX_SIZE = (1 << 33) - 1

_REGULAR, _HARD_LINK, _SYMLINK, _PAX = b"0", b"1", b"2", b"x"


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the tar stream.

    Attributes:
        path: Path below HF_HOME.
        typeflag: The type byte in its header.
        target: Target of a link; else empty.
        offset: Offset of its content in the stream.
        size_bytes: Length of its content; 0 for links.
        blob: The blob that is its content, or None.
        content: Its content, if that follows from the lock; else empty.
    """

    path: str
    typeflag: bytes
    target: str
    offset: int
    size_bytes: int
    blob: Blob | None
    content: bytes = b""

    @property
    def header(self) -> bytes:
        """Its header blocks, pax blocks included.

        Computed on each use: an installation needs few, and the headers of 100,000 files take a quarter of a gigabyte.
        """
        return _header(self.path, self.typeflag, self.size_bytes, self.target)

    @property
    def header_bytes(self) -> int:
        """Length of `header`."""
        return _header_bytes(self.path, self.size_bytes, self.target)

    @property
    def padding(self) -> int:
        """Zero bytes after the content, up to the next block."""
        return -self.size_bytes % BLOCK


@dataclass(frozen=True)
class Members:
    """All members in stream order: lock, blobs, snapshot links, listings, refs, aliases, checksums.

    They are made anew each time that they are gone through: of 100,000 files they would take 80 MB, and an installation
    needs few of them.

    Attributes:
        lock: The lock of the stream.
        layout: Its layout.
        omitted: Contents (sha256) that a delta leaves out; None for a whole bundle.
        bases: Contents (sha256) that are stored as differences -> what from.
    """

    lock: Lock
    layout: Layout
    omitted: frozenset[str] | None
    bases: Bases = field(default_factory=dict)

    def __iter__(self) -> Iterator[Member]:
        """Iterate over the members."""
        paths: dict[str, str] = {}
        position = 0
        for path, typeflag, blob, data, target in _entries(self.lock, self.layout, self.omitted, self.bases):
            if blob is not None and self.omitted and blob.sha256 in self.omitted:
                continue
            if blob is not None and (first := paths.setdefault(blob.sha256, path)) is not path:
                typeflag, target, blob = _HARD_LINK, first, None
            size = blob.size_bytes if blob else len(data)
            start = position + _header_bytes(path, size, target)
            member = Member(path, typeflag, target, start, size, blob, data)
            yield member
            position = start + size + member.padding


@dataclass(frozen=True)
class TarPlan:
    """The whole stream.

    Attributes:
        members: All members in stream order.
        front: What a reader needs first: the lock and, where there is one, the lists of omitted contents and of bases.
        size_bytes: Length of the stream, end-of-archive blocks included.
        first_of: content (sha256) -> the member that holds it; further blobs of that content are hard links.
        layout: The cache layout that the stream unpacks to.
        omitted: Contents (sha256) that a delta leaves out because its base has them; None for a whole bundle.
        bases: Contents (sha256) that are stored as differences -> what from.
    """

    members: Members
    front: list[Member]
    size_bytes: int
    first_of: dict[str, Member]
    layout: Layout
    omitted: frozenset[str] | None = None
    bases: Bases = field(default_factory=dict)

    def forget_members(self) -> None:
        """Give back the memory of what only reading needs: where each content is, and the text of the lock.

        Of 100,000 files they take 40 MB.
        """
        self.first_of.clear()
        self.front.clear()

    @cached_property
    def differences(self) -> Differences:
        """What its contents are differences from, by their offsets."""
        return Differences(
            (member.offset, member.offset + member.size_bytes, self.bases[sha256])
            for sha256, member in self.first_of.items()
            if sha256 in self.bases
        )


def lock_path(name: str) -> str:
    """Return the path of the lock in the tar stream."""
    return f"{BUNDLES_FOLDER}/{name}.lock"


def omitted_path(name: str) -> str:
    """Return the path of a delta's list of omitted contents in the tar stream."""
    return f"{BUNDLES_FOLDER}/{name}.omitted"


def bases_path(name: str) -> str:
    """Return the path of the list of bases in the tar stream."""
    return f"{BUNDLES_FOLDER}/{name}.bases"


def omitted_text(omitted: Iterable[str]) -> bytes:
    """Return the list of omitted contents: one SHA-256 per line, sorted."""
    return encode_pieces(f"{sha256}\n" for sha256 in sorted(omitted))


def checksums_path(name: str) -> str:
    """Return the path of the list for `sha256sum -c` in the tar stream."""
    return f"{BUNDLES_FOLDER}/{name}.sha256"


def checksums(content: Layout) -> bytes:
    """Return the list that `sha256sum -c` checks when run in HF_HOME."""
    return encode_pieces(f"{blob.sha256}  {blob.path}\n" for blob in content.blobs)


def tar_plan(lock: Lock, omitted: frozenset[str] | None = None, bases: Bases | None = None) -> TarPlan:
    """Lay out the tar stream of a complete lock.

    Args:
        lock: The lock.
        omitted: For a delta, the contents (sha256) to leave out; None for a whole bundle.
        bases: Contents (sha256) that are stored as differences -> what from; none by default.

    Raises:
        FormatError: `bases` breaks a rule (`bundler.format.contents.bases.check_bases`).
        LockError: The lock is incomplete or contradicts itself (`bundler.plan.layout.layout`).
    """
    content = layout(lock)
    members = Members(lock, content, omitted, bases or {})
    first_of: dict[str, Member] = {}
    front: list[Member] = []
    end = 0
    for number, member in enumerate(members):
        if number < 1 + (omitted is not None) + bool(bases):
            front.append(member)
        if member.blob is not None:
            first_of[member.blob.sha256] = member
        end = member.offset + member.size_bytes + member.padding
    check_bases(
        bases or {}, {sha256: member.size_bytes for sha256, member in first_of.items()}, omitted is not None
    )
    return TarPlan(members, front, end + len(END_OF_ARCHIVE), first_of, content, omitted, bases or {})


def _entries(
    lock: Lock, content: Layout, omitted: frozenset[str] | None, bases: Bases
) -> Iterator[tuple[str, bytes, Blob | None, bytes, str]]:
    yield lock_path(lock.name), _REGULAR, None, lock.encoded, ""
    if omitted is not None:
        yield omitted_path(lock.name), _REGULAR, None, omitted_text(omitted), ""
    if bases:
        yield bases_path(lock.name), _REGULAR, None, bases_text(bases), ""
    for blob in content.blobs:
        yield blob.path, _REGULAR, blob, b"", ""
    for repo in content.repos:
        for file in repo.snapshots:
            yield file.path, _SYMLINK, None, b"", snapshot_link_target(file.path, file.blob.path)
        for text in (*repo.tree_texts(), *repo.markers, *repo.ref_texts()):
            yield text.path, _REGULAR, None, text.content, ""
        for path, target in repo.alias_links():
            yield path, _SYMLINK, None, b"", target
    yield checksums_path(lock.name), _REGULAR, None, checksums(content), ""


def _header(path: str, typeflag: bytes, size: int, target: str) -> bytes:
    header = b""
    if data := _pax_data(path, size, target):
        header = _ustar("././@PaxHeader", _PAX, len(data), "") + data + bytes(-len(data) % BLOCK)
    return header + _ustar(path, typeflag, 0 if size > _USTAR_MAX_SIZE else size, target)


def _header_bytes(path: str, size: int, target: str) -> int:
    # Of 100,000 files nearly all are like this.
    if len(path) <= _USTAR_NAME_BYTES >= len(target) and size <= _USTAR_MAX_SIZE and (path + target).isascii():
        return BLOCK
    data = _pax_data(path, size, target)
    return BLOCK + (BLOCK + len(data) + -len(data) % BLOCK if data else 0)


def _pax_data(path: str, size: int, target: str) -> bytes:
    """Return the pax records for values that do not fit into a ustar header, sorted by key."""
    data = b""
    if _needs_pax(target):
        data += _pax_record("linkpath", target)
    if _needs_pax(path):
        data += _pax_record("path", path)
    if size > _USTAR_MAX_SIZE:
        data += _pax_record("size", str(size))
    return data


def _needs_pax(text: str) -> bool:
    return not text.isascii() or len(text) > _USTAR_NAME_BYTES


def _pax_record(key: str, value: str) -> bytes:
    r"""Return one ``LENGTH KEY=VALUE\n`` record, where LENGTH counts its own digits."""
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _ustar(path: str, typeflag: bytes, size: int, target: str) -> bytes:
    """Return one 512-byte header with owner root, mode 0644 and time 0, so that equal locks give equal bytes."""
    mode = 0o777 if typeflag == _SYMLINK else 0o644
    fields = [
        _text(path, _USTAR_NAME_BYTES),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % 0,
        b" " * 8,
        typeflag,
        _text(target, _USTAR_NAME_BYTES),
        b"ustar\x0000",
        bytes(32 + 32),
        b"%07o\0%07o\0" % (0, 0),
        bytes(155 + 12),
    ]
    block = b"".join(fields)
    assert len(block) == BLOCK
    # The checksum is computed with its own field filled with spaces (POSIX.1-1988, ustar interchange format).
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _text(value: str, width: int) -> bytes:
    return value.encode("ascii", "replace")[:width].ljust(width, b"\0")
