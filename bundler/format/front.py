"""Parse what stands at the front of a bundle's tar stream, and compare it with the index: the lock, and the lists."""

from __future__ import annotations

from bundler.errors import FormatError
from bundler.files.digest import sha256_bytes
from bundler.format.base_records import BaseRecord, BasesRecord
from bundler.format.contents.bases import Bases, parse_bases
from bundler.format.index import Index
from bundler.format.source import Span
from bundler.format.tar import BLOCK, TarPlan, omitted_text, tar_plan
from bundler.plan.lock import Lock
from bundler.remote.address import Place


def parse_lock(text: bytes, index: Index, path: Place) -> Lock:
    """Parse the lock of a bundle, and compare it with the index.

    Args:
        text: The lock.
        index: The bundle's index.
        path: The bundle, for messages.

    Raises:
        FormatError: It is damaged, or not the lock that the index names.
        LockError: It is malformed.
    """
    if (found := sha256_bytes(text)) != index.lock_sha256:
        raise FormatError(f"{path}: lock inside has sha256 {found}, its index says {index.lock_sha256}")
    try:
        lock = Lock.loads(text.decode(), source=f"{path}: lock inside")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: lock inside is not UTF-8: {error}") from error
    if lock.name != index.name or lock.encoded != text:
        raise FormatError(f"{path}: lock inside is not in canonical form, or of another bundle")
    return lock


def parse_omitted(text: bytes, record: BaseRecord, path: Place) -> frozenset[str]:
    """Parse the list of the contents that a delta leaves out.

    Raises:
        FormatError: It is damaged, or not the list that the index names.
    """
    omitted = frozenset(text.decode("ascii", "replace").split())
    if sha256_bytes(text) != record.omitted_sha256 or omitted_text(omitted) != text:
        raise FormatError(f"{path}: list of omitted contents is not the one that its index names")
    return omitted


def parse_listed_bases(text: bytes, record: BasesRecord, path: Place) -> Bases:
    """Parse the list of bases.

    Raises:
        FormatError: It is damaged, or not the list that the index names.
    """
    if sha256_bytes(text) != record.list_sha256:
        raise FormatError(f"{path}: list of bases is not the one that its index names")
    try:
        return parse_bases(text)
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}") from error


def plan_stream(lock: Lock, omitted: frozenset[str] | None, bases: Bases, index: Index, path: Place) -> TarPlan:
    """Return what the tar stream must be according to the lock.

    Raises:
        FormatError: The stream has another length, or a content another base than it may have.
    """
    try:
        plan = tar_plan(lock, omitted, bases)
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", hint=error.hint) from error
    if plan.size_bytes != index.tar_bytes:
        raise FormatError(
            f"{path}: the lock inside asks for a tar stream of {plan.size_bytes} bytes, the index holds "
            f"{index.tar_bytes}"
        )
    return plan


def front_spans(index: Index) -> list[Span]:
    """Return where lock and lists stand in the tar stream: each has one block before it."""
    spans, position = [], 0
    for size in index.front_bytes():
        spans.append((position + BLOCK, position + BLOCK + size))
        position += BLOCK + size + -size % BLOCK
    return spans
