"""What is fuzzed: each target takes bytes as somebody else could send them, and may end in our errors alone.

Rule book:

* where a digest guards the way in, a target also puts the right one on what the fuzzer changed (`tests.fuzz.seals`);
* an error's message is at most a screen;
* what is accepted keeps its laws: a lock that is read and written again is the same text.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from bundler.errors import BundleError
from bundler.format.chunk import decode_chunk
from bundler.format.codec import codecs
from bundler.format.codec.safetensors import word_runs
from bundler.format.codec.words import numpy_way
from bundler.format.index import ChunkRecord, parse_index_frame
from bundler.format.reader import BundleReader
from bundler.format.stream import BundleStream
from bundler.format.tar import tar_plan
from bundler.home.receipt import Receipt
from bundler.plan.lock import Lock
from bundler.plan.manifest import Manifest
from bundler.trust.dsse.sigstore_bundle import SigstoreBundle
from bundler.trust.policy import Policy
from bundler.trust.signature_file import parse_signature
from bundler.trust.ssh.allowed_signers import NotAListOfSignersError, read_allowed_signers
from bundler.trust.ssh.certificate import is_certificate, read_certificate
from bundler.trust.ssh.public_key import ED25519, BadSignatureError, PublicKey, write_key
from bundler.trust.ssh.sshsig import BEGIN, END, SshSignature
from bundler.trust.ssh.wire import MalformedError
from bundler.trust.statement import Statement
from bundler.verify.bundle_file import verify_bundle
from tests.fuzz.seals import seal_bundle, seal_index, seal_receipt, seal_volume
from tests.hostile.forge import forge
from tests.support.bundles import collect

# A terminal window, generously.
_SCREEN_LINES, _SCREEN_CHARACTERS = 60, 12_000
# Chunks of at most this decode; larger ones only take the time of clearing memory, again and again.
_CHUNK_BYTES = 1 << 20

# A key that somebody listed; it signed nothing of what is fuzzed.
_LISTED = PublicKey(ED25519, write_key(ED25519, bytes(range(32))))

Target = Callable[[bytes, Path], None]


class TooLongError(Exception):
    """A message that does not fit a screen."""


def _check_message(error: BundleError) -> None:
    text = str(error)
    if len(text) > _SCREEN_CHARACTERS or text.count("\n") > _SCREEN_LINES:
        raise TooLongError(f"{len(text)} characters, {text.count(chr(10))} lines: {text[:2000]}")


def accepts(call: Callable[[], object]) -> bool:
    """Make a call that may be refused by an error of ours, and no other."""
    try:
        call()
    except BundleError as error:
        _check_message(error)
        return False
    return True


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _verify(path: Path | list[Path]) -> None:
    with BundleReader(path) as reader:
        if reader.omitted is None:
            verify_bundle(reader, jobs=1)
        assert reader.plan, "computed, so that a fault of it is found here"


def fuzz_bundle(data: bytes, folder: Path) -> None:
    """A bundle file: as it is; with right digests; or a lock and a tar stream of the fuzzer's, right in all else."""
    path = folder / "fuzzed.tar.zst"
    mode, rest = data[:1], data[1:]
    if mode == b"f":
        lock, _, stream = rest.partition(b"\0--\0")
        forge(path, name="tiny", lock_text=lock, stream=stream or b"\0")
    else:
        path.write_bytes(seal_bundle(rest) if mode == b"s" else rest)
    accepts(lambda: _verify(path))


def fuzz_volumes(data: bytes, folder: Path) -> None:
    """Volumes: the fuzzer's bytes cut where it says so; with right digests or without."""
    mode, rest = data[:1], data[1:]
    paths = []
    for number, part in enumerate(rest.split(b"\0cut\0")[:4], 1):
        paths.append(path := folder / f"fuzzed.tar.zst.{number:03}")
        path.write_bytes(seal_volume(part) if mode == b"s" else part)
    accepts(lambda: _verify(paths))
    accepts(lambda: _verify(paths[0]))
    for path in paths:
        path.unlink()


