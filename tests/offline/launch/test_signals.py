"""bundler.offline.launch.signals: the end of a command is noticed, whatever threads the caller has."""

from __future__ import annotations

import subprocess
import sys

# The thread does not hold SIGCHLD back, and the kernel gives it to it.
PROGRAM = """
import os, threading, time
from bundler.offline.launch.signals import block_signals, pass_signals_on
threading.Thread(target=threading.Event().wait, daemon=True).start()
with block_signals():
    child = os.fork()
    if child == 0:
        os._exit(7)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    time.sleep(0.5)
    print(os.waitstatus_to_exitcode(pass_signals_on(child)))
"""


def test_a_program_with_threads_hears_of_the_end_of_its_command() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("7\n", "")
