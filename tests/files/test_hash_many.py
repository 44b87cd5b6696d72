"""bundler.files.hash_many: right whatever happens to the files, or to the child that maps them, meanwhile.

Each test needs a process without other threads, which a worker of pytest-xdist is not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from tests.support.process import run_python

# What goes wrong is told by `sabotage`, code that replaces what the child calls.
HASH = """
    import json, os, signal, sys, threading, time
    from pathlib import Path
    from bundler.files import hash_many

    real, parent, pid_file = hash_many.blake3_mapped_file, os.getpid(), Path(sys.argv[1])

    def mapped(path, *, threads, progress):
        assert os.getpid() != parent, "a mapped file may kill its reader"
        pid_file.write_text(str(os.getpid()))
        return sabotage(path, threads=threads, progress=progress)

    def sabotage(path, **options):
        return real(path, **options)

    {sabotage}

    hash_many.blake3_mapped_file = mapped
    progress = []
    results = [
        (number, str(found) if isinstance(found, OSError) else (found.size_bytes, found.blake3))
        for number, found in hash_many.blake3_files(
            [Path(path) for path in sys.argv[2:]], jobs=2, progress=progress.append
        )
    ]
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        print(json.dumps([dict(results), sum(progress), pid_file.exists()]))
"""

LARGE = (16 << 20) + 1
WINDOWS = (150 << 20) + 1


def sparse(path: Path, size: int) -> Path:
    """Make a file of zeros but for its two ends."""
    with path.open("wb") as stream:
        stream.write(b"begin")
        stream.seek(size - 3)
        stream.write(b"end")
    return path


def digests(
    paths: Sequence[Path], tmp_path: Path, *, sabotage: str = "", mapped: bool = True
) -> tuple[dict[int, Any], int]:
    """Return what `blake3_files` said of each file, and the sum of its progress."""
    done = run_python(HASH.replace("{sabotage}", sabotage.replace("\n", "\n    ")), tmp_path / "pid", *paths)
    assert done.stderr == ""
    results, progress, was_mapped = json.loads(done.stdout)
    assert was_mapped is mapped
    return {int(number): found for number, found in results.items()}, progress


def expected(*paths: Path) -> dict[int, Any]:
    """Return what to say of files, by an independent hash of all bytes at once."""
    return {
        number: [len(content), blake3(content).hexdigest()]
        for number, content in enumerate(path.read_bytes() for path in paths)
    }


def test_files_of_all_sizes_are_hashed(tmp_path: Path) -> None:
    sizes = [5 + 3, LARGE, 100_000, WINDOWS, LARGE - 2, 64 << 20, 128 << 20]
    paths = [sparse(tmp_path / str(size), size) for size in sizes]
    assert digests(paths, tmp_path) == (expected(*paths), sum(sizes))


def test_an_empty_file_and_no_file_at_all(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert digests([empty], tmp_path, mapped=False) == (expected(empty), 0)
    assert digests([], tmp_path, mapped=False) == ({}, 0)


def test_a_file_that_is_not_there_is_told_of_and_the_others_hashed(tmp_path: Path) -> None:
    there = sparse(tmp_path / "there", LARGE)
    found, _ = digests([tmp_path / "absent", there], tmp_path)
    assert "No such file" in found[0]
    assert found[1] == expected(there)[0]


def test_a_file_cut_short_while_it_is_mapped_is_read_as_it_is(tmp_path: Path) -> None:
    cut, whole = sparse(tmp_path / "cut", WINDOWS), sparse(tmp_path / "whole", LARGE)
    sabotage = """
def sabotage(path, *, threads, progress):
    def cut(count):
        progress(count)
        os.truncate(path, 1000)
    return real(path, threads=threads, progress=cut if path.name == "cut" else progress)
"""
    found, progress = digests([cut, whole], tmp_path, sabotage=sabotage)
    assert cut.stat().st_size == 1000
    assert found == expected(cut, whole)
    # The window that was there before is told of; so is all of the other file, once.
    assert progress == (64 << 20) + LARGE


def test_a_file_that_grows_while_it_is_mapped_is_read_to_its_end(tmp_path: Path) -> None:
    path = sparse(tmp_path / "growing", LARGE)
    sabotage = """
