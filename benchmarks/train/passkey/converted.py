"""A stock Llama trained on prose, converted and trained on: its perplexity and its passkeys, before and after.

    python -m benchmarks.train.passkey.converted [--write] [--report-only]        `make bench-converted`

No package carries a Llama that is small enough, so one is trained here: transformers' own, on the bytes of CPython's
reference, of which the last tenth is held out. It never sees more than its window. `infini_llama/model/convert.py`
converts it, once with gates that are all but shut, so that it begins as the Llama that it was, and once with gates that
are half open; then it is trained on with passkeys and prose. The passkeys are those of `make bench-passkey`.

What is done is not done again: the file of records has a line for each step. With `--write`, the table replaces the
one in `infini_llama/README.md`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import click
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.lib.marks import Marks
from benchmarks.train.passkey.asking import ask_apart
from benchmarks.train.passkey.plans import PLANS, Plan
from benchmarks.train.passkey.records import (
    Record,
    append_record,
    lines_of,
    percent,
    read_records,
    select,
    setting,
)
from benchmarks.train.passkey.run import README
from benchmarks.train.passkey.training import Training, draw_prose, shut_first_layer
from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.model.convert import convert
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.train.perplexity import shut_gates_for_now

MARKS = Marks("bench-converted")
_HELD_OUT = 0.1
_STEPS_SHOWN = 50
_ROWS_AT_ONCE = 32


def read_prose() -> tuple[Tensor, Tensor]:
    """Return the tokens of CPython's reference to train on, and of its last tenth."""
    text = "\n".join(topics.values())
    tokens = torch.tensor(byte_tokenizer()(text, verbose=False)["input_ids"])
    held_out = round(len(tokens) * _HELD_OUT)
    return tokens[:-held_out], tokens[-held_out:]


@torch.no_grad()
def perplexity(model: Any, prose: Tensor, window: int) -> float:
    """Return the perplexity of a model that reads each window by itself.

    Args:
        model: The model.
        prose: Tokens, `(bytes,)`.
        window: Of how many bytes.
    """
    model.eval()
    count = (len(prose) - 1) // window
    inputs, targets = prose[: count * window].view(-1, window), prose[1 : count * window + 1].view(-1, window)
    loss = 0.0
    for rows, expected in zip(inputs.split(_ROWS_AT_ONCE), targets.split(_ROWS_AT_ONCE), strict=True):
        logits = model(rows, use_cache=False).logits.flatten(0, 1)
        loss += float(nn.functional.cross_entropy(logits, expected.flatten(), reduction="sum"))
    return math.exp(loss / targets.numel())


