"""Writing that keeps the disk busy: no byte is lost, and no failure of the disk either."""

from __future__ import annotations

import errno
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bundler.files import uncached_file
from bundler.files.atomic import atomic_file, atomic_writer
from bundler.files.uncached_file import LargeWriter, UncachedFile, fits_in_page_cache


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record the size and the flags of what is written past the page cache."""
    writes: list[tuple[int, int]] = []
    real = os.pwritev

    def record(descriptor: int, buffers: list[memoryview], offset: int, flags: int) -> int:
        writes.append((sum(map(len, buffers)), flags))
        return real(descriptor, buffers, offset, flags)

    monkeypatch.setattr(os, "pwritev", record)
    return writes


@pytest.fixture
def only_cached(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Refuse as older kernels do; record how often somebody tried."""
    tried: list[int] = []

    def refuse(descriptor: int, *arguments: object) -> int:
        tried.append(descriptor)
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "pwritev", refuse)
    return tried


def write_parts(path: Path, part_bytes: int, count: int) -> bytes:
    parts = [os.urandom(part_bytes) for _ in range(count)]
    with atomic_writer(path) as stream:
        for part in parts:
            stream.write(part)
        assert stream.tell() == part_bytes * count
    return b"".join(parts)


@pytest.mark.parametrize("part_bytes", [70_001, 3_000_001, 9_000_001])
def test_every_byte_of_a_large_file_arrives_in_large_writes_past_the_page_cache(
    tmp_path: Path, uncached: list[tuple[int, int]], part_bytes: int
) -> None:
    count = 20_000_000 // part_bytes
    assert write_parts(tmp_path / "x", part_bytes, count) == (tmp_path / "x").read_bytes()
    assert {flags for _, flags in uncached} == {0x80}  # RWF_DONTCACHE of linux/fs.h
    assert all(size >= uncached_file.LARGE_WRITE_BYTES for size, _ in uncached)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_small_file_stays_in_the_page_cache(tmp_path: Path, uncached: list[tuple[int, int]]) -> None:
    assert write_parts(tmp_path / "x", 500_000, 2) == (tmp_path / "x").read_bytes()
    assert uncached == []


def test_small_and_large_parts_are_one_write(tmp_path: Path, uncached: list[tuple[int, int]]) -> None:
    parts = [os.urandom(size) for size in (56, 700_000, 2_000_000, 56, 1_200_000, 9)]
    with atomic_writer(tmp_path / "x") as stream:
        stream.writelines(parts)
        assert stream.tell() == sum(map(len, parts))
    assert (tmp_path / "x").read_bytes() == b"".join(parts)
    assert [size for size, _ in uncached] == [2_700_056, 1_200_056]


def test_what_the_kernel_takes_only_in_part_is_written_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [os.urandom(size) for size in (700_000, 2_000_000, 5)]
    for name in ("pwritev", "writev"):
        real = getattr(os, name)

        def little(descriptor: int, views: list[memoryview], *more: int, real: Any = real) -> int:
            return int(real(descriptor, [views[0][:300_001]], *more))

        monkeypatch.setattr(os, name, little)
    with atomic_writer(tmp_path / "x") as stream:
        stream.writelines(parts)
    assert (tmp_path / "x").read_bytes() == b"".join(parts)


def test_many_parts_are_all_written(tmp_path: Path) -> None:
    parts = [os.urandom(1 + number % 3) for number in range(3000)]
    with atomic_file(tmp_path / "x") as file:
        file.write_all(parts)
    assert (tmp_path / "x").read_bytes() == b"".join(parts)


def test_what_could_not_be_written_is_not_forgotten() -> None:
    with UncachedFile(os.open("/dev/full", os.O_WRONLY)) as file:
        writer = LargeWriter(file)
        writer.write(b"x" * 100)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                writer.flush()
        with pytest.raises(OSError, match="No space left"):
            writer.write(bytes(2 << 20))
        with pytest.raises(OSError, match="No space left"):
            writer.flush()


