"""RaptorQ (RFC 6330), by the `raptorq` package: strings of parity from strings of data, and those that are lost again.

Of strings of equal length, any that are as many as there were at first, and two or three more, give all of them back.
A string goes by its number: those of the data have the first ones.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bundler.errors import DependencyError, IntegrityError

# The number of a string, as it stands before it: the source block, of which there is one, and 24 bits.
_NUMBER_BYTES = 4


# mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGE_BYTES = 256 << 20, 32 << 20


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Have the C library keep what the package frees after each call, for the next one.

    It takes tens of megabytes at a time, which glibc gives back to the system at once: pages that come anew for each
    column are a sixth of the time of a repair.
    """
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
            library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def load_code() -> Any:
    """Return the package.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        import raptorq
    except ImportError as error:
        raise DependencyError(
            "parity takes the package raptorq, which is not installed", hint="pip install raptorq"
        ) from error
    return raptorq


def encode(data: bytes, length: int, parity: int) -> list[memoryview]:
    """Return strings of parity.

    Args:
        data: The strings of the data, one after the other.
        length: Of each; a multiple of 8.
        parity: How many strings of parity.
    """
    count = len(data) // length
    packets = load_code().Encoder.with_defaults(data, length + _NUMBER_BYTES).get_encoded_packets(parity)
    made = [memoryview(packet) for packet in packets[count:]]
    numbers = [int.from_bytes(packet[:_NUMBER_BYTES]) for packet in made]
    if len(made) != parity or numbers != list(range(count, count + parity)):
        # Another arrangement than that which is decoded: bytes of one block in strings of several.
        raise AssertionError(f"raptorq made strings {numbers[:3]}… of {count} strings of {length} bytes")
    return [packet[_NUMBER_BYTES:] for packet in made]


def decode(strings: Mapping[int, bytes | memoryview], count: int, length: int) -> bytes:
    """Return the strings of the data, one after the other.

    Args:
        strings: Good ones by their numbers, of data and of parity.
        count: How many strings the data has.
        length: Of each.

    Raises:
        IntegrityError: These are not enough.
    """
    _keep_freed_memory()
    decoder = load_code().Decoder.with_defaults(count * length, length + _NUMBER_BYTES)
    for number, string in strings.items():
        data: bytes | None = decoder.decode(b"".join((number.to_bytes(_NUMBER_BYTES), string)))
        if data is not None:
            return bytes(data)
    raise IntegrityError(
        f"{len(strings)} good parts of {count} are not enough to rebuild the others",
        hint="more parity volumes, or more of the bundle's own, are needed",
    )
