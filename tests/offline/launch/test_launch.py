"""bundler.offline.launch.launch: the launcher learns of its command's end, whatever else happens to run in it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from bundler.offline.kernel.judge import Judge
from bundler.offline.kernel.networks import Reach
from bundler.offline.kernel.supervisor import Supervisor
from tests.offline.conftest import KINDS, PYTHON, BundleRun
from tests.support.process import TIMEOUT_SECONDS, run_python

# Threads that a hashing pool, or a compiled library, left behind: the kernel would give them the news of the command.
A_THREAD_IS_LEFT = """
import os, signal, sys, threading, time
from bundler.offline.launch import launch
from bundler.offline.launch.forked import fork_work
from bundler.offline.kernel.isolation import choose

def verify():
    threading.Thread(target=time.sleep, args=(600,), daemon=True, name="left").start()

with fork_work(verify) as verifying:
    verifying.wait()
see_through = launch.pass_signals_on

def once_it_has_ended(child):
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    # Whoever may take the signal has its time to do so.
    while signal.SIGCHLD in signal.sigpending() and any(thread.name == "left" for thread in threading.enumerate()):
        time.sleep(0.01)
    return see_through(child)

launch.pass_signals_on = once_it_has_ended
print(launch.launch(["sh", "-c", "exit 3"], env=os.environ, isolation=choose(sys.argv[1])).exit_code)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_ends_before_anybody_waits_is_seen_though_verification_left_a_thread(kind: str) -> None:
    """Were the thread the launcher's own, the kernel would give it the signal, and the launcher wait for ever."""
    assert run_python(A_THREAD_IS_LEFT, kind).stdout == "3\n"


def test_work_that_nobody_waits_for_is_ended() -> None:
    """An isolation that cannot be had is known while gigabytes are hashed."""
    run_python(
        """
        import os, time
        from bundler.offline.launch.forked import fork_work
        try:
            with fork_work(lambda: time.sleep(600)):
                raise KeyError
        except KeyError:
            pass
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            raise SystemExit(0)
        raise SystemExit("it is left")
        """
    )


def test_a_signal_that_comes_while_work_is_forked_off_is_not_lost() -> None:
    """A hook that Python calls at a fork would only print what its handler raises."""
    run_python(
        """
        import os, signal
        from bundler.offline.launch.forked import fork_work

        os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            with fork_work(lambda: None):
                pass
        except KeyboardInterrupt:
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                raise SystemExit(0)
            raise SystemExit("its child is left")
        raise SystemExit("it is lost")
        """
    )


def test_work_that_may_clean_up_does_so_once_though_ctrl_c_goes_to_all_processes(tmp_path: Path) -> None:
    run_python(
        """
        import os, signal, sys, time
        from pathlib import Path
        from bundler.offline.launch.forked import fork_work
        begun, cleaned = Path(sys.argv[1], "begun"), Path(sys.argv[1], "cleaned")

        def work():
            try:
                begun.touch()
                time.sleep(600)
            finally:
                time.sleep(0.5)
                cleaned.write_text("whole")

        os.setpgid(0, 0)
        try:
            with fork_work(work, patience_seconds=60):
                while not begun.exists():
                    time.sleep(0.01)
                os.killpg(0, signal.SIGINT)
                time.sleep(60)
        except KeyboardInterrupt:
            assert cleaned.read_text() == "whole"
            raise SystemExit(0)
        raise SystemExit("it was not ended")
        """,
        tmp_path,
    )


def test_the_judge_of_a_filter_takes_no_signal_from_the_launcher() -> None:
    """It runs when a filter is tried, before the launcher blocks signals, and may take its time to be gone."""
    reader, writer = os.pipe()  # in place of a filter's descriptor: it never has a question
    before = {thread.name for thread in Path("/proc/self/task").iterdir()}
    supervisor = Supervisor(reader, Judge(Reach()), "seccomp")
    supervisor.start()
    (judge,) = {thread.name for thread in Path("/proc/self/task").iterdir()} - before
    status = Path(f"/proc/self/task/{judge}/status")
    wanted = 1 << (signal.SIGCHLD - 1)
    # The interpreter says that a thread has started before it runs any of our code.
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (blocked := _blocked(status) & wanted) and time.monotonic() < deadline:
        time.sleep(0.01)
    supervisor.stop()
    os.close(writer)
    assert blocked


@pytest.mark.parametrize("kind", KINDS)
def test_while_the_command_runs_no_thread_of_the_launcher_takes_what_it_waits_for(
    bundle_run: BundleRun, kind: str
) -> None:
    code = """
import os, pathlib, signal
launcher = pathlib.Path("/proc", str(os.getppid()))
for status in launcher.glob("task/*/status"):
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    # The thread that waits in sigwaitinfo has them unblocked meanwhile.
    waits = status.parent.name == launcher.name
    print(waits or bool(int(fields["SigBlk"], 16) >> (signal.SIGCHLD - 1) & 1))
"""
    ran = bundle_run(PYTHON, "-S", "-c", code, options=("--isolate", kind, "--jobs", "4"))
    assert set(ran.out.split()) == {"True"}, ran.err


def _blocked(status: Path) -> int:
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["SigBlk"], 16)
