"""Verify a bundle file: chunks against the index, content and tar stream against the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, nullcontext
from functools import cache

from bundler.errors import FormatError, MissingBaseError
from bundler.files.digest import Hasher
from bundler.files.parallel import in_order
from bundler.format.codec.buffers import Budget
from bundler.format.codec.codecs import Buffer
from bundler.format.reader import BundleReader
from bundler.format.tar import END_OF_ARCHIVE, Member, Members, TarPlan
from bundler.plan.layout import Blob
from bundler.verify.report import Fault, Progress, Report, no_progress, repo_names


def verify_bundle(reader: BundleReader, *, jobs: int, progress: Progress = no_progress) -> Report:
    """Check every byte of a bundle file: chunks against the index, content and tar stream against the lock.

    Of content stored as a difference from what is neither in it nor in `reader.elsewhere`, only the stored bytes are.

    Raises:
        FormatError: The file is so damaged that its content cannot be known.
        LockError: The lock inside is malformed.
    """
    plan = reader.plan
    names = repo_names(plan.layout)
    faults: set[Fault] = set()
    undecoded: set[str] = set()
    budget = Budget()
    decoded = _list_decoding_calls(reader, faults, undecoded, plan.members, names, progress, budget)
    # With one job no second thread hashes.
    hashing = nullcontext() if jobs == 1 else ThreadPoolExecutor(2, thread_name_prefix="hash")
    # Chunks are decoded ahead on threads, and compared here in stream order.
    with (
        hashing as pool,
        reader.expect(range(len(reader.index.chunks))),
        closing(in_order(decoded, jobs=jobs, name="verify", has_room=budget.has_room)) as chunks,
    ):
        stream = _StreamComparer(plan, names, faults, pool)
        for raw in chunks:
            stream.feed(raw)
            budget.give()
            del raw  # Not kept while the next is decoded.
    return Report(
        subject=str(reader.path),
        digest=reader.digest,
        files=len(plan.first_of) - len(undecoded),
        size_bytes=plan.size_bytes - sum(plan.first_of[sha256].size_bytes for sha256 in undecoded),
        undecoded_files=len(undecoded),
        faults=tuple(sorted(faults)),
    )


def _list_decoding_calls(
    reader: BundleReader,
    faults: set[Fault],
    undecoded: set[str],
    members: Members,
    names: dict[str, str],
    progress: Progress,
    budget: Budget,
) -> Iterator[Callable[[], int | Buffer]]:
    """Yield one call per chunk; it returns the chunk's bytes, or its length when it is damaged or cannot be decoded."""

    @cache
    def list_members() -> tuple[Member, ...]:
        return tuple(members)

    work = reader.new_work()

    def decode(number: int) -> int | Buffer:
        record = reader.index.chunks[number]
        try:
            return reader.chunk(number, None, work)
        except MissingBaseError:
            start = reader.chunk_start(number)
            held = _find_members(list_members(), start, start + record.raw_bytes)
            undecoded.update(member.blob.sha256 for member in held if member.blob)
            return record.raw_bytes
        except FormatError as error:
            start = reader.chunk_start(number)
            held = _find_members(list_members(), start, start + record.raw_bytes)
            detail = error.message.removeprefix(f"{reader.path}: ")
            for member in held:
                what = names[member.blob.path] + ": " if member.blob else ""
                faults.add(Fault("changed", member.path, f"{what}{detail}"))
            return record.raw_bytes
        finally:
            progress(record.raw_bytes)

    for number, record in enumerate(reader.index.chunks):
        room, stored = reader.base_costs.of(number)
        # Planes take as much again.
        budget.take(room + 2 * record.raw_bytes, stored + record.stored_bytes)
        yield lambda number=number: decode(number)  # type: ignore[misc]


def _find_members(members: tuple[Member, ...], start: int, stop: int) -> list[Member]:
    return [m for m in members if m.offset - m.header_bytes < stop and m.offset + m.size_bytes + m.padding > start]


class _StreamComparer:
    """Compares a tar stream, fed in order, with the plan that follows from the lock."""

    def __init__(self, plan: TarPlan, names: dict[str, str], faults: set[Fault], pool: Executor | None) -> None:
        self._pool = pool
        self._contents = plan.layout.contents
        self._expected = self._runs(plan.members)
        self._names = names
        self._faults = faults
        self._current: tuple[Member | None, bytes | Blob] = next(self._expected)
        self._done = 0
        self._damaged = False
        self._hasher: Hasher | None = None

    @staticmethod
    def _runs(members: Members) -> Iterator[tuple[Member | None, bytes | Blob]]:
        for member in members:
            yield member, member.header
            if member.size_bytes or member.blob:
                yield member, member.blob or member.content
            if member.padding:
                yield member, bytes(member.padding)
        yield None, END_OF_ARCHIVE

    def feed(self, chunk: int | Buffer) -> None:
        """Compare the next chunk of the stream; an int is the length of a chunk that could not be read."""
        size = chunk if isinstance(chunk, int) else len(chunk)
        position = 0
        while position < size:
            _, expected = self._current
            length = expected.size_bytes if isinstance(expected, Blob) else len(expected)
            count = min(length - self._done, size - position)
            if isinstance(chunk, int):
                self._damaged = True
            else:
                self._compare(memoryview(chunk)[position : position + count])
            self._done += count
            position += count
            if self._done == length:
                self._finish()

    def _compare(self, part: memoryview) -> None:
        member, expected = self._current
        if isinstance(expected, Blob):
            self._hasher = self._hasher or self._make_hasher(expected)
            self._hasher.update(part)
        elif part != expected[self._done : self._done + len(part)]:
            path = member.path if member else "end of archive"
            self._faults.add(Fault("changed", path, "the tar stream is not the one that the lock asks for"))

    def _make_hasher(self, blob: Blob) -> Hasher:
        return Hasher(self._contents[blob.sha256].algorithms, size_bytes=blob.size_bytes, pool=self._pool)

    def _finish(self) -> None:
        _, expected = self._current
        if isinstance(expected, Blob) and not self._damaged:
            found = (self._hasher or self._make_hasher(expected)).result()
            if problem := self._contents[expected.sha256].compare(found):
                self._faults.add(Fault("changed", expected.path, f"{self._names[expected.path]}: {problem}"))
        self._current = next(self._expected, (None, b""))
        self._done, self._damaged, self._hasher = 0, False, None
