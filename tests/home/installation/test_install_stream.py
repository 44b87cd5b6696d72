"""bundle install -: front to back, in flat memory, nothing visible before all is verified."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import BundleError, FormatError, IntegrityError
from bundler.format.index import PREAMBLE
from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.stream import BundleStream
from bundler.home.common.journal import FOUND_SUFFIX, UNFINISHED_SUFFIX
from bundler.home.exclusive import LOCK_NAME
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.make.delta import Base
from bundler.make.pack import pack
from bundler.plan.lock import LockedFile
from tests.support.bundles import (
    OTHER_COMMIT,
    blob_store,
    collect,
    lock_of,
    locked_file,
    locked_repo,
    tiny_bundle,
    tree,
)
from tests.support.process import Child, script

NOISE = random.Random(7).randbytes(9 << 20)
FIRST = random.Random(8).randbytes(2 << 20)
FILES = {"config.json": b"{}", "w.safetensors": NOISE, "a.bin": FIRST, "empty": b""}
ARROW = {"default/0.0.0/h/d.arrow": b"arrow" * 1000, "default/0.0.0/h/dataset_info.json": b"{}"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    data = locked_repo("org/a", {"d.txt": b"d"}, kind="dataset", prepared=ARROW, aliases=["a"])
    model = locked_repo("org/m", FILES, aliases=["m"], absent=["none.json"], lfs=["w.safetensors", "a.bin"])
    return tiny_bundle(folder, model, data, contents=[*FILES.values(), b"d", *ARROW.values()])


def from_bytes(content: bytes | bytearray) -> io.BytesIO:
    return io.BytesIO(content)


def visible(home: Path) -> list[str]:
    """What a library could see: all but blobs that nothing points to, and our own half-written and lock files."""
    ours = (".bundle-tmp-", f"bundles/{LOCK_NAME}", UNFINISHED_SUFFIX, FOUND_SUFFIX)
    return [path for path in tree(home) if "/blobs/" not in path and not any(name in path for name in ours)]


def test_a_stream_installs_what_the_file_installs(bundle: Path, tmp_path: Path) -> None:
    install(bundle, tmp_path / "file")
    result = install(from_bytes(bundle.read_bytes()), tmp_path / "stream")
    assert tree(tmp_path / "stream") == tree(tmp_path / "file")
    assert result.bundle.verify().ok
    with BundleReader(bundle) as reader:
        assert result.bundle.digest == reader.digest


def test_volumes_one_after_the_other_are_a_stream(bundle: Path, tmp_path: Path) -> None:
    destination = VolumeDestination(tmp_path / "x.tar.zst", 5_000_000)
    with BundleReader(bundle) as reader:
        copy_bundle(reader, destination)
    parts = [path.read_bytes() for path in destination.volumes]
    install(from_bytes(b"".join(parts)), tmp_path / "home")
    install(bundle, tmp_path / "file")
    assert tree(tmp_path / "home") == tree(tmp_path / "file")
    for wrong, message in (
        ([parts[0], parts[2]], "expected volume 2, .*found volume 3"),
        (parts[1:], "expected volume 1, .*found volume 2"),
        ([parts[0], parts[0]], "expected volume 2, .*found volume 1"),
        (parts[:-1], "cut short"),
        ([*parts, parts[0]], "more bytes follow the index"),
    ):
        with pytest.raises(FormatError, match=message):
            install(from_bytes(b"".join(wrong)), tmp_path / "other")
        assert visible(tmp_path / "other") == []


def test_only_one_repo_of_a_stream_is_written(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    result = install(from_bytes(bundle.read_bytes()), home, only=["a"])
    assert result.bundle.left_out == ("org/m",)
    assert result.bundle.verify().ok
    assert not (home / "hub" / "models--org--m").exists()


def test_a_delta_comes_through_a_stream(tmp_path: Path) -> None:
    old = lock_of(locked_repo("org/m", {"w": NOISE, "c": b"1"}, commit=OTHER_COMMIT, revision="v1"), name="old")
    new = lock_of(locked_repo("org/m", {"w": NOISE, "c": b"2"}), name="new")
    store = blob_store(tmp_path / "store", [NOISE, b"1", b"2"])
    base = pack(old, store, tmp_path / "old.tar.zst").path
    delta = pack(new, store, tmp_path / "new.tar.zst", base=Base.open(base)).path.read_bytes()
    assert len(delta) < 100_000
    with pytest.raises(IntegrityError, match=r"is a delta .*lacks 1 of the files"):
        install(from_bytes(delta), tmp_path / "empty")
    assert visible(tmp_path / "empty") == []
    home = tmp_path / "home"
    install(from_bytes(base.read_bytes()), home)
    assert install(from_bytes(delta), home).bundle.verify().ok


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_stream_cut_short_shows_nothing_and_keeps_what_was_verified(
    bundle: Path, tmp_path: Path, share: float
) -> None:
    content = bundle.read_bytes()
    home = tmp_path / "home"
    with pytest.raises(FormatError, match="cut short"):
        install(from_bytes(content[: int(len(content) * share)]), home)
    assert visible(home) == []
    assert Home(home).names() == []
    kept = [path for path in home.rglob("blobs/*") if ".bundle-tmp-" not in path.name]
    if share >= 0.5:
        assert (2 << 20) in [path.stat().st_size for path in kept]
    result = install(from_bytes(content), home)
    assert result.bundle.verify().ok
    assert result.written_files <= result.files - len(kept)


def test_a_stream_cut_before_its_last_byte_shows_nothing(bundle: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    for end in (len(content) - 1, len(content) - 48, len(content) - 500):
        home = tmp_path / str(end)
        with pytest.raises(FormatError, match="cut short"):
            install(from_bytes(content[:end]), home)
        assert visible(home) == []


def test_a_flipped_byte_anywhere_in_a_stream_is_refused_and_shows_nothing(tmp_path: Path) -> None:
    files = {"a": b"a" * 3000, "b": b"b"}
    small = tiny_bundle(tmp_path, locked_repo("org/m", files, aliases=["m"]), contents=files.values()).read_bytes()
    for position in range(0, len(small), 3):
        damaged = bytearray(small)
        damaged[position] ^= 0x10
        home = tmp_path / "home"
        with pytest.raises(BundleError):
            install(from_bytes(damaged), home, jobs=1)
        assert visible(home) == [], f"byte {position}"


def _another_index(content: bytes, other: bytes) -> bytes:
    """The chunks of one bundle with the index of another."""

    def cut(data: bytes) -> int:
        return len(data) - 8 - int.from_bytes(data[-16:-12], "little")

    return content[: cut(content)] + other[cut(other) :]


STREAMS: dict[str, tuple[Callable[[bytes, bytes], bytes], str]] = {
    "something behind the index": (lambda data, other: data + b"\0", "more bytes follow the index"),
    "two bundles": (lambda data, other: data + other, "more bytes follow the index"),
    "the index of another bundle": (_another_index, "does not match the stream before it: chunks, lock"),
    "an index at once": (
        lambda data, other: PREAMBLE + data[-8 - int.from_bytes(data[-16:-12], "little") :],
        "lock",
    ),
    "an index of four gigabytes": (
        lambda data, other: _another_index(data, b"\x5b\x2a\x4d\x18\xff\xff\xff\xffHFBI" + bytes(20) + data[-16:]),
        "cut short|index of 4294967303 bytes",
    ),
    "a plain zstd file": (lambda data, other: bytes.fromhex("28b52ffd0458") + bytes(100), "not those of a bundle"),
    "nothing": (lambda data, other: b"", "cut short"),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_that_is_not_one_bundle_is_refused(tmp_path: Path, kind: str) -> None:
    data, other = (
        tiny_bundle(
            tmp_path / name, locked_repo("org/m", {"a": content}), contents=[content], name=name
        ).read_bytes()
        for name, content in (("one", b"1"), ("two", b"2"))
    )
    make, message = STREAMS[kind]
    with pytest.raises(FormatError, match=message):
        install(from_bytes(make(data, other)), tmp_path / "home")
    assert visible(tmp_path / "home") == []


def test_an_index_that_claims_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    data = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}), contents=[b"a"]).read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-16:-12], "little")
    stream = BundleStream(from_bytes(data[:start] + b"\x5b\x2a\x4d\x18\xff\xff\xff\xffHFBI" + bytes(1000)))
    with pytest.raises(FormatError, match="index of 4294967303 bytes, expected at most"):
        collect(stream, [(0, stream.plan.size_bytes)], 1)


def test_a_lock_that_claims_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    from bundler.files.digest import blake3_bytes
    from bundler.format.index import ChunkRecord, chunk_header
    from tests.hostile.forge import one_frame

    header = b"bundles/x.lock".ljust(124, b"\0") + b"77777777777\0" + bytes(512 - 136)
    frames = one_frame(header)
    data = PREAMBLE + chunk_header(ChunkRecord(0, 512, len(frames), blake3_bytes(frames))) + frames
    with pytest.raises(FormatError, match="over the limit"):
        BundleStream(from_bytes(data))


def _feed(process: Child[bytes], blocks: list[bytes]) -> None:
    assert process.stdin is not None
    for block in blocks:
        process.stdin.write(block)
    process.stdin.flush()


def test_killed_in_the_middle_of_a_stream_it_shows_nothing_and_the_next_run_finishes(
    bundle: Path, tmp_path: Path
) -> None:
    content = bundle.read_bytes()
    home = tmp_path / "home"
    for share in (0.3, 0.6, 0.95):
        process = Child(
            [script("bundle"), "install", "-", "--hf-home", home], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        with process:
            # All but what fits into the pipe was read once this returns.
            _feed(process, [content[: int(len(content) * share)]])
            process.send_signal(signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
        assert visible(home) == []
    done = subprocess.run(
        [script("bundle"), "install", "-", "--hf-home", home], input=content, capture_output=True, check=True
    )
    assert b"installed tiny" in done.stderr
    assert Home(home).bundle("tiny").verify().ok
    assert not list(home.rglob(".bundle-tmp-*"))


PEAK = """
import pathlib, re, sys
from bundler.cli import main
try:
    main(["install", "-", "--hf-home", sys.argv[1], "--jobs", "2"])
