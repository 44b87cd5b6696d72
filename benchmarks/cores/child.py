"""Packing or installing with a clock at all that has to be done in order, however many threads there are.

    python -m benchmarks.cores.child pack LOCK FOLDER OUT JOBS
    python -m benchmarks.cores.child install BUNDLE HOME JOBS

Prints as JSON the CPU seconds of all threads while chunks are worked on, and of each kind of work in order.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.pack.pack_child import pack_folder
from bundler.files.digest import Hasher
from bundler.files.uncached_file import UncachedFile
from bundler.format import writer
from bundler.format.reader import BundleReader
from bundler.format.reading import chunks
from bundler.home.installation import large_file
from bundler.home.installation.install import install
from bundler.home.installation.unpacking import Unpacking
from bundler.make import pack
from bundler.plan.lock import Lock

SECONDS: dict[str, float] = defaultdict(float)


def timed(
    name: str, call: Callable[..., Any], clock: Callable[[], float] = time.thread_time
) -> Callable[..., Any]:
    """Return `call`, which adds the CPU seconds that it takes to those of `name`."""

    def call_timed(*arguments: Any, **options: Any) -> Any:
        started = clock()
        try:
            return call(*arguments, **options)
        finally:
            SECONDS[name] += clock() - started

    return call_timed


def timed_items(name: str, items: Iterable[Any]) -> Iterator[Any]:
    """Yield `items`, and add the CPU seconds that each takes to come to those of `name`."""
    step = timed(name, iter(items).__next__)
    while True:
        try:
            item = step()
        except StopIteration:
            return
        yield item


class TimedHasher(Hasher):
    """A hasher of one digest with a clock."""

    def __init__(self, algorithms: Any, **options: Any) -> None:
        super().__init__(algorithms, **options)
        self.update = timed(" ".join(algorithms), super().update)  # type: ignore[method-assign]


def _watch() -> None:
    """Put clocks at what is done in order; each is called for a chunk, so that they cost nothing beside it."""
    whole = time.process_time
    # Names that these modules import, and that nobody else is to take from them.
    writing: Any = writer
    reading: Any = chunks
    filing: Any = large_file
    packing: Any = pack
    writing.Hasher = filing.Hasher = TimedHasher
    cut, call_all = writing.cut_into_chunks, reading.call_all
    writing.cut_into_chunks = lambda *arguments: timed_items("turns", cut(*arguments))
    reading.call_all = lambda calls, **options: call_all(timed_items("turns", calls), **options)
    packing.write_bundle = timed("all", packing.write_bundle, whole)
    for kind, name, label, clock in (
        (UncachedFile, "write_all", "writing", time.thread_time),
        (Unpacking, "_take_small", "small files", time.thread_time),
        (BundleReader, "hand_out", "all", whole),
    ):
        setattr(kind, name, timed(label, getattr(kind, name), clock))


def main(arguments: list[str]) -> None:
    """Do what the command line says, and print the seconds."""
    _watch()
    match arguments:
        case ["pack", lock, folder, out, jobs]:
            text = Path(lock).read_text(encoding="utf-8")
            pack_folder(Lock.loads(text, source=lock), Path(folder), Path(out), int(jobs))
        case ["install", bundle, home, jobs]:
            install(Path(bundle), Path(home), jobs=int(jobs))
        case _:
            sys.exit(f"usage: see the beginning of {__file__}")
    sys.stdout.write(json.dumps(SECONDS))


if __name__ == "__main__":
    main(sys.argv[1:])
