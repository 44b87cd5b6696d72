"""What `make bench-train` measured, as Markdown for benchmarks/README.md and as a plot. Every figure is a reading's."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.lib.marks import Marks
from benchmarks.lib.svg import draw, draw_text
from benchmarks.train.child import SHAPE

MARKS = Marks("bench-train")
NAMES = {
    "llama": "Llama, SDPA",
    "lucidrains": "infini-transformer-pytorch",
    "ours": "ours",
    "ours-whole-row": "ours, whole row",
}
SPEED_LENGTHS = (2048, 8192, 16384)
MEMORY_LENGTHS = (4096, 65536)
DECODE_LENGTHS = (2048, 16384, 131072)
# Measured at one length only.
COMPILED = ("train", "ours-compiled", SPEED_LENGTHS[-1])
PRODUCT = ("multiply", "matrices", 1024)
_COLOURS = {"llama": "#6b7785", "lucidrains": "#a8701f", "ours": "#0b7a4b", "ours-whole-row": "#4f9c7c"}

# (action, variant, tokens) -> one reading per round, by name of the figure
Case = tuple[str, str, int]
Readings = dict[Case, list[dict[str, float]]]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under which the readings were taken.

    Attributes:
        machine: As `machine.describe` gives it.
        ours: Packages and versions of our environment.
        peers: Those of the peer's.
        rounds: Of all jobs.
        load_before: Load averages of 1, 5 and 15 minutes.
        load_after: The same at the end.
    """

    machine: dict[str, str | int | list[str]]
    ours: list[str]
    peers: list[str]
    rounds: int
    load_before: list[float]
    load_after: list[float]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A goal, and what came of it.

    Attributes:
        title: What is compared.
        bound: In words.
        ratios: One of each round.
        reached: Whether their median keeps the bound.
    """

    title: str
    bound: str
    ratios: list[float]
    reached: bool


def targets(readings: Readings) -> list[Target]:
    """Return the goals of training and decoding."""
    longest, (short, long) = SPEED_LENGTHS[-1], MEMORY_LENGTHS
    first, last = DECODE_LENGTHS[0], DECODE_LENGTHS[-1]
    ours, speed = ("train", "ours", longest), "tokens_per_cpu_second"

    def target(title: str, of: Case, to: Case, figure: str, bound: str, keeps: Callable[[float], bool]) -> Target:
        ratios = [a[figure] / b[figure] for a, b in zip(readings[of], readings[to], strict=True)]
        return Target(title=title, bound=bound, ratios=ratios, reached=keeps(statistics.median(ratios)))

    return [
        target(
            f"training, tokens per CPU second at {longest:,} tokens: ours over Llama",
            *(ours, ("train", "llama", longest), speed, "≥ 4.5", lambda r: r >= 4.5),
        ),
        target(
            f"training, tokens per CPU second at {longest:,} tokens: ours over infini-transformer-pytorch",
            *(ours, ("train", "lucidrains", longest), speed, "≥ 1.5", lambda r: r >= 1.5),
        ),
        target(
            f"training, operations per CPU second at {longest:,} tokens: ours over a product of matrices",
            *(ours, PRODUCT, "gflops", "≥ 0.6", lambda r: r >= 0.6),
        ),
        target("the same, compiled", *(COMPILED, PRODUCT, "gflops", "≥ 0.6", lambda r: r >= 0.6)),
        target(
            f"training, peak memory: {long:,} tokens over {short:,}",
            *(("train", "ours", long), ("train", "ours", short), "peak_mib", "≤ 1.15", lambda r: r <= 1.15),
        ),
        target(
            f"decoding, ms per token: after {last:,} tokens over after {first:,}",
            *(("decode", "ours", last), ("decode", "ours", first), "ms_per_token", "≤ 1.1", lambda r: r <= 1.1),
        ),
    ]


def section(readings: Readings, conditions: Conditions) -> str:
    """Return what stands between the markers."""
    lines = [_conditions(conditions), "", "![Tokens per CPU second of training, by length](train.svg)", ""]
    lines += ["| figure | at least | measured | |", "| --- | --- | --- | --- |"]
    for goal in targets(readings):
        low, middle, high = min(goal.ratios), statistics.median(goal.ratios), max(goal.ratios)
        verdict = "reached" if goal.reached else "**not reached**"
        lines.append(f"| {goal.title} | {goal.bound} | {middle:.2f} × [{low:.2f}–{high:.2f}] | {verdict} |")
    compiled, product = (
        _figure(readings, case, figure)
        for case, figure in ((COMPILED, "tokens_per_cpu_second"), (PRODUCT, "gflops"))
    )
    lines += [
        "",
        f"A product of matrices of {PRODUCT[2]:,} x {PRODUCT[2]:,} makes {product} GFLOP per CPU second. Compiled, "
        f"ours trains {compiled} tokens of {COMPILED[2]:,} per CPU second.",
        "",
        "Training, tokens per CPU second, and by how many MiB the step raised the peak of resident memory:",
        "",
    ]
    lines += ["| tokens | " + " | ".join(NAMES.values()) + " |", "| --- |" + " --- |" * len(NAMES)]
    for length in sorted({length for action, _, length in readings if action == "train"}):
        cells = (_cell(readings, ("train", v, length), "tokens_per_cpu_second", 0, "growth_mib", 0) for v in NAMES)
        lines.append(f"| {length:,} | " + " | ".join(cells) + " |")
    lines += ["", "Decoding, CPU milliseconds per token, and MiB of state after so many tokens:", ""]
    lines += [f"| context | {NAMES['llama']} | {NAMES['ours']} |", "| --- | --- | --- |"]
    for length in DECODE_LENGTHS:
        cells = (
            _cell(readings, ("decode", v, length), "ms_per_token", 1, "state_mib", 2) for v in ("llama", "ours")
        )
        lines.append(f"| {length:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def decision(readings: Readings) -> str:
    """Return the tables of the decision about truncated back-propagation: what the cut saves."""
    cut, whole = "ours", "ours-whole-row"
    lines = ["| tokens in a row | cut | whole row |", "| --- | --- | --- |"]
    lengths = sorted({length for action, variant, length in readings if (action, variant) == ("train", cut)})
    for length in lengths:
        cells = (_figure(readings, ("train", variant, length), "growth_mib") for variant in (cut, whole))
        lines.append(f"| {length:,} | " + " | ".join(cells) + " |")
    longest = SPEED_LENGTHS[-1]
    fast, slow = (_figure(readings, ("train", v, longest), "tokens_per_cpu_second") for v in (cut, whole))
    lines += [
        "",
        f"At {longest:,} tokens the cut also trains {fast} tokens per CPU second, where the whole row trains {slow}.",
    ]
    return "\n".join(lines)


def _figure(readings: Readings, case: Case, figure: str) -> str:
    return f"{_median(readings, case, figure):,.0f}" if case in readings else "–"


def plot(readings: Readings) -> str:
    """Return tokens per CPU second by length, a line per variant, as SVG."""
    width, height, left, top, bottom, apart = 760, 300, 60, 48, 40, 210
    speeds = {
        v: [_median(readings, ("train", v, n), "tokens_per_cpu_second") for n in SPEED_LENGTHS] for v in NAMES
    }
    scale = (height - top - bottom) / max(max(values) for values in speeds.values())
    xs = [left + i * apart for i in range(len(SPEED_LENGTHS))]
    title = "Training: tokens per CPU second, by tokens of the sequence"
    parts = [
        draw_text(14, 24, title, size=14, weight="600"),
        f'<line x1="{left}" y1="{height - bottom}" x2="{xs[-1]}" y2="{height - bottom}" stroke="#cbd2d9"/>',
    ]
    for x, length in zip(xs, SPEED_LENGTHS, strict=True):
        parts.append(draw_text(x, height - 16, f"{length:,}", anchor="middle"))
    lowest = float(height)
    # From the lowest line up, so that no label covers the one below it.
    for variant, values in sorted(speeds.items(), key=lambda item: item[1][-1]):
        ys = [height - bottom - value * scale for value in values]
        points = " ".join(f"{x},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        lowest = min(ys[-1] + 4, lowest - 15)
        colour, label = _COLOURS[variant], f"{NAMES[variant]}: {values[-1]:,.0f}"
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(draw_text(xs[-1] + 10, round(lowest, 1), label, colour=colour))
    return draw(width, height, parts)


def _conditions(conditions: Conditions) -> str:
    about, before, after = conditions.machine, conditions.load_before, conditions.load_after
    text = (
        f"{datetime.date.today()}, commit {about['commit']}. {about['cpu']}, {about['cores']} cores, one used, "
        f"{about['kernel']}, Python {about['python']}, {', '.join(conditions.ours)}; peer: "
        f"{', '.join(conditions.peers)}. {SHAPE['layers']} layers of width {SHAPE['width']}, {SHAPE['heads']} heads, "
        f"{SHAPE['vocabulary']:,} tokens in the vocabulary, segments of {SHAPE['segment']}, back-propagation cut every "
        f"{SHAPE['backprop_segments']} segments. {conditions.rounds} rounds. Load averages (1, 5, 15 min): before "
        f"{' '.join(map(str, before))}; after {' '.join(map(str, after))}."
    )
    # The bench itself keeps one core busy.
    if before[0] > 0.5 or after[1] > 1.5:
        text += " **The machine was busy with other work meanwhile: memory holds, CPU times less so.**"
    return text


def _median(readings: Readings, case: Case, figure: str) -> float:
    return statistics.median(reading[figure] for reading in readings[case])


def _cell(readings: Readings, case: Case, figure: str, digits: int, second: str, second_digits: int) -> str:
    if case not in readings:
        return "–"
    return (
        f"{_median(readings, case, figure):,.{digits}f}, {_median(readings, case, second):,.{second_digits}f} MiB"
    )
