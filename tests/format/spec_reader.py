"""A second reader of bundles, written from bundler/FORMAT.md alone: it imports nothing of `bundler`.

It tests the specification. `python spec_reader.py BUNDLE DIR` checks all digests and extracts, of volumes too.
"""

import hashlib
import io
import json
import re
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import zstandard
from blake3 import blake3

PREAMBLE = bytes.fromhex("28B52FFD2000010000")
SKIPPABLE = bytes.fromhex("5B2A4D18")


class Refused(Exception):
    """The file is not a bundle of version 1 to 3, or is damaged."""


def demand(condition, what):
    if not condition:
        raise Refused(what)


def read_file(bundle):
    """Return the bytes of a bundle: of its file, or of its volumes, each checked, put together."""
    bundle = Path(bundle)
    if bundle.exists():
        return bundle.read_bytes()
    name = re.compile(re.escape(bundle.name) + r"\.\d{3,}")
    names = [path for path in bundle.parent.iterdir() if name.fullmatch(path.name)]
    data, sets, head = PREAMBLE, set(), PREAMBLE + SKIPPABLE + struct.pack("<I4sI", 136, b"HFBV", 1)
    for expected, path in enumerate(sorted(names, key=lambda path: int(path.suffix[1:])), 1):
        volume = path.read_bytes()
        number, count, start, length, total, digest = struct.unpack_from("<IIQQQ32s", volume, 25)
        demand(volume[:25] == head and blake3(volume[:121]).digest() == volume[121:153], "volume header")
        demand(number == expected == int(path.suffix[1:]) and start == len(data), "order of volumes")
        demand(blake3(volume[153:]).digest() == volume[89:121] and len(volume) == 153 + length, "part of a volume")
        data += volume[153:]
        sets.add((count, total, digest))
    demand(sets == {(len(names), len(data), data[-48:-16])}, "volumes are of one whole bundle")
    return data


def read_index(data):
    """Return (header, chunk records) from the index at the end, after checking it."""
    trailer = data[-48:]
    demand(data[:9] == PREAMBLE and len(data) > 57 and trailer[40:] == b"HFBUNDLE", "first or last bytes")
    length, version = struct.unpack_from("<II", trailer, 32)
    demand(version in (1, 2, 3), "format version")
    frame = data[-(length + 8) :]
    demand(len(frame) == length + 8 and frame[:8] == SKIPPABLE + trailer[32:36], "index frame")
    payload = frame[8:-48]
    demand(hashlib.sha256(payload).digest() == trailer[:32], "index digest")
    header, records, whole = parse_index(payload, version)
    named = header.get("base", {}).get("whole")
    demand((named is not None) == bool(whole), "the index of the whole bundle")
    versions = {"bases": 3} if "bases" in header else {}
    if whole:
        demand(named == "sha256:" + hashlib.sha256(whole).hexdigest(), "digest of the whole bundle")
        (versions["whole"],) = struct.unpack_from("<I", whole, 4)
        same, _, rest = parse_index(whole, versions["whole"])
        demand((versions["whole"] == 3) == ("bases" in same), "version of the whole bundle")
        names = ("name", "lock_bytes", "lock_sha256")
        demand(not rest and "base" not in same and all(same[n] == header[n] for n in names), "whole bundle")
    demand(version == max([1 + bool(whole), *versions.values()]), "the lowest version that does")
    return header, records, len(frame)


def parse_index(payload, version):
    """Return header, records and what follows them."""
    magic, found, header_bytes, count = struct.unpack_from("<4sIII", payload)
    demand((magic, found) == (b"HFBI", version), "index magic and version")
    end = 16 + header_bytes + 44 * count
    demand(header_bytes <= 1 << 20 and len(payload) >= end and len(payload) - end <= 1 << 28, "index parts")
    header = json.loads(payload[16 : 16 + header_bytes])
    demand(
        set(header) - {"base", "bases"} == {"name", "lock_bytes", "lock_sha256", "tar_bytes"}, "index header keys"
    )
    return header, [payload[16 + header_bytes + 44 * n :][:44] for n in range(count)], payload[end:]


def frame_length(data):
    """Length of the zstd frame at the start of `data`, by RFC 8878 section 3.1.1."""
    descriptor = data[4]
    single = descriptor >> 5 & 1
    position = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6]
    while True:
        block = int.from_bytes(data[position : position + 3], "little")
        position += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
        if block & 1:
            return position + (4 if descriptor >> 2 & 1 else 0)


def content_at_end(stream):
    """Return etag, beginning and size of the content in which the stream so far ends, and of all before it."""
    position, name, found = 0, None, []
    while position + 512 <= len(stream):
        head = bytes(stream[position : position + 512])
        size, start = int(head[124:135], 8), position + 512
        if head[156:157] == b"x":
            name = re.search(rb" path=(.*)\n", stream[start : start + size])
        else:
            path = (name[1] if name else head[:100].rstrip(b"\0")).decode()
            name, found = None, [*found, (path.rsplit("/", 1)[-1], start, size)]
        position = start + size + -size % 512
    return found[-1], found[:-1]