def sabotage(path, **options):
    done = real(path, **options)
    with path.open("ab") as stream:
        stream.write(b"more")
    return done
"""
    assert digests([path], tmp_path, sabotage=sabotage) == (expected(path), LARGE + 4)


def test_a_child_that_is_killed_is_made_up_for(tmp_path: Path) -> None:
    paths = [sparse(tmp_path / str(number), LARGE + number) for number in range(3)]
    sabotage = """
def sabotage(path, **options):
    if path.name == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path, **options)
"""
    found, progress = digests(paths, tmp_path, sabotage=sabotage)
    assert (found, progress) == (expected(*paths), 3 * LARGE + 3)


def test_what_cannot_be_mapped_is_read(tmp_path: Path) -> None:
    path = sparse(tmp_path / "file", LARGE)
    sabotage = """
def sabotage(path, **options):
    raise OSError(19, "No such device")  # mmap(2) where the file system cannot map
"""
    assert digests([path], tmp_path, sabotage=sabotage) == (expected(path), LARGE)


def test_it_does_not_matter_that_nobody_waits_for_children_here(tmp_path: Path) -> None:
    path = sparse(tmp_path / "file", LARGE)
    sabotage = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    assert digests([path], tmp_path, sabotage=sabotage) == (expected(path), LARGE)


def test_nothing_is_forked_beside_other_threads(tmp_path: Path) -> None:
    path = sparse(tmp_path / "file", LARGE)
    sabotage = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    assert digests([path], tmp_path, sabotage=sabotage, mapped=False) == (expected(path), LARGE)


def test_where_no_process_is_to_be_had_all_is_read(tmp_path: Path) -> None:
    path = sparse(tmp_path / "file", LARGE)
    sabotage = """
def fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")
os.fork = fork
"""
    assert digests([path], tmp_path, sabotage=sabotage, mapped=False) == (expected(path), LARGE)


def test_whoever_asks_for_no_more_leaves_no_child_behind(tmp_path: Path) -> None:
    paths = [sparse(tmp_path / str(number), WINDOWS) for number in range(8)]
    done = run_python(
        """
        import os, sys
        from pathlib import Path
        from bundler.files.hash_many import blake3_files
        found = blake3_files([Path(path) for path in sys.argv[1:]], jobs=2)
        next(found)
        found.close()
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            print("no child, open:", len(os.listdir("/proc/self/fd")))
        """,
        *paths,
    )
    # The three standard streams, and the folder that is listed.
    assert done.stdout == "no child, open: 4\n"


def test_a_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    # Hashing it all would take longer than `run` waits for its pipes, which the child holds too.
    path = sparse(tmp_path / "file", 4 << 40)
    done = run_python(
        """
        import os, signal, sys
        from pathlib import Path
        from bundler.files.hash_many import blake3_files
        def die(count):
            print(Path("/proc/self/task", str(os.getpid()), "children").read_text(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        next(blake3_files([Path(sys.argv[1])], jobs=2, progress=die))
        """,
        path,
        check=False,
    )
    process = Path("/proc", str(int(done.stdout)), "stat")
    assert not process.exists() or process.read_text().split()[2] == "Z"


def test_many_small_files_are_all_hashed_by_this_thread_or_from_where_it_waited_on_by_others(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / str(number) for number in range(600)]
    for number, path in enumerate(paths):
        path.write_bytes(b"small %d" % number)
    tell = """
real_small, threads = hash_many.blake3_small_file, []
def small(*words):
    threads.append(threading.current_thread() is threading.main_thread())
    return real_small(*words)
hash_many.blake3_small_file = small
import atexit
atexit.register(lambda: Path(sys.argv[1]).with_name("own").write_text(str(sum(threads))))
"""
    waits = "waits = iter(range(0, 10 ** 9, 1000))\nhash_many._count_waits = lambda: next(waits)"
    sizes = sum(path.stat().st_size for path in paths)
    assert digests(paths, tmp_path, mapped=False, sabotage=tell) == (expected(*paths), sizes)
    assert (tmp_path / "own").read_text() == "600"
    assert digests(paths, tmp_path, mapped=False, sabotage=tell + waits) == (expected(*paths), sizes)
    assert (tmp_path / "own").read_text() == "256"