def train_llama(plan: Plan, prose: Tensor, folder: Path) -> None:
    """Train a stock Llama on windows of prose and write it with its tokenizer.

    Args:
        plan: How.
        prose: Tokens to train on.
        folder: Where it is written.
    """
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    shape: dict[str, Any] = dict(plan.shape) | {"bos_token_id": None, "eos_token_id": None}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=plan.window, **shape)
    model: Any = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / plan.steps)
    model.train()
    for step in range(1, plan.steps + 1):
        rows = draw_prose(prose, plan.rows, plan.window, generator)
        loss = model(rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        _show("the Llama", plan.steps)(step, float(loss.detach()))
    incoming = folder.with_suffix(".incoming")
    model.save_pretrained(incoming)
    tokenizer.save_pretrained(incoming)
    incoming.rename(folder)


def _show(what: str, steps: int) -> Callable[[int, float], None]:
    def show(step: int, loss: float) -> None:
        if step % _STEPS_SHOWN == 0 or step == steps:
            click.echo(f"{what}: step {step}/{steps}  loss {loss:.4f}", err=True)

    return show


def measure(plan: Plan, work: Path, results: Path) -> None:
    """Train, convert, train on and ask, as far as that is not done.

    Args:
        plan: What to train and ask.
        work: Folder in which a folder of the models is made.
        results: File of the records.
    """
    folder = work / f"converted-{plan.digest}"
    folder.mkdir(parents=True, exist_ok=True)
    prose, held_out = read_prose()
    # The same bytes are counted in windows and in rows.
    row = plan.stages[-1].length
    held_out = held_out[: (len(held_out) - 1) // row * row + 1]
    if not (work / plan.llama).exists():
        train_llama(plan, prose, work / plan.llama)
    if not (folder / "before").exists():
        origin = {"trained": "by benchmarks/train/passkey/converted.py"}
        convert(
            work / plan.llama,
            folder / "before",
            segment_length=plan.window,
            gate_init=plan.gate_init,
            origin=origin,
        )
    note = _Notes(plan, results)
    llama = LlamaForCausalLM.from_pretrained(work / plan.llama, local_files_only=True)
    note({"kind": "perplexity", "model": "llama"}, lambda: {"windows": perplexity(llama, held_out, plan.window)})
    for name in ("before", "after"):
        if not (folder / name).exists():
            _train_on(plan, prose, folder)
        model = InfiniLlamaForCausalLM.from_pretrained(folder / name, local_files_only=True)
        note({"kind": "perplexity", "model": name}, partial(_perplexities, model, held_out, plan.window, row))
        for length, depth in product(plan.lengths, plan.depths):
            what = {"kind": "asking", "model": name, "length": length, "depth": depth, "asked": plan.keys}
            note(what, partial(_ask, folder / name, length, depth, plan.keys))


def _train_on(plan: Plan, prose: Tensor, folder: Path) -> None:
    """Train the converted model on, into `folder`/after."""
    model = InfiniLlamaForCausalLM.from_pretrained(folder / "before", local_files_only=True)
    model.config.memory_write_spread = plan.spread
    shut_first_layer(model)
    rates = {"learning_rate": plan.rate, "gate_learning_rate": plan.gate_rate}
    training = Training(model, plan.stages, folder / "training.pt", seed=0, prose=prose, **rates)
    training.run(_show("the converted model", sum(stage.steps for stage in plan.stages)))
    incoming = folder / "after.incoming"
    model.save_pretrained(incoming)
    incoming.rename(folder / "after")


def _perplexities(model: InfiniLlamaForCausalLM, prose: Tensor, window: int, row: int) -> dict[str, float]:
    """Return the perplexities in windows, in rows with the gates shut, and in rows; and how open the gates are."""
    gates = torch.cat([layer.self_attn.gate.bias.detach().sigmoid() for layer in model.model.layers])
    with shut_gates_for_now(model):
        shut = perplexity(model, prose, row)
    found = {"windows": perplexity(model, prose, window), "shut": shut, "rows": perplexity(model, prose, row)}
    return {**found, "least_gate": float(gates.min()), "most_gate": float(gates.max())}


def _ask(model: Path, length: int, depth: float, keys: int) -> dict[str, float]:
    return asdict(ask_apart(model, length, depth, keys))


class _Notes:
    """Writes down what is not written down yet."""

    def __init__(self, plan: Plan, results: Path) -> None:
        self._plan, self._results = plan.digest, results
        self._done = select(read_records(results), recipe=plan.digest)

    def __call__(self, what: Record, measure: Callable[[], Record]) -> None:
        if select(self._done, **what):
            return
        found = {**what, "recipe": self._plan, **measure()}
        append_record(self._results, found)
        click.echo(json.dumps(found), err=True)


def markdown(records: list[Record], plans: Sequence[Plan]) -> str:
    """Return the table, with a line for each model that was measured.

    Args:
        records: What was measured.
        plans: Plans of one Llama, and of the same rows.
    """
    rows = []
    for plan in plans:
        own, begun = select(records, recipe=plan.digest), f"gates at {1 / (1 + math.exp(-plan.gate_init)):.2g}"
        titles = {"before": f"converted, {begun}", "after": f"{begun}, trained on"}
        if plan is plans[0]:
            titles = {"llama": "Llama", **titles}
        for name, title in titles.items():
            rows += [_line(title, found, own, plan) for found in select(own, kind="perplexity", model=name)]
    plan = plans[0]
    row, depths = plan.stages[-1].length, ", ".join(f"{depth:.0%}" for depth in plan.depths)
    header = ["", f"windows of {plan.window}", "rows, gates shut", "rows", "gates"]
    header += [f"{length:,}" for length in plan.lengths]
    parts = [
        f"{setting()}. {plan.steps:,} steps of the Llama, {sum(stage.steps for stage in plan.stages):,} of a "
        "converted model. Perplexity by byte of prose that was held out, each window by itself and in rows of "
        f"{row:,} bytes; the share of the memory, least and most open gate; and passkeys of which all digits are "
        f"right, of {plan.keys} at each depth ({depths}), by the bytes of the row:",
        lines_of(header, rows),
    ]
    missing = [plan for plan in plans if not select(records, recipe=plan.digest, model="after", kind="perplexity")]
    if missing:
        begun = ", ".join(f"{1 / (1 + math.exp(-plan.gate_init)):.2g}" for plan in missing)
        parts.append(f"Not run to the end: gates that begin at {begun}.")
    return "\n\n".join(parts)


def _line(title: str, found: Record, records: list[Record], plan: Plan) -> list[str]:
    keys = [_keys(records, found["model"], length, plan) for length in plan.lengths]
    perplexities = [f"{found[kind]:.3f}" if kind in found else "" for kind in ("windows", "shut", "rows")]
    gates = f"{found['least_gate']:.3f}–{found['most_gate']:.3f}" if "least_gate" in found else ""
    return [title, *perplexities, gates, *keys]


def _keys(records: list[Record], model: str, length: int, plan: Plan) -> str:
    asked = {"kind": "asking", "model": model, "length": length, "asked": plan.keys}
    found = [percent(each["keys"]) for depth in plan.depths for each in select(records, **asked, depth=depth)]
    return ", ".join(found)


@click.command()
@click.option("--write", is_flag=True, help="Replace the table in infini_llama/README.md.")
@click.option("--report-only", is_flag=True, help="Measure nothing; make the table of what is there.")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("benchmarks/work/passkey"),
    show_default=True,
    help="Where models, states and records are kept; delete it to measure again.",
)
def main(write: bool, report_only: bool, work: Path) -> None:
    """Train, convert and ask what is not there yet, and print or write the table."""
    torch.set_num_threads(1)
    work = work.absolute()
    results = work / "converted.jsonl"
    if not report_only:
        for plan in PLANS:
            measure(plan, work, results)
    text = markdown(read_records(results), PLANS)
    click.echo(text)
    if write:
        MARKS.write(README, text)


if __name__ == "__main__":
    main()
