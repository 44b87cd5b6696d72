"""Fuzzes what this program reads again that it wrote itself, where others can come to it, or a disk is damaged.

In a home: stamps, notes of launches, the journal of an installation, the log. In a store: notes behind partial
downloads. Of a proof: what the process wrote that ran code of others.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from bundler.errors import BundleError
from bundler.files.digest import sha256_bytes
from bundler.files.owner import Owner
from bundler.home.common.journal import found_path, read_found, read_move, read_unfinished
from bundler.home.launches import LAUNCHES_FOLDER, find_launches
from bundler.home.log import LOG_NAME, read_log
from bundler.home.stamps.stamps import DamagedStampsError, Stamps
from bundler.home.trust.release import check_release, release_path
from bundler.make.proof.findings import parse_findings
from bundler.make.staging.ranges import PAGE_BYTES, Ranges, read_note, write_note
from tests.fuzz.targets import accepts

_ENTRIES = 3


def fuzz_left(data: bytes, folder: Path) -> None:
    """The first byte says what it is."""
    mode, rest = data[:1], data[1:]
    match mode:
        case b"s":
            _read_stamps(rest, folder)
        case b"p":
            with contextlib.suppress(ValueError):
                assert all(0 <= one.index < _ENTRIES for one in parse_findings(rest, _ENTRIES))
        case b"n":
            _read_ranges(rest)
        case b"r":
            release_path(folder, "tiny").parent.mkdir(parents=True, exist_ok=True)
            release_path(folder, "tiny").write_bytes(rest)
            accepts(lambda: check_release(folder, "tiny", None))
        case _:
            _read_home(rest, folder)


def _read_stamps(body: bytes, folder: Path) -> None:
    try:
        stamps = Stamps.loads(body + b"\n" + sha256_bytes(body).encode() + b"\n")
    except DamagedStampsError:
        return
    with contextlib.suppress(BundleError):
        stamps.find_unchanged(folder)


def _read_ranges(data: bytes) -> None:
    size, note = int.from_bytes(data[:8], "little"), data[8:].ljust(PAGE_BYTES, b"\0")
    ranges = read_note(note, size)
    there, missing = ranges.size_bytes, sum(stop - start for start, stop in ranges.missing(size))
    assert there + missing == size
    assert list(read_note(write_note(ranges), size)) == list(ranges)


def _read_home(data: bytes, folder: Path) -> None:
    """Journal, log and notes of launches: whatever is in them, a home can be worked in."""
    home = folder / "home"
    launch = home / LAUNCHES_FOLDER / f"{Owner.current().mark}-00000000.json"
    found = found_path(home, "tiny")
    journal = [found, found.with_suffix(".unfinished"), found.with_suffix(".moving")]
    for path in (launch, *journal, found.parent / LOG_NAME):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert len(find_launches(home)) == 1, "who may read is not taken for gone"
    read_log(home)
    for read in (read_found, read_unfinished, read_move):
        accepts(lambda read=read: read(home, "tiny"))


def left_seeds() -> list[bytes]:
    """Return one of each."""
    content = {
        "paths": ["hub/x"],
        "inode": [1],
        "size_bytes": [2],
        "modified_ns": [3],
        "changed_ns": [4],
        "blake3": "b" * 64,
    }
    stamps = {
        "stamps_version": 1,
        "name": "tiny",
        "digest": f"sha256:{'a' * 64}",
        "lock_blake3": "c" * 64,
        "hashed_at": 1.5,
        "files": 1,
        "size_bytes": 2,
        "content": content,
        "names": {"hub": [1, 2, 3, 4]},
        "kinds": [[0, 0, 0o100644]],
    }
    finding = {"index": 1, "proven": ["loads"], "failure": None, "damaged": False, "missing": ["a"], "line": "x"}
    launch = {"host": "h", "pid": 7, "generations": [["tiny", f"sha256:{'a' * 64}"]]}
    found = {"looked": ["hub/a"], "paths": ["hub/b"], "refs": {"hub/c": "main"}}
    log = {"at": "2027-01-01T00:00:00+00:00", "by": "a@b", "uid": 1, "action": "install", "name": "tiny"}
    release = {"sequence": 3, "lock_digest": "a" * 64, "digest": f"sha256:{'a' * 64}"}
    return [
        b"s" + json.dumps(stamps).encode(),
        b"p" + json.dumps([finding]).encode(),
        b"n" + (9999).to_bytes(8, "little") + write_note(Ranges([(0, 10), (4096, 9000)])),
        b"r" + json.dumps(release).encode(),
        *(b"h" + json.dumps(each).encode() for each in (launch, found, log)),
        b"hhub/models--a--b/blobs/x\n../y\n",
    ]