def fuzz_stream(data: bytes, folder: Path) -> None:
    """A bundle, or volumes one after the other, through a pipe."""
    mode, rest = data[:1], data[1:]
    content = seal_bundle(rest) if mode == b"s" else seal_volume(rest) if mode == b"v" else rest

    def read() -> None:
        stream = BundleStream(io.BytesIO(content))
        collect(stream, [(0, stream.plan.size_bytes)], 1)

    accepts(read)


def fuzz_frames(data: bytes, folder: Path) -> None:
    """The frames of one chunk whose digest is right: codec, then three bytes of length, then frames."""
    if len(data) < 4:
        return
    raw_bytes = int.from_bytes(data[1:4], "little") % _CHUNK_BYTES
    frames = data[4:]
    record = ChunkRecord(data[0] % 6, raw_bytes, len(frames), b"")

    def decode() -> None:
        raw = decode_chunk(record, memoryview(bytearray(frames)), number=0, read_base=lambda place, room: None)
        assert len(raw) == raw_bytes
        with patch.object(codecs, "chosen_way", numpy_way):
            other = decode_chunk(
                record, memoryview(bytearray(frames)), number=0, read_base=lambda place, room: None
            )
        assert raw == other, "the compiled code and numpy do the same"

    accepts(decode)


def fuzz_index(data: bytes, folder: Path) -> None:
    """The index, its digest right; what is accepted is written back as it was."""
    frame = seal_index(data)

    def parse() -> None:
        index = parse_index_frame(frame)
        assert index.payload() == frame[8 : 8 + len(index.payload())]

    accepts(parse)


def fuzz_lock(data: bytes, folder: Path) -> None:
    """The text of a lock, and what follows from it: where files go, and the tar stream."""
    text = _text(data)
    if text is None:
        return

    def parse() -> None:
        lock = Lock.loads(text)
        assert Lock.loads(lock.dumps()) == lock
        if lock.is_complete:
            tar_plan(lock)

    accepts(parse)


def fuzz_manifest(data: bytes, folder: Path) -> None:
    """A manifest: strict YAML."""
    text = _text(data)
    if text is not None:
        accepts(lambda: Manifest.parse(text).digest())


def fuzz_receipt(data: bytes, folder: Path) -> None:
    """A receipt whose seal is right."""

    def parse() -> None:
        receipt = Receipt.parse(seal_receipt(data), folder / "tiny.json")
        accepts(lambda: receipt.lock)
        accepts(lambda: receipt.names)

    accepts(parse)


def fuzz_policy(data: bytes, folder: Path) -> None:
    """A policy, and the list of signers that it names."""
    policy, _, signers = data.partition(b"\0--\0")
    (folder / "policy.yaml").write_bytes(policy)
    (folder / "signers").write_bytes(signers)
    accepts(lambda: Policy.load(folder / "policy.yaml").find_rule("prod"))
    text = _text(signers)
    if text is not None:
        try:
            read_allowed_signers(text)
        except NotAListOfSignersError as error:
            assert error.faults


def fuzz_signature(data: bytes, folder: Path) -> None:
    """A signature file; and its parts, of which each but the first has to be got past: wire format, key, statement."""
    accepts(lambda: parse_signature(data, source="fuzzed.sig", keys=[_LISTED]))
    accepts(lambda: Statement.loads(SigstoreBundle.loads(data, source="fuzzed").envelope.payload, source="fuzzed"))
    accepts(lambda: Statement.loads(data, source="fuzzed.sig"))
    import base64

    armored = BEGIN + base64.b64encode(data) + b"\n" + END
    for call in (
        lambda: SshSignature.parse(armored).verify(data, "bundle"),
        lambda: PublicKey.parse(data),
        lambda: read_certificate(data) if is_certificate(data) else None,
    ):
        try:
            call()
        except (MalformedError, BadSignatureError) as error:
            assert len(str(error)) < 1000


def fuzz_safetensors(data: bytes, folder: Path) -> None:
    """A safetensors file: whatever its header says, the runs cover the file."""
    path = folder / "fuzzed.safetensors"
    path.write_bytes(data)
    runs = word_runs(path, len(data))
    assert [run.start for run in runs] == [0, *(run.stop for run in runs[:-1])]
    assert runs[-1].stop == len(data)
    assert all(run.size_bytes % run.width == 0 for run in runs)
