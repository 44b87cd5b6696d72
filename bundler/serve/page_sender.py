"""Sends what a file holds from the page cache to a socket, without a copy in this process: sendfile(2).

What waits in the socket's buffer then are the file's own pages. A file that is written to in place, after it was found
to be unchanged, would be sent as it is changed. So the end of an answer is not sent this way, and not before the client
has confirmed all that was (`settle`): if the file is still unchanged then, all of it was what it should have been; and
if it is not, the client sees an answer that is cut short.

Rule book:

* the event loop never waits for a disk: what is not in the page cache is sent by a thread;
* a client that takes nothing for a while is let go, as for all other answers (`patience`);
* the socket stays the transport's: it is written to only while the transport has nothing to write.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import sys
import termios
from asyncio import Transport
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

# At a time: no more than what the loop does while others wait.
_PIECE_BYTES = 4 << 20
# Between two looks at what the client has confirmed, in seconds; the first is doubled up to the last.
_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.05


class StalledError(Exception):
    """The client has taken nothing for too long, or is gone."""


def can_send_pages(transport: Transport) -> bool:
    """Tell whether the kernel can send a file's pages on a connection: on Linux, and without TLS."""
    return sys.platform == "linux" and transport.get_extra_info("sslcontext") is None


class PageSender:
    """Sends spans of a file on one connection.

    Args:
        transport: The connection.
        patience_seconds: How long a client may take nothing.
    """

    def __init__(self, transport: Transport, patience_seconds: float) -> None:
        self._transport = transport
        self._patience_seconds = patience_seconds
        self._socket: int = transport.get_extra_info("socket").fileno()

    async def send(self, file: int, start: int, end: int, is_unchanged: Callable[[], bool]) -> int:
        """Send the bytes of a file from offset `start` to `end`, the last one excluded.

        Args:
            file: Descriptor of the file.
            start: First offset.
            end: Offset behind the last byte.
            is_unchanged: Tells whether the file is what it should be; asked before each piece.

        Returns:
            The offset behind the last byte that was sent: less than `end` where the file is shorter, or changed.

        Raises:
            StalledError: The client takes nothing, or is gone.
        """
        if self._transport.is_closing():
            raise StalledError("the client is gone")
        # A second number for the socket: that of the transport is the event loop's to watch.
        watched = os.dup(self._socket)
        try:
            while start < end and is_unchanged():
                if self._transport.get_write_buffer_size():
                    await self._wait(watched)
                    continue
                count = min(end - start, _PIECE_BYTES)
                # Threads take most of what small pieces cost.
                is_there = _is_cached(file, start + count - 1)
                sent = (
                    _send(watched, file, start, count)
                    if is_there
                    else await run_in_threadpool(_send, watched, file, start, count)
                )
                if sent is None:
                    await self._wait(watched)
                elif sent == 0:
                    break
                else:
                    start += sent
        except OSError as error:
            raise StalledError("the client is gone") from error
        finally:
            os.close(watched)
        return start

    async def settle(self, copied_bytes: int) -> None:
        """Wait until the client has confirmed all that was sent by `send`.

        Args:
            copied_bytes: What was written to the transport since then.

        Raises:
            StalledError: The client takes nothing, or is gone.
        """
        loop = asyncio.get_running_loop()
        pause, least, since = _FIRST_PAUSE, sys.maxsize, loop.time()
        while (waiting := self._count_unconfirmed()) > copied_bytes - self._transport.get_write_buffer_size():
            if waiting < least:
                least, since = waiting, loop.time()
            elif loop.time() - since > self._patience_seconds:
                raise StalledError("the client takes nothing")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    async def drop(self) -> None:
        """End the connection, and wait until all that watch it know."""
        self._transport.abort()
        await asyncio.sleep(0)

    def _count_unconfirmed(self) -> int:
        """Return how many bytes in the socket's buffer the client has not confirmed (tcp(7), SIOCOUTQ)."""
        if self._transport.is_closing():
            raise StalledError("the client is gone")
        answer = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", answer)[0])

    async def _wait(self, watched: int) -> None:
        """Wait until the socket takes more."""
        loop = asyncio.get_running_loop()
        is_ready = asyncio.Event()
        loop.add_writer(watched, is_ready.set)
        try:
            await asyncio.wait_for(is_ready.wait(), self._patience_seconds)
        except TimeoutError:
            raise StalledError("the client takes nothing") from None
        finally:
            loop.remove_writer(watched)


def _send(socket: int, file: int, start: int, count: int) -> int | None:
    """Return how many bytes were sent; 0 behind the end of the file, None where the socket takes none now."""
    try:
        return os.sendfile(socket, file, start, count)
    except BlockingIOError:
        return None


def _is_cached(file: int, offset: int) -> bool:
    """Tell whether a byte of a file can be had without waiting for the disk."""
    try:
        return os.preadv(file, [bytearray(1)], offset, os.RWF_NOWAIT) >= 0
    except OSError:
        # It is not, or the file system cannot say.
        return False
