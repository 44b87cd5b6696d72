"""zstd frames laid out by hand after RFC 8878, right ones and ones that are broken in each way a decoder must know."""

from __future__ import annotations

import zstandard

MAGIC = (0xFD2FB528).to_bytes(4, "little")
RAW, RUN, COMPRESSED, RESERVED = range(4)


def block(kind: int, size: int, content: bytes, *, last: bool = True) -> bytes:
    """A block (RFC 8878, 3.1.1.2): its header says `kind` and `size`, whatever the content is."""
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def frame(descriptor: int, fields: bytes, *blocks: bytes) -> bytes:
    """A frame (3.1.1): descriptor, then window, dictionary id and content size as `fields`."""
    return MAGIC + bytes([descriptor]) + fields + b"".join(blocks)


def stored(content: bytes, *, claimed: int | None = None, descriptor: int = 0xE0) -> bytes:
    """A frame of one raw block; its header may claim another size."""
    size = len(content) if claimed is None else claimed
    return frame(descriptor, size.to_bytes(8, "little"), block(RAW, len(content), content))


def runs(raw_bytes: int) -> bytes:
    """A frame of zeros in run-length blocks: four bytes for each 128 KiB, the most that zstd can promise."""
    step = 128 << 10
    sizes = [step] * (raw_bytes // step) + [raw_bytes % step] * bool(raw_bytes % step)
    blocks = [block(RUN, size, b"\0", last=n == len(sizes) - 1) for n, size in enumerate(sizes)]
    return frame(0xE0, raw_bytes.to_bytes(8, "little"), *blocks)


def broken_frames() -> dict[str, bytes]:
    """Frames for a content of 64 bytes, each by what is wrong with it; the first two are right."""
    content = bytes(range(64))
    right = zstandard.ZstdCompressor(write_checksum=True, write_content_size=True).compress(content)
    dictionary = frame(0xE3, (7).to_bytes(4, "little") + (64).to_bytes(8, "little"), block(RAW, 64, content))
    skippable = (0x184D2A50).to_bytes(4, "little")
    return {
        "right": right,
        "stored": stored(content),
        "content size too small": stored(content, claimed=63),
        "content size too large": stored(content, claimed=65),
        "content size of 2**63": stored(content, claimed=1 << 63),
        "content size of 2**64 - 1": stored(content, claimed=(1 << 64) - 1),
        "no content size": frame(0x00, b"\x00", block(RAW, 64, content)),
        "reserved bit": stored(content, descriptor=0xE8),
        "unused bit": stored(content, descriptor=0xF0),
        "reserved block type": frame(0xE0, (64).to_bytes(8, "little"), block(RESERVED, 64, content)),
        "wrong checksum": right[:-1] + bytes([right[-1] ^ 1]),
        "checksum missing": right[:-4],
        "checksum announced and missing": stored(content, descriptor=0xE4),
        "block cut short": stored(content)[:-9],
        "block header cut short": stored(content)[:15],
        "no last block": frame(0xE0, (64).to_bytes(8, "little"), block(RAW, 64, content, last=False)),
        "block larger than 128 KiB": frame(0xE0, (64).to_bytes(8, "little"), block(RAW, (1 << 21) - 1, content)),
        "run larger than the content": frame(0xE0, (64).to_bytes(8, "little"), block(RUN, (1 << 21) - 1, b"\0")),
        "compressed block of nothing": frame(0xE0, (64).to_bytes(8, "little"), block(COMPRESSED, 0, b"")),
        "compressed block of noise": frame(0xE0, (64).to_bytes(8, "little"), block(COMPRESSED, 64, content)),
        "window of 3.75 TiB": frame(0xC0, b"\xff" + (64).to_bytes(8, "little"), block(RAW, 64, content)),
        "window of 1 KiB": frame(0xC0, b"\x00" + (64).to_bytes(8, "little"), block(RAW, 64, content)),
        "dictionary id": dictionary,
        "skippable frame": skippable + (64).to_bytes(4, "little") + content,
        "skippable frame before it": skippable + bytes(4) + stored(content),
        "skippable frame behind it": stored(content) + skippable + bytes(4),
        "skippable frame of 4 GiB": skippable + b"\xff\xff\xff\xff" + content,
        "two frames": stored(content[:32]) + stored(content[32:]),
        "legacy magic": (0xFD2FB527).to_bytes(4, "little") + stored(content)[4:],
        "magic alone": MAGIC,
        "nothing": b"",
        "bytes behind it": stored(content) + b"more",
    }
