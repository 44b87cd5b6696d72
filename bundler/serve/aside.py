"""A server of ours in a process of its own: it prints its address, and ends when its standard input does.

So it ends with whoever started it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from bundler.errors import BundleError

_PATIENCE_SECONDS = 10


@contextlib.contextmanager
def open_aside(module: str, *arguments: str, what: str) -> Iterator[str]:
    """Run a server as long as the block lasts; yield its address.

    Args:
        module: It calls `end_with_input` and `announce`.
        arguments: For its command line.
        what: What it shows, for a message.

    Raises:
        BundleError: It did not start.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            # Out of the terminal's reach: Ctrl-C is for the command.
            start_new_session=True,
        )
        assert process.stdin
        assert process.stdout
        try:
            address = process.stdout.readline().decode().strip()
            if not address:
                code = process.wait()
                said.seek(0)
                raise BundleError(f"{what}: the process for it ended with {code}: {said.read().strip()}")
            yield address
        finally:
            process.stdin.close()
            process.stdout.close()
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def end_with_input() -> None:
    """In the process of the server: send it SIGTERM when standard input is closed."""
    threading.Thread(target=_wait_for_end, daemon=True).start()


def announce(address: str) -> None:
    """In the process of the server: say that it is there."""
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def _wait_for_end() -> None:
    # Not by `sys.stdin`, whose lock a thread that waits would hold when the interpreter ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
