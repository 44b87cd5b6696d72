"""The door as a process of its own (`bundler.serve.aside`)."""

from __future__ import annotations

import json
import logging
import os
import sys

import uvicorn

from bundler.draft.record.front.app import Front
from bundler.serve.aside import announce, end_with_input
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
    end_with_input()
    announce(endpoint_of(listener))
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