def read_base(header, stream, raw_bytes, stored, elsewhere):
    """Return the bytes that a chunk is the difference from, and its other frames."""
    lock = json.loads(stream[512 : 512 + header["lock_bytes"]])
    sha256 = {f.get("lfs_sha256") or f["blob_id"]: f["sha256"] for repo in lock["repos"] for f in repo["files"]}
    (etag, start, size), before = content_at_end(stream)
    demand(start <= len(stream) and len(stream) + raw_bytes <= start + size, "a difference inside one content")
    skippable, number, offset = struct.unpack("<12sIQ", stored[:24])
    demand(skippable == SKIPPABLE + struct.pack("<I", 16) + b"HFBD" and raw_bytes <= 8 << 20, "place of a base")
    _, begin, length = before[2 if "base" in header else 1]
    text = bytes(stream[begin : begin + length])
    demand(hashlib.sha256(text).hexdigest() == header["bases"]["list_sha256"], "list of bases")
    bases = {line.split()[0]: line.split()[1:] for line in text.decode().splitlines()}[sha256[etag]]
    demand(number < len(bases), "number of a base")
    for name, begin, length in before:
        if sha256.get(name) == bases[number]:
            demand(offset + raw_bytes <= length, "place in a base")
            return stream[begin + offset :][:raw_bytes], stored[24:]
    demand(bases[number] in elsewhere, "a base that is nowhere")
    return elsewhere[bases[number]].read_bytes()[offset : offset + raw_bytes], stored[24:]


def decode_chunk(codec, raw_bytes, stored, base=None):
    """Return the run of the tar stream that a chunk stands for."""
    width = {0: 1, 1: 2, 2: 4, 3: 2, 4: 4, 5: 2}.get(codec)
    demand(width and raw_bytes % width == 0, f"codec {codec} of {raw_bytes} bytes")
    planes = []
    for _ in range(width):
        length = frame_length(stored)
        plane = zstandard.ZstdDecompressor().decompress(stored[:length], max_output_size=raw_bytes // width)
        demand(len(plane) == raw_bytes // width, "plane size")
        planes, stored = [*planes, plane], stored[length:]
    demand(not stored, "something behind the last frame")
    if codec == 0:
        return planes[0]
    words = np.zeros(raw_bytes // width, f"<u{width}")
    for plane in planes:  # top byte first
        words = (words << 8) | np.frombuffer(plane, np.uint8)
    words = words.astype(f"<u{width}")
    if base is not None:
        theirs = np.frombuffer(base, words.dtype)
        order = np.argsort(255 - (theirs >> 7 & 255), kind="stable") if codec == 5 else slice(None)
        words[order] = (words >> 1) ^ (0 - (words & 1))
        return (words + theirs).tobytes()
    return ((words >> 1) | (words << (8 * width - 1))).astype(f"<u{width}").tobytes()


def read_tar_stream(data, elsewhere=None):
    """Return (index header, the whole tar stream), with every digest checked; `elsewhere` has files by SHA-256."""
    header, records, index_bytes = read_index(data)
    position, stream = 9, bytearray()
    for record in records:
        demand(data[position : position + 56] == SKIPPABLE + struct.pack("<I4s44s", 48, b"HFBC", record), "header")
        codec, zeros, raw, stored_bytes, digest = struct.unpack("<B3sII32s", record)
        demand(zeros == bytes(3) and 0 < raw <= 1 << 26 and stored_bytes <= raw + raw // 128 + 1024, "record")
        stored = data[position + 56 : position + 56 + stored_bytes]
        demand(blake3(stored).digest() == digest, "chunk digest")
        demand(codec < 3 or "bases" in header, "a difference without a list of bases")
        base, stored = read_base(header, stream, raw, stored, elsewhere or {}) if codec > 2 else (None, stored)
        stream += decode_chunk(codec, raw, stored, base)
        position += 56 + stored_bytes
    demand(position + index_bytes == len(data), "something between the last chunk and the index")
    demand(len(stream) == header["tar_bytes"], "length of the tar stream")
    lock = stream[512 : 512 + header["lock_bytes"]]
    demand(hashlib.sha256(lock).hexdigest() == header["lock_sha256"], "lock digest")
    if "base" in header:
        start = 512 + len(lock) + -len(lock) % 512 + 512
        omitted = stream[start : start + header["base"]["omitted_bytes"]]
        demand(hashlib.sha256(omitted).hexdigest() == header["base"]["omitted_sha256"], "list of omitted contents")
    return header, stream


def extract(bundle, directory):
    """Unpack a bundle; every blob is checked against the list inside."""
    there = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in Path(directory).rglob("blobs/*")}
    header, stream = read_tar_stream(read_file(bundle), there)
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        archive.extractall(directory, filter="data")
    for line in Path(directory, "bundles", f"{header['name']}.sha256").read_text().splitlines():
        digest, path = line.split("  ", 1)
        demand(hashlib.sha256(Path(directory, path).read_bytes()).hexdigest() == digest, path)


if __name__ == "__main__":
    extract(*sys.argv[1:])
