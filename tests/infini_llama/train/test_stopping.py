"""Signals to real processes: a checkpoint at the next step, a code that says so, and nothing lost."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bundler.errors import STOPPED_BY_SIGNAL
from infini_llama.run_folder.checkpoints import find_latest, is_complete
from infini_llama.run_folder.metrics import read_metrics
from infini_llama.train import metrics_log
from infini_llama.train.run import train
from infini_llama.train.stopping import SIGNALS, stop_signals
from tests.infini_llama.cli.test_cli import train_arguments
from tests.infini_llama.forks import Fork, fork_ranks, kill_after
from tests.infini_llama.train.test_run import CONFIG, configured, weights
from tests.support.process import TIMEOUT_SECONDS, Child

STEPS = 60
# Their tokenizer takes no time.
ON_BYTES = ("tokenizer=no/such", "tokenizer_fallback=byte")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
Command = Callable[..., list[str]]


@pytest.fixture
def command(raw_data: Path, gpt2_home: Path, tmp_path: Path) -> Command:
    """Return what makes the command line of a run of `STEPS` steps, with a line of log for each."""
    config = tmp_path / "train.yaml"
    config.write_text(CONFIG)

    def make(output_dir: str, *more: str) -> list[str]:
        steps = ("--set", f"training.steps={STEPS}", "--set", "training.checkpoint_every_steps=1000")
        arguments = train_arguments(config, raw_data, gpt2_home, tmp_path / output_dir, "--json", *steps, *more)
        return [str(word) for word in arguments]

    return make


def stopped(argv: Sequence[str], number: signal.Signals, *, after: int) -> tuple[int, str, str]:
    """Send a signal once a step was logged; return exit code, stdout and stderr."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = Child(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    with process:
        assert process.stderr is not None
        assert process.stdout is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith(f"step {after:>2}/{STEPS}"):
                process.send_signal(number)
        out = process.stdout.read()
        return process.wait(TIMEOUT_SECONDS), out, "".join(lines)


def marker(folder: Path) -> dict[str, str]:
    content: dict[str, str] = json.loads((folder / "stopped.json").read_text())
    return content


def test_a_run_that_was_stopped_by_each_signal_in_turn_ends_with_the_weights_of_a_straight_one(
    raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 12
    settings = configured(*ON_BYTES, f"training.steps={steps}", "training.checkpoint_every_steps=1000")
    straight = train(settings, None, raw_data=raw_data, output_dir=tmp_path / "straight")
    run, resume_from = tmp_path / "run", None
    for after, number in ((2, signal.SIGTERM), (5, signal.SIGUSR1), (8, signal.SIGINT)):
        with monkeypatch.context() as patch:
            patch.setattr(metrics_log, "say", kill_after(f"step {after:>2}/", number))
            summary = train(settings, None, raw_data=raw_data, output_dir=run, resume_from=resume_from)
        resume_from = find_latest(run)
        assert (summary.stopped_by, summary.checkpoint) == (number.name, str(resume_from))
        assert after <= summary.steps < steps
        assert marker(run) == {"signal": number.name, "checkpoint": f"checkpoint-{summary.steps}"}
    finished = train(settings, None, raw_data=raw_data, output_dir=run, resume_from=resume_from)
    assert (finished.stopped_by, finished.steps) == (None, steps)
    assert not (run / "stopped.json").exists()
    assert weights(Path(finished.checkpoint)) == weights(Path(straight.checkpoint))


def test_a_run_that_is_stopped_does_not_stop_for_an_evaluation(
    raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = ("training.checkpoint_every_steps=3", f"evaluation.raw_data={raw_data}", "evaluation.max_tokens=64")
    settings = configured(*ON_BYTES, "training.steps=9", *every)
    with monkeypatch.context() as patch:
        patch.setattr(metrics_log, "say", kill_after("step 4/", signal.SIGTERM))
        stopped = train(settings, None, raw_data=raw_data, output_dir=tmp_path)
    assert stopped.stopped_by == "SIGTERM" and 4 <= stopped.steps < 9
    train(settings, None, raw_data=raw_data, output_dir=tmp_path, resume_from=find_latest(tmp_path))
    assert [line["step"] for line in read_metrics(tmp_path) if line["kind"] == "evaluation"] == [3, 6, 9]


def test_two_ranks_stop_after_the_same_step_when_torchrun_passes_a_signal_on(
    command: Command, tmp_path: Path
) -> None:
    launcher = (*TORCHRUN, "--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1", "--shutdown-timeout", "100")
    code, out, err = stopped([*launcher, "-m", "infini_llama", *command("run")], signal.SIGUSR1, after=2)
    assert code == 1, err  # torchrun's own
    assert marker(tmp_path / "run")["checkpoint"] == f"checkpoint-{json.loads(out)['steps']}"
    assert is_complete(tmp_path / "run" / marker(tmp_path / "run")["checkpoint"])


def test_a_signal_to_one_rank_stops_all(command: Command, tmp_path: Path) -> None:
    first, second = forks = fork_ranks(2, command("run"))
    with first, second:
        first.wait_for(f"step  2/{STEPS}")
        second.send_signal(signal.SIGTERM)
        ends = [fork.end() for fork in forks]
    assert [end.returncode for end in ends] == [STOPPED_BY_SIGNAL] * 2
    assert json.loads(ends[0].stdout)["stopped_by"] == "SIGTERM", ends[0].stderr
    assert is_complete(tmp_path / "run" / marker(tmp_path / "run")["checkpoint"])


def test_bundle_run_passes_the_signal_and_the_exit_code_on(
    command: Command, gpt2_home: Path, tmp_path: Path
) -> None:
    launcher = [*(sys.executable, "-m", "bundler", "run", "--quick", "--hf-home", str(gpt2_home)), "--"]
    code, _, err = stopped(
        [*launcher, sys.executable, "-m", "infini_llama", *command("run")], signal.SIGUSR1, after=2
    )
    assert code == STOPPED_BY_SIGNAL, err
    assert marker(tmp_path / "run")["signal"] == "SIGUSR1"


def stand_still() -> int:
    """Stand still in C, as a rank that waits for a dead one does: no Python handler runs there."""
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)
    with stop_signals():
        libc.pthread_mutex_lock(mutex)
        os.write(2, b"ready\n")
        libc.pthread_mutex_lock(mutex)  # for ever
    return 0


def test_a_second_signal_ends_a_process_that_stands_still_and_one_that_comes_twice_does_not() -> None:
    with Fork(stand_still) as process:
        process.wait_for("ready")
        process.send_signal(signal.SIGTERM)
        # Waited for: of two that are pending the kernel gives the lower number first.
        process.wait_for("SIGTERM: stopping after this step, with a checkpoint")
        process.send_signal(signal.SIGUSR1)
        time.sleep(1.2)
        assert process.is_running
        process.send_signal(signal.SIGTERM)
        end = process.end()
    assert end.returncode == 128 + signal.SIGTERM
    assert "SIGTERM again: stopping at once" in end.stderr


def test_handlers_are_as_they_were_afterwards() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_signals():
        assert all(signal.getsignal(n) is not b for n, b in zip(SIGNALS, before, strict=True))
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
