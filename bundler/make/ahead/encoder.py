"""The process that encodes ahead, `python -m bundler.make.ahead.encoder JOB`; `bundler.make.ahead.ahead` starts it.

Files come over standard input, a line of JSON for each; it ends with that. Frames go to one descriptor, and a line of
JSON for each file that is ready to another.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bundler.files.digest import Hasher
from bundler.files.parallel import available_cores
from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.codecs import CodecChoice
from bundler.format.cut import choose_runs, cut_large_blob
from bundler.format.writer import Encoded, buffer_bytes, encode_chunk
from bundler.make.store import Store, StoredBlob
from bundler.offline.launch.parent_death import die_with_parent
from bundler.plan.layout import Blob

_MOST_THREADS = 4
# Who downloads, and what is proven, goes first.
_NICENESS = 10


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an encoder is told at its start.

    Attributes:
        store: Folder of the store.
        codec: As for packing.
        level: As for packing.
        needed_bytes: Room that the rest of the fetch takes, which must stay free.
        most_load: Load average above which no core has nothing to do.
        frames: Descriptor of the file that gets the frames.
        results: Descriptor of the file that gets what is ready.
    """

    store: str
    codec: CodecChoice
    level: int
    needed_bytes: int
    most_load: float
    frames: int
    results: int

    def dumps(self) -> str:
        """Return it as `main` takes it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class ReadyChunk:
    """A chunk that is encoded.

    Attributes:
        offset: Where it begins in its file.
        codec: Number of its codec.
        raw_bytes: Length before.
        stored_bytes: Length of its frames.
        blake3: Of the frames, in hex.
        start: Where they begin in the file of frames.
    """

    offset: int
    codec: int
    raw_bytes: int
    stored_bytes: int
    blake3: str
    start: int


class Encoder:
    """Encodes one file after the other.

    Args:
        job: What it was told.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._store = Store(Path(job.store), make=False)
        self._end = 0

    def encode_all(self, files: Iterable[StoredBlob]) -> None:
        """Encode files as long as there is room and a core that has nothing to do; whatever goes wrong ends it.

        Packing will meet it again, whatever it is, and say so; or the disk or the memory is full, and others need the
        rest.
        """
        with contextlib.suppress(Exception):
            threads = max(1, min(_MOST_THREADS, available_cores() - 1))
            buffers = BufferPool(buffer_bytes())
            with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
                for stored in files:
                    if os.getloadavg()[0] <= self._job.most_load and self._has_room(stored.size_bytes):
                        self._encode(stored, buffers, pool, threads)

    def _has_room(self, size_bytes: int) -> bool:
        return shutil.disk_usage(self._store.root).free > self._job.needed_bytes + size_bytes

    def _encode(self, stored: StoredBlob, buffers: BufferPool, pool: ThreadPoolExecutor, threads: int) -> None:
        path = self._store.path(stored.etag)
        blob = Blob(
            path=stored.etag,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            blake3=stored.blake3,
            etag=stored.etag,
        )
        hasher = Hasher(("blake3",), size_bytes=stored.size_bytes)
        ready: list[ReadyChunk] = []
        waiting: deque[Future[Encoded]] = deque()

        def take_first() -> None:
            done = waiting.popleft().result()
            assert done.raw is not None, "nothing was ready here"
            hasher.update(done.raw)
            ready.append(self._keep(done))
            buffers.give(done.buffer)

        for chunk in cut_large_blob(blob, choose_runs(self._job.codec, lambda _: path)):
            waiting.append(pool.submit(encode_chunk, chunk, lambda _: path, self._job.level, buffers))
            if len(waiting) > threads:
                take_first()
        while waiting:
            take_first()
        if hasher.result().blake3 == stored.blake3:
            line = json.dumps({"blake3": stored.blake3, "chunks": [asdict(chunk) for chunk in ready]}) + "\n"
            _write_all(self._job.results, [line.encode()])

    def _keep(self, done: Encoded) -> ReadyChunk:
        start = self._end
        _write_all(self._job.frames, done.frames)
        record = done.record
        self._end += record.stored_bytes
        offset = done.chunk.pieces[0].offset
        return ReadyChunk(offset, record.codec, record.raw_bytes, record.stored_bytes, record.blake3.hex(), start)


def _write_all(descriptor: int, parts: Sequence[bytes | bytearray | memoryview]) -> None:
    for part in parts:
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def main() -> None:
    """Encode what comes over standard input."""
    die_with_parent()
    os.nice(_NICENESS)
    Encoder(Job(**json.loads(sys.argv[1]))).encode_all(StoredBlob(**json.loads(line)) for line in sys.stdin)


if __name__ == "__main__":
    main()
