"""What a run measures as it goes: `metrics.jsonl` in its folder, one object a line.

Rule book:

* each step that is logged gives one line of the kind `step`; each checkpoint of a run with held-out text gives one of
  the kind `evaluation`;
* a run that goes on from step N first drops the lines after step N, which the killed run wrote, and a last line that
  was cut: no step stands twice. Lines are appended whole;
* what is not finite is null, which every reader of JSON takes;
* nothing here asks a network. TensorBoard, when asked for, is a folder of files.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bundler.errors import DependencyError
from bundler.paths import atomic_write
from infini_llama import sharding
from infini_llama.modeling import InfiniLlamaAttention
from infini_llama.progress import ProgressBar

FILE = "metrics.jsonl"
TENSORBOARD = "tensorboard"


def read_metrics(output_dir: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a run's metrics, in their order; none if there is no file."""
    try:
        lines = (output_dir / FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    # What follows the last line's end was cut short by a kill.
    found = (_parsed(line) for line in lines[:-1])
    return [line for line in found if line is not None]


def append(output_dir: Path, line: dict[str, Any]) -> None:
    """Add a line; all of it in one write, so that a kill leaves it out or cuts it, and never mixes two."""
    content = (json.dumps(_finite(line)) + "\n").encode()
    descriptor = os.open(output_dir / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def drop_after(output_dir: Path, step: int) -> None:
    """Drop the lines after a step, and whatever is no whole line."""
    if (output_dir / FILE).exists():
        kept = [line for line in read_metrics(output_dir) if line["step"] <= step]
        atomic_write(output_dir / FILE, "".join(json.dumps(line) + "\n" for line in kept).encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None


class MetricsLog(TrainerCallback):
    """Writes a line per logged step, and on a terminal shows a bar.

    Args:
        output_dir: The run's folder.
        model: Whose gates are looked at.
        bad_records: Records that were left out of the data; in each line, so that no reader misses it.
        tensorboard: Whether to write TensorBoard's files, too.

    Raises:
        DependencyError: TensorBoard is asked for, and not installed.
    """

    def __init__(
        self, output_dir: Path, model: torch.nn.Module, *, bad_records: int = 0, tensorboard: bool = False
    ) -> None:
        self._output_dir, self._model, self._bad_records = output_dir, model, bad_records
        self._last: tuple[float, int] = (0.0, 0)
        self._bar: ProgressBar | None = None
        self._writer_class = _summary_writer() if tensorboard else None
        self._writer: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock, and take back what an earlier process wrote beyond the checkpoint."""
        self._last = (time.monotonic(), int(state.num_input_tokens_seen))
        self._bar = ProgressBar(total=state.max_steps, done=state.global_step)
        if state.is_world_process_zero:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            drop_after(self._output_dir, state.global_step)
            if self._writer_class is not None:
                folder = str(self._output_dir / TENSORBOARD)
                self._writer = self._writer_class(folder, purge_step=state.global_step + 1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.advance(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the line."""
        if not logs or "loss" not in logs:
            return
        # In every rank: under FSDP2 each holds a share of the gates.
        gates = gate_shares(self._model)
        if not state.is_world_process_zero:
            return
        now, tokens = time.monotonic(), int(state.num_input_tokens_seen)
        line: dict[str, Any] = {
            "kind": "step",
            "step": state.global_step,
            "loss": logs["loss"],
            "learning_rate": learning_rates(kwargs.get("optimizer"), logs),
            "grad_norm": logs.get("grad_norm"),
            "tokens": tokens,
            "tokens_per_second": round((tokens - self._last[1]) / max(now - self._last[0], 1e-9), 1),
            "peak_rss_bytes": peak_rss_bytes(),
            "gate_mean": sum(map(sum, gates)) / sum(map(len, gates)),
            "gate_min": min(map(min, gates)),
            "gate_max": max(map(max, gates)),
            "gates": gates,
            "bad_records": self._bad_records,
            "time": round(time.time(), 3),
        }
        if torch.cuda.is_available():
            line["peak_device_bytes"] = torch.cuda.max_memory_allocated()
        self._last = (now, tokens)
        append(self._output_dir, line)
        if self._bar is not None:
            self._bar.show(
                loss=logs["loss"],
                tokens_per_second=line["tokens_per_second"],
                rss_bytes=line["peak_rss_bytes"],
            )
        if self._writer is not None:
            for name, value in _scalars(line):
                self._writer.add_scalar(name, value, state.global_step)
            self._writer.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar and TensorBoard's file."""
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._writer.close()


def gate_shares(model: torch.nn.Module) -> list[list[float]]:
    """Return the share that the memory has in each head's output, by layer; a collective under FSDP2."""
    gates = [sharding.whole(m.gate.detach()) for m in model.modules() if isinstance(m, InfiniLlamaAttention)]
    return [[round(share, 6) for share in torch.sigmoid(gate.float()).tolist()] for gate in gates]


def learning_rates(optimizer: Any, logs: dict[str, float]) -> dict[str, float]:
    """Return the rate of each parameter group by its name, as the scheduler has set it for the next step."""
    if optimizer is None:
        return {"all": logs["learning_rate"]}
    return {
        str(group.get("name", number)): float(group["lr"]) for number, group in enumerate(optimizer.param_groups)
    }


def peak_rss_bytes() -> int:
    """Return the most memory that this process has had in RAM."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _scalars(line: dict[str, Any]) -> list[tuple[str, float]]:
    names = ("loss", "grad_norm", "tokens_per_second", "peak_rss_bytes", "gate_mean", "gate_min", "gate_max")
    plain = [(f"train/{name}", line[name]) for name in names if line[name] is not None]
    return [*plain, *((f"learning_rate/{name}", rate) for name, rate in line["learning_rate"].items())]


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DependencyError(
            "training.report_to: expected the package tensorboard, found none",
            hint="pip install tensorboard, or training.report_to: none; metrics.jsonl and report.html need no package",
        ) from error
    return SummaryWriter