except SystemExit as end:
    assert not end.code
# Not ru_maxrss: that of a process starts with what its parent had.
print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""


def test_memory_stays_flat_whatever_passes_by(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    files: list[LockedFile] = []
    for number in range(12):
        content = random.Random(number).randbytes(25 << 20)
        file = locked_file(f"w{number:02}", content, lfs=True)
        files.append(file)
        (store / file.etag).write_bytes(content)
    lock = lock_of(replace(locked_repo("org/m", {}), files=tuple(files)))
    packed = pack(lock, lambda blob: store / blob.sha256, tmp_path / "big.tar.zst")
    assert packed.size_bytes > 300_000_000
    with packed.path.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-c", PEAK, tmp_path / "home"], stdin=stream, capture_output=True, check=False
        )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) * 1024 < 200_000_000


def test_a_slow_and_halting_stream_is_read_to_its_end(bundle: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    read_end, write_end = os.pipe()

    def send() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as sender:
            position = 0
            steps = random.Random(1)
            while position < len(content):
                position += sender.write(content[position : position + steps.randint(1, 200_000)]) or 0

    thread = threading.Thread(target=send)
    thread.start()
    with io.FileIO(read_end) as stream:
        assert install(stream, tmp_path / "home").bundle.verify().ok
    thread.join()
