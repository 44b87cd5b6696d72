"""A slow line to a server: ``python -m benchmarks.network.line``.

It accepts connections on loopback and passes on what they carry, in each direction half a round trip later, and no
faster than `rate` bytes a second for each connection: as a distant server does that gives each connection the same.
The first bytes of a connection wait one round trip more, for the handshake that loopback has done without. A slow
start, losses and a limit for all connections together are not imitated.

Bytes go through a pipe in the kernel (splice(2)), so that the line takes next to no CPU from those who are measured.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import socket
import sys
import threading
import time
from collections import deque

_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 20
# What is passed on at once: at 20 MB/s a wait of 6 ms.
_STEP_BYTES = 128 << 10


def serve(origin: tuple[str, int], *, round_trip_seconds: float, rate: float) -> tuple[str, int]:
    """Accept connections in a thread, for as long as this process lives; return the address.

    Args:
        origin: The server's address.
        round_trip_seconds: What the line adds to a question and its answer.
        rate: Bytes a second in each direction of each connection.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(origin)
            half = round_trip_seconds / 2
            for source, sink, handshake in ((near, far, round_trip_seconds), (far, near, 0.0)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                way = (source, sink, half, handshake, rate)
                threading.Thread(target=_pass_on, args=way, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return "127.0.0.1", listener.getsockname()[1]


def _pass_on(source: socket.socket, sink: socket.socket, delay: float, handshake: float, rate: float) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, _F_SETPIPE_SZ, _PIPE_BYTES)
    # What is on its way: when it is due, and how many bytes.
    flying: deque[tuple[float, int]] = deque()
    free_at, has_ended = 0.0, False
    incoming = select.poll()
    incoming.register(source, select.POLLIN)
    try:
        while flying or not has_ended:
            now = time.monotonic()
            if flying and flying[0][0] <= now:
                _, count = flying.popleft()
                while count:
                    count -= os.splice(reader, sink.fileno(), count)
                continue
            wakes = [flying[0][0]] if flying else []
            room = _PIPE_BYTES // 2 - sum(count for _, count in flying)
            if has_ended or room <= 0 or free_at > now:
                if free_at > now and not has_ended:
                    wakes.append(free_at)
                time.sleep(max(0.0, min(wakes) - now))
                continue
            # Half a millisecond more, so that it does not wake too early and wait again.
            if not incoming.poll(1000 * (wakes[0] - now) + 0.5 if wakes else None):
                continue
            count = os.splice(source.fileno(), writer, min(_STEP_BYTES, room))
            has_ended = count == 0
            now = time.monotonic()
            free_at = max(free_at, now + handshake) + count / rate
            handshake = 0.0
            if count:
                flying.append((free_at + delay, count))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone: the other must learn of it.
        for end in (source, sink):
            end.close()
    finally:
        os.close(reader)
        os.close(writer)


def main() -> None:
    """Serve until the end of standard input; the address is the first line of standard output."""
    parser = argparse.ArgumentParser(description="A slow line to a server on loopback.")
    parser.add_argument("port", type=int)
    parser.add_argument("--round-trip-ms", type=float, default=50.0)
    parser.add_argument("--rate-mb", type=float, default=20.0, help="MB/s for each connection")
    options = parser.parse_args()
    _, port = serve(
        ("127.0.0.1", options.port),
        round_trip_seconds=options.round_trip_ms / 1000,
        rate=options.rate_mb * 1e6,
    )
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
