"""The door as a process of its own: it prints its address, and ends when its standard input does."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading

import uvicorn

from bundler.draft.record.front.app import Front
from bundler.serve.listen import endpoint_of, open_listener


def main(upstream: str, notes: str) -> None:
    """Serve until standard input is closed: whoever started this has gone, or needs it no more.

    Args:
        upstream: The Hub's address.
        notes: File to which notes are added.
    """
    descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    seen: set[str] = set()

    def note(value: dict[str, object]) -> None:
        line = json.dumps(value, sort_keys=True) + "\n"
        if line not in seen:
            seen.add(line)
            os.write(descriptor, line.encode())

    listener = open_listener()
    config = uvicorn.Config(
        Front(upstream, note),
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    sys.stdout.write(f"{endpoint_of(listener)}\n")
    sys.stdout.flush()
    server.run(sockets=[listener])


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    while sys.stdin.buffer.read(1):
        pass
    server.should_exit = True


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
