"""bundler.offline.guard.caller: which line is to blame for what a thread wants."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.offline.conftest import OUTSIDE
from tests.offline.guard.conftest import Guarded


@pytest.mark.slow
def test_what_a_thread_of_a_library_wants_is_noted_with_the_line_that_waits_for_it(guarded: Guarded) -> None:
    """A reader of datasets for files at an address: fsspec asks in a thread, and asyncio there in another."""
    attempts = guarded.run("""
        from datasets import load_dataset

        def load():
            return load_dataset("csv", data_files="https://example.org/a.csv")  # line 5

        load()
    """)
    assert {(Path(a.file).name, a.line, a.target, a.wanted) for a in attempts} == {
        ("user_script.py", 5, "example.org:443", "")
    }


def test_a_thread_of_the_users_own_is_itself_to_blame(guarded: Guarded) -> None:
    attempts = guarded.run(f"""
        import socket, threading

        def fetch():
            socket.create_connection(("{OUTSIDE}", 443))  # line 5

        thread = threading.Thread(target=fetch)
        thread.start()
        thread.join()
    """)
    assert [a.line for a in attempts] == [5]
