"""What `make bench-recall` measured: a file with a line for each result, and the tables of infini_llama/README.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers

from benchmarks.lib import machine

LENGTHS = (2, 8, 32, 128, 512, 1024, 4096)
SEEDS = (0, 1, 2)
# Parts of the memory that are put back to what they were after the first segment.
CAUSES = ("M", "M and z")
# What falls below it anywhere is taken apart in a table of its own.
_WHOLE = 0.99


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one model answered.

    Attributes:
        variant: Name of the kind of model.
        seed: Of weights and rows.
        steps: Of the training.
        rows: Rows per length, four questions each.
        parameters: Of the model.
        state: Most numbers that are kept of one stream.
        train_seconds: How long the training took.
        loss: Mean of its last steps.
        accuracy: The share of right answers at each of `LENGTHS`.
        causes: For each of `CAUSES` the same, where what later segments did to it was undone; empty for other models.
    """

    variant: str
    seed: int
    steps: int
    rows: int
    parameters: int
    state: int
    train_seconds: float
    loss: float
    accuracy: tuple[float, ...]
    causes: dict[str, tuple[float, ...]]


def read_results(path: Path) -> list[Result]:
    """Return the results in a file; a last line that was cut off is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [_result(json.loads(line)) for line in lines]


def _result(found: dict[str, object]) -> Result:
    """Return a result of what JSON made of it, which has no tuples."""
    causes = found["causes"]
    assert isinstance(causes, dict), "what was written is read"
    tuples = {"accuracy": tuple(found["accuracy"]), "causes": {name: tuple(x) for name, x in causes.items()}}  # type: ignore[arg-type]
    return Result(**{**found, **tuples})  # type: ignore[arg-type]


def append_result(path: Path, result: Result) -> None:
    """Add a result to a file, in place of what a killed run began to write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before, end, _ = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    with path.open("ab") as file:
        file.truncate(len(before) + len(end))
        file.write(json.dumps(asdict(result)).encode() + b"\n")


def markdown(results: Iterable[Result], titles: Mapping[str, str], *, steps: int, rows: int) -> str:
    """Return the tables of those results that have these steps and rows, and what is missing among them.

    Args:
        results: What was measured.
        titles: Name of each kind of model in the tables, in their order.
        steps: Of the training.
        rows: Rows per length.
    """
    chosen = [each for each in results if (each.steps, each.rows) == (steps, rows)]
    by_variant = {
        name: sorted((each for each in chosen if each.variant == name), key=lambda each: each.seed)
        for name in titles
    }
    known = machine.describe(Path(__file__).parent)
    parts = [
        f"{known['cpu']}, torch {torch.__version__}, transformers {transformers.__version__}, one thread; {steps} "
        f"steps of 64 rows of 3 segments; {rows} rows of 4 questions for each figure; a guess is right in 0.063. By "
        "segments of the row:",
        _accuracy_table(by_variant, titles),
        _size_table(by_variant, titles),
    ]
    if lines := _cause_lines(by_variant, titles):
        parts += [
            "What falls below 0.99, where M, or M and z, are put back before the questions to what they were after the "
            "first segment; mean of the seeds:",
            "\n".join([_header("put back"), *lines]),
        ]
    there = {(each.variant, each.seed) for each in chosen}
    missing = [f"{titles[name]}, seed {seed}" for name in titles for seed in SEEDS if (name, seed) not in there]
    if missing:
        parts.append(f"Not run: {'; '.join(missing)}.")
    return "\n\n".join(parts)


def _header(second: str) -> str:
    return f"| | {second} | {' | '.join(f'{length:,}' for length in LENGTHS)} |\n{'| --- ' * (len(LENGTHS) + 2)}|"


def _line(title: str, second: str, shares: Iterable[float]) -> str:
    return f"| {title} | {second} | {' | '.join(f'{share:.3f}' for share in shares)} |"


def _accuracy_table(by_variant: Mapping[str, Sequence[Result]], titles: Mapping[str, str]) -> str:
    lines = [
        _line(titles[name], str(each.seed), each.accuracy) for name, found in by_variant.items() for each in found
    ]
    return "\n".join([_header("seed"), *lines])


def _size_table(by_variant: Mapping[str, Sequence[Result]], titles: Mapping[str, str]) -> str:
    lines = [
        "| | parameters | numbers kept of a stream, at most | loss at the end, by seed |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in by_variant.items():
        if found:
            losses = ", ".join(f"{each.loss:.2g}" for each in found)
            cells = [titles[name], f"{found[0].parameters:,}", f"{found[0].state:,}", losses]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cause_lines(by_variant: Mapping[str, Sequence[Result]], titles: Mapping[str, str]) -> list[str]:
    lines = []
    for name, found in by_variant.items():
        if any(each.causes and min(each.accuracy) < _WHOLE for each in found):
            lines.append(_line(titles[name], "nothing", _means([each.accuracy for each in found])))
            lines += [
                _line(titles[name], cause, _means([each.causes[cause] for each in found])) for cause in CAUSES
            ]
    return lines


def _means(shares: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*shares, strict=True)]
