"""Sends what a file holds, on a disk or in a bundle, to a socket, through one buffer that is used again and again.

New memory for each block, and a hop to a thread, would cost more than reading and sending it. sendfile(2) would cost
less still, but what it sends are the file's own pages. On the way to a client on the same machine, even in a container,
they wait in that client's socket, and a file that is written to then is received as it is changed, after it was found
to be unchanged and was sent to its end. What is copied was found to be unchanged after it was read.

Rule book:

* the event loop never waits: what is not in the page cache is read by a thread, and a chunk is decoded by one;
* nor is it kept from others by a client that takes all at once;
* a client that takes nothing for a while is let go, as for all other answers (`patience`);
* the socket stays the transport's: it is written to only while the transport has nothing to write.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import Transport

from starlette.concurrency import run_in_threadpool

from bundler.serve.source import DirectContent

# Large enough that calls do not count, small enough for hundreds of downloads at once.
_BUFFER_BYTES = 1 << 20
# What is sent in one go, before others have their turn.
_TURN_BYTES = 2 << 20


class StalledError(Exception):
    """The client has taken nothing for too long, or is gone."""


def can_send_files(transport: Transport) -> bool:
    """Tell whether a connection takes what is written to its socket: without TLS."""
    return hasattr(os, "preadv") and transport.get_extra_info("sslcontext") is None


class FileSender:
    """Sends spans of files on one connection.

    Args:
        transport: The connection.
        patience_seconds: How long a client may take nothing.
    """

    def __init__(self, transport: Transport, patience_seconds: float) -> None:
        self._transport = transport
        self._patience_seconds = patience_seconds

    async def send(self, content: DirectContent, start: int, end: int) -> int:
        """Send the bytes of a file from offset `start` to `end`, the last one excluded.

        Args:
            content: The file.
            start: First offset.
            end: Offset behind the last byte.

        Returns:
            The offset behind the last byte that was sent: less than `end` where the file is shorter, or has changed.

        Raises:
            ContentChangedError: See `DirectContent`.
            OSError: The file cannot be read.
            StalledError: The client takes nothing, or is gone.
        """
        if self._transport.is_closing():
            raise StalledError("the client is gone")
        # A second number for the socket: that of the transport is the event loop's to watch.
        with self._transport.get_extra_info("socket").dup() as watched:
            buffer, turn = memoryview(bytearray(min(_BUFFER_BYTES, end - start))), _TURN_BYTES
            while self._transport.get_write_buffer_size():
                await self._wait(watched)
            while start < end:
                room = buffer[: end - start]
                count = content.read_into(room, start, may_wait=False)
                if count is None:
                    count = await run_in_threadpool(content.read_into, room, start, may_wait=True)
                if not count:
                    break
                await self._send_all(watched, room[:count])
                start += count
                if (turn := turn - count) <= 0:
                    turn = _TURN_BYTES
                    await asyncio.sleep(0)
        return start

    async def close(self) -> None:
        """End the connection, and wait until all that watch it know."""
        self._transport.close()
        await asyncio.sleep(0)

    async def _send_all(self, watched: socket.socket, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[watched.send(rest) :]
            except BlockingIOError:
                await self._wait(watched)
            except OSError as error:
                raise StalledError("the client is gone") from error

    async def _wait(self, watched: socket.socket) -> None:
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
