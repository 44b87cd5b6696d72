"""Measure a run: lines on stderr and in `metrics.jsonl`, TensorBoard's files, a progress bar on a terminal.

Nothing here uses a network: TensorBoard only writes a folder of files.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bundler.errors import DependencyError
from infini_llama.model.gate import MemoryGate
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.parallel import sharding
from infini_llama.progress import ProgressBar, format_seconds, say
from infini_llama.run_folder.metrics import append, drop_after
from infini_llama.train.flops import training_flops

TENSORBOARD = "tensorboard"


class MetricsLog(TrainerCallback):
    """Prints and writes a line per logged step, shows a progress bar on a terminal, and adds to what others log.

    Args:
        output_dir: The run's folder.
        model: The model, whose gates are logged.
        bad_records: Number of records that were left out of the data; written in each line, so that it is not missed.
        tensorboard: Whether to write TensorBoard's files too.
        device_tflops: Peak of one device in TFLOP/s, of which the used share is written; None if it is not known.

    Raises:
        DependencyError: `tensorboard` is set, and TensorBoard is not installed.
    """

    def __init__(
        self,
        output_dir: Path,
        model: InfiniLlamaForCausalLM,
        *,
        bad_records: int = 0,
        tensorboard: bool = False,
        device_tflops: float | None = None,
    ) -> None:
        self._output_dir, self._model, self._bad_records = output_dir, model, bad_records
        self._flops_per_token, self._device_tflops = training_flops(model.config), device_tflops
        self._last = _Mark(0.0, 0, 0)
        self._bar: ProgressBar | None = None
        self._writer_class = _summary_writer() if tensorboard else None
        self._writer: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock, and delete the lines that an earlier process wrote after the checkpoint."""
        self._last = _Mark(time.monotonic(), int(state.num_input_tokens_seen), state.global_step)
        self._bar = ProgressBar(total=state.max_steps, done=state.global_step)
        if state.is_world_process_zero:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            drop_after(self._output_dir, state.global_step)
            if self._writer_class is not None:
                folder = str(self._output_dir / TENSORBOARD)
                self._writer = self._writer_class(folder, purge_step=state.global_step + 1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Advance the bar, and log the last step whatever the number of steps between two lines."""
        if self._bar is not None:
            self._bar.advance(state.global_step)
        control.should_log = control.should_log or state.global_step >= state.max_steps
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the line of a step."""
        if not logs or "loss" not in logs:
            return
        # Call this in every rank: with FSDP2 each holds a share of the gates.
        gates = gate_shares(self._model)
        if not state.is_world_process_zero:
            return
        line: dict[str, Any] = {
            "kind": "step",
            "step": state.global_step,
            "loss": logs["loss"],
            "learning_rate": learning_rates(kwargs.get("optimizer"), logs),
            "grad_norm": logs.get("grad_norm"),
            "tokens": int(state.num_input_tokens_seen),
            **self._speeds(args.world_size, state),
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
        append(self._output_dir, line)
        # What other programs are told, by the callbacks after this one.
        logs.update((name.removeprefix("train/"), value) for name, value in _scalars(line))
        speed = _describe_speed(line)
        say(
            f"step {state.global_step:>{len(str(state.max_steps))}}/{state.max_steps}  loss {logs['loss']:.4f}  "
            f"lr {logs['learning_rate']:.2e}  gates {line['gate_min']:.3f}..{line['gate_max']:.3f}  {speed}  "
            f"{format_seconds(line['seconds_left'])} left"
        )
        if self._bar is not None:
            self._bar.show(f"loss {logs['loss']:.4f}, {speed}")
        if self._writer is not None:
            for name, value in _scalars(line):
                self._writer.add_scalar(name, value, state.global_step)
            self._writer.flush()

    def _speeds(self, devices: int, state: TrainerState) -> dict[str, float]:
        """Return how fast the steps since the last line were, and begin the next ones."""
        now = _Mark(time.monotonic(), int(state.num_input_tokens_seen), state.global_step)
        last, self._last = self._last, now
        seconds = max(now.seconds - last.seconds, 1e-9)
        per_device = (now.tokens - last.tokens) / seconds / devices
        tflops = per_device * self._flops_per_token / 1e12
        return {
            "seconds": round(seconds, 3),
            "seconds_left": round(seconds / max(now.step - last.step, 1) * (state.max_steps - now.step), 1),
            "tokens_per_second": round(per_device * devices, 1),
            "tokens_per_second_per_device": round(per_device, 1),
            "tflops_per_device": float(f"{tflops:.4g}"),
            **({"mfu": float(f"{tflops / self._device_tflops:.4g}")} if self._device_tflops else {}),
        }

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar and TensorBoard's file."""
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._writer.close()


class _Mark(NamedTuple):
    """Where a run is: a time of the monotonic clock, tokens and steps so far."""

    seconds: float
    tokens: int
    step: int


def _describe_speed(line: dict[str, Any]) -> str:
    used = f", {line['mfu']:.1%} MFU" if "mfu" in line else ""
    memory = line.get("peak_device_bytes", line["peak_rss_bytes"]) / 2**30
    return f"{line['tokens_per_second']:,.0f} tokens/s{used}, {memory:.2f} GiB"


def gate_shares(model: torch.nn.Module) -> list[list[float]]:
    """Return the share of the memory in each head's output, by layer; with FSDP2 all ranks must call this."""
    gates = [sharding.gather_whole(m.bias.detach()) for m in model.modules() if isinstance(m, MemoryGate)]
    return [[round(share, 6) for share in torch.sigmoid(gate.float()).tolist()] for gate in gates]


def learning_rates(optimizer: Any, logs: dict[str, float]) -> dict[str, float]:
    """Return parameter group -> learning rate, as the scheduler has set it for the next step."""
    if optimizer is None:
        return {"all": logs["learning_rate"]}
    return {
        str(group.get("name", number)): float(group["lr"]) for number, group in enumerate(optimizer.param_groups)
    }


def peak_rss_bytes() -> int:
    """Return the largest resident size that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _scalars(line: dict[str, Any]) -> list[tuple[str, float]]:
    names = (
        *("loss", "grad_norm", "tokens_per_second", "tokens_per_second_per_device", "tflops_per_device", "mfu"),
        *("peak_rss_bytes", "peak_device_bytes", "gate_mean", "gate_min", "gate_max"),
    )
    plain = [(f"train/{name}", line[name]) for name in names if line.get(name) is not None]
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
