"""Puts right digests on changed bytes, so that a fuzzer gets past them: whoever makes a hostile file does the same."""

from __future__ import annotations

import json
import struct

from bundler.files.digest import blake3_bytes, sha256_bytes
from bundler.format.index import CHUNK_HEADER_BYTES, PREAMBLE, TRAILER_BYTES
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES
from bundler.parity.parity_file import DIGEST_BYTES, MAGIC

_RECORD_BYTES = 44
_RECEIPT_SEAL = b'\n "receipt_sha256": "'


def seal_index(frame: bytes) -> bytes:
    """Make lengths and SHA-256 of an index frame right."""
    if len(frame) < 8 + TRAILER_BYTES:
        return frame
    payload, trailer = frame[8:-TRAILER_BYTES], frame[-TRAILER_BYTES:]
    size = struct.pack("<I", len(frame) - 8)
    return frame[:4] + size + payload + bytes.fromhex(sha256_bytes(payload)) + size + trailer[36:]


def seal_bundle(data: bytes) -> bytes:
    """Make the BLAKE3 of each chunk right, in its header and in the index, and then the index."""
    if len(data) < TRAILER_BYTES:
        return data
    start = len(data) - 8 - struct.unpack_from("<I", data, len(data) - TRAILER_BYTES + 32)[0]
    if start < len(PREAMBLE) or start + 24 > len(data):
        return data
    front, frame = bytearray(data[:start]), bytearray(data[start:])
    header_bytes, count = struct.unpack_from("<II", frame, 16)
    position, record = len(PREAMBLE), 24 + header_bytes
    for _ in range(min(count, 64)):
        if position + CHUNK_HEADER_BYTES > len(front) or record + _RECORD_BYTES > len(frame):
            break
        stored_bytes = struct.unpack_from("<I", front, position + 20)[0]
        begin = position + CHUNK_HEADER_BYTES
        front[begin - 32 : begin] = blake3_bytes(front[begin : begin + stored_bytes])
        frame[record : record + _RECORD_BYTES] = front[begin - _RECORD_BYTES : begin]
        position, record = begin + stored_bytes, record + _RECORD_BYTES
    return bytes(front) + seal_index(bytes(frame))


def seal_volume(data: bytes) -> bytes:
    """Make the BLAKE3 in the header of a volume right, that of its part too."""
    if len(data) < VOLUME_HEAD_BYTES:
        return data
    head, part = data[: VOLUME_HEAD_BYTES - 64], data[VOLUME_HEAD_BYTES:]
    head += blake3_bytes(part)
    return head + blake3_bytes(head) + part


def seal_receipt(data: bytes) -> bytes:
    """Put the SHA-256 at the end of a receipt."""
    body = data.partition(_RECEIPT_SEAL)[0]
    return body + _RECEIPT_SEAL + sha256_bytes(body).encode() + b'"\n}\n'


def seal_parity(data: bytes) -> bytes:
    """Put the length of the header, and the BLAKE3 behind the digests that it asks for, into the head of parity."""
    header, _, rest = data[len(MAGIC) + 4 :].partition(b"}")
    header = b"}".join([header, *rest.split(b"}", 1)[:1], b""]) if rest else header
    return data if not header else _seal_head(header, data[len(MAGIC) + 4 + len(header) :])


def _seal_head(header: bytes, rest: bytes) -> bytes:
    try:
        said = json.loads(header)
        grid = said["grid"]
        blocks = -(-said["files"][-1][1] // grid["block_bytes"])
        size = grid["block_bytes"] // grid["cell_bytes"] * (blocks + said["count"]) * DIGEST_BYTES
    except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError, RecursionError):
        size = 0
    digests = rest[: min(max(int(size), 0), 1 << 16)]
    text = MAGIC + len(header).to_bytes(4) + header + digests
    return text + blake3_bytes(text) + rest[len(digests) + 32 :]
