"""Bundles made to harm: each is refused, and leaves nothing behind, inside HF_HOME or out."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import zstandard

from bundler.errors import BundleError, FormatError, IntegrityError, LockError
from bundler.format.reader import BundleReader
from bundler.format.tar import BLOCK, END_OF_ARCHIVE
from bundler.home.installation.install import install
from bundler.verify.bundle_file import verify_bundle
from tests.hostile.forge import forge, honest_stream, one_frame
from tests.support.bundles import lock_of, locked_repo, tree
from tests.support.messages import Told

CONTENT = b"content of a weight"
LOCK = lock_of(locked_repo("org/m", {"w": CONTENT}, aliases=["m"], absent=["none"]))


def _refused(bundle: Path, tmp_path: Path, kind: type[BundleError]) -> BundleError:
    home = tmp_path / "deep" / "home"
    before = tree(tmp_path)
    with pytest.raises(kind) as caught:
        install(bundle, home)
    assert tree(tmp_path) == before
    return caught.value


def _edited_lock(edit: Any) -> bytes:
    raw = json.loads(LOCK.dumps())
    edit(raw)
    return json.dumps(raw, indent=1).encode()


def _set(*path: Any) -> Any:
    *keys, last, value = path

    def edit(raw: Any) -> None:
        for key in keys:
            raw = raw[key]
        raw[last] = value

    return edit


ESCAPES = {
    "a file above": _set("repos", 0, "files", 0, "path", "../../../../outside"),
    "an absolute file": _set("repos", 0, "files", 0, "path", "/tmp/outside"),
    "a file through a dot": _set("repos", 0, "files", 0, "path", "a/./b"),
    "a backslash": _set("repos", 0, "files", 0, "path", "..\\outside"),
    "an alias above": _set("repos", 0, "aliases", ["../../outside"]),
    "an alias that is a path": _set("repos", 0, "aliases", ["a/b/c"]),
    "a repo above": _set("repos", 0, "repo_id", "../outside"),
    "a ref above": _set("repos", 0, "revision", "../../../outside"),
    "a commit above": _set("repos", 0, "commit", "../../../outside"),
    "a marker above": _set("repos", 0, "absent", ["../../../../outside"]),
    "a bundle name above": _set("name", "../../outside"),
    "an etag above": _set("repos", 0, "files", 0, "blob_id", "../../outside"),
    "a prepared file above": _set(
        "repos", 0, "prepared", [{"path": "../../x", "size": 1, "sha256": "a" * 64, "blake3": "b" * 64}]
    ),
}


@pytest.mark.parametrize("escape", ESCAPES, ids=str)
def test_a_lock_inside_that_names_a_path_outside_is_refused(tmp_path: Path, escape: str) -> None:
    text = _edited_lock(ESCAPES[escape])
    stream = honest_stream(LOCK, [CONTENT])
    first = tarfile.TarInfo("bundles/tiny.lock")
    first.size = len(text)
    stream = first.tobuf(tarfile.USTAR_FORMAT) + text + bytes(-len(text) % BLOCK) + stream
    _refused(forge(tmp_path / "x.tar.zst", name="tiny", lock_text=text, stream=stream), tmp_path, LockError)


def test_names_in_the_tar_stream_are_never_followed(tmp_path: Path) -> None:
    text = LOCK.dumps().encode()
    stream = bytearray(honest_stream(LOCK, [CONTENT]))
    # Every header after the lock's says that its content belongs outside.
    position = BLOCK + len(text) + -len(text) % BLOCK
    with tarfile.open(fileobj=io.BytesIO(bytes(stream))) as archive:
        headers = [member.offset for member in archive if member.offset >= position]
    evil = tarfile.TarInfo("../../../../outside").tobuf(tarfile.USTAR_FORMAT)
    for offset in headers:
        stream[offset : offset + 100] = evil[:100]
    bundle = forge(tmp_path / "x.tar.zst", name="tiny", lock_text=text, stream=bytes(stream))
    with BundleReader(bundle) as reader:
        report = verify_bundle(reader, jobs=1)
    assert {fault.detail for fault in report.faults} == {"the tar stream is not the one that the lock asks for"}
    home = tmp_path / "deep" / "home"
    install(bundle, home)
    assert not (tmp_path / "outside").exists()
    assert all(name.startswith(("deep/home/", "x.tar.zst")) for name in tree(tmp_path))


def test_content_other_than_the_lock_names_is_refused(tmp_path: Path, told: Told) -> None:
    text = LOCK.dumps().encode()
    stream = honest_stream(LOCK, [CONTENT]).replace(CONTENT, CONTENT[::-1])
    bundle = forge(tmp_path / "x.tar.zst", name="tiny", lock_text=text, stream=stream)
    home = tmp_path / "home"
    with pytest.raises(IntegrityError) as caught:
        install(bundle, home)
    assert caught.value.exit_code == 6
    told("hostile", "content other than the lock names", caught.value, bundle=bundle)
    assert tree(home) == {}


def test_a_stream_of_another_length_than_the_lock_asks_for_is_refused(tmp_path: Path, told: Told) -> None:
    text = LOCK.dumps().encode()
    stream = honest_stream(LOCK, [CONTENT]) + END_OF_ARCHIVE
    error = _refused(forge(tmp_path / "x", name="tiny", lock_text=text, stream=stream), tmp_path, FormatError)
    assert (type(error), error.exit_code) == (FormatError, 7)
    told("hostile", "a stream of another length", error, place=tmp_path)


def test_a_lock_of_another_bundle_is_refused(tmp_path: Path) -> None:
    text = LOCK.dumps().encode()
    stream = honest_stream(LOCK, [CONTENT])
    _refused(forge(tmp_path / "x", name="other", lock_text=text, stream=stream), tmp_path, FormatError)


def test_a_lock_with_a_second_reading_is_refused(tmp_path: Path) -> None:
    text = LOCK.dumps().replace('"allow_pickle": false', '"allow_pickle":  false').encode()
    stream = honest_stream(LOCK, [CONTENT])
    stream = stream[:BLOCK] + text + bytes(-len(text) % BLOCK) + stream[BLOCK + len(LOCK.dumps()) :]
    _refused(forge(tmp_path / "x", name="tiny", lock_text=text, stream=stream), tmp_path, FormatError)


BOMB = 1 << 30


def _frames(kind: str) -> bytes:
    if kind == "a gigabyte of zeros":
        compressor = zstandard.ZstdCompressor(level=19).compressobj(size=BOMB)
        block = bytes(1 << 24)
        return b"".join([compressor.compress(block) for _ in range(BOMB >> 24)] + [compressor.flush()])
    if kind == "no size in the frame":
        return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10_000))
    if kind == "two frames":
        return one_frame(bytes(5_000)) + one_frame(bytes(5_000))
    if kind == "something after the frame":
        return one_frame(bytes(10_000)) + b"more"
    return b"no frame at all"


@pytest.mark.parametrize(
    "kind",
    ["a gigabyte of zeros", "no size in the frame", "two frames", "something after the frame", "no frame at all"],
)
def test_a_chunk_that_decodes_to_anything_but_its_size_is_refused_without_much_memory(
    tmp_path: Path, kind: str
) -> None:
    stored = _frames(kind)
    raw = max(10_000, len(stored))
    bundle = forge(tmp_path / "x", name="tiny", lock_text=b"x" * 100, stream=b"", stored=stored, raw_bytes=raw)
    tracemalloc.start()
    try:
        _refused(bundle, tmp_path, FormatError)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