def test_where_that_is_refused_it_is_asked_once_and_syncs_begin_before_the_end(
    tmp_path: Path, only_cached: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncached_file, "STEP_BYTES", 100_000)
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(descriptor) or real(descriptor))
    assert write_parts(tmp_path / "x", 3_000_001, 6) == (tmp_path / "x").read_bytes()
    assert synced
    assert len(only_cached) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("more", [0, 5])
def test_what_the_disk_refuses_meanwhile_is_not_taken_for_written(
    tmp_path: Path, only_cached: list[int], monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(uncached_file, "STEP_BYTES", 100_000)
    (tmp_path / "x").write_bytes(b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(OSError) as caught, atomic_writer(tmp_path / "x") as stream:
        for _ in range(1 + more):
            stream.write(bytes(5_000_000))
    assert caught.value.errno == errno.EIO
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_is_read_soon_stays_in_the_page_cache_and_is_synced(
    tmp_path: Path, uncached: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr("os.fsync", lambda number: (synced.append(os.fstat(number).st_size), real(number)))
    content = os.urandom(3_000_001)
    with atomic_writer(tmp_path / "x", keep_cached=True, sync_dir=False) as stream:
        stream.write(content)
    assert (tmp_path / "x").read_bytes() == content
    assert uncached == []
    assert synced == [len(content)]


@pytest.mark.parametrize("keep_cached", [False, True])
def test_parts_that_threads_write_at_their_places_are_all_there(
    tmp_path: Path, uncached: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, keep_cached: bool
) -> None:
    monkeypatch.setattr(uncached_file, "STEP_BYTES", 100_000)
    parts = [os.urandom(1_500_001) for _ in range(8)]
    starts = list(itertools.accumulate(map(len, parts), initial=0))
    with (
        atomic_file(tmp_path / "x", keep_cached=keep_cached) as file,
        ThreadPoolExecutor(4) as pool,
    ):
        for start, part in reversed(list(zip(starts, parts, strict=False))):
            pool.submit(file.write_at, memoryview(part), start)
        pool.shutdown(wait=True)
    assert (tmp_path / "x").read_bytes() == b"".join(parts)
    assert (uncached == []) == keep_cached
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def limited(system: Path, *, available_kib: int, groups: dict[str, tuple[str, int]]) -> Path:
    """A system with so much memory, and control groups with a limit and a use each; the process is in the last."""
    (system / "proc/self").mkdir(parents=True)
    (system / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:   {available_kib} kB\n")
    for path, (limit, used) in groups.items():
        (system / "sys/fs/cgroup" / path).mkdir(parents=True)
        (system / "sys/fs/cgroup" / path / "memory.max").write_text(f"{limit}\n")
        (system / "sys/fs/cgroup" / path / "memory.current").write_text(f"{used}\n")
    (system / "proc/self/cgroup").write_text("".join(f"0::/{path}\n" for path in list(groups)[-1:]))
    return system


def test_half_of_the_memory_that_is_to_be_had_may_be_filled(tmp_path: Path) -> None:
    system = limited(tmp_path, available_kib=100, groups={})
    assert fits_in_page_cache(50 * 1024, system=system)
    assert not fits_in_page_cache(50 * 1024 + 1, system=system)


def test_a_limit_of_a_control_group_or_of_one_above_it_counts(tmp_path: Path) -> None:
    groups = {"job": ("3000", 1000), "job/step": ("max", 500)}
    system = limited(tmp_path, available_kib=100, groups=groups)
    assert fits_in_page_cache(1000, system=system)
    assert not fits_in_page_cache(1001, system=system)


def test_where_nothing_tells_how_much_memory_there_is_none_is_counted_on(tmp_path: Path) -> None:
    assert not fits_in_page_cache(1, system=tmp_path)
