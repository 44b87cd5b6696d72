"""The table of `make bench-passkey`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from benchmarks.train.passkey.records import Record, lines_of, percent, select, setting


def markdown(
    records: Iterable[Record],
    variants: Sequence[str],
    seeds: Sequence[int],
    lengths: Sequence[int],
    depths: Sequence[float],
    keys: int,
) -> str:
    """Return what was answered by length and depth, how the models were trained, and what is missing.

    Args:
        records: Of one recipe for each variant.
        variants: Names in their order.
        seeds: Of the trainings.
        lengths: Of the rows in bytes.
        depths: Places of the passkey.
        keys: Passkeys for each figure.
    """
    asked = select(records := list(records), kind="asking", asked=keys)
    rows, missing = [], []
    for name, seed in product(variants, seeds):
        if not select(asked, variant=name, seed=seed):
            missing.append(f"{name}, seed {seed}")
    for name, seed, length in product(variants, seeds, lengths):
        here = select(asked, variant=name, seed=seed, length=length)
        by_depth = {each["depth"]: each for each in here}
        lacking = [f"{depth:.0%}" for depth in depths if depth not in by_depth]
        if lacking and f"{name}, seed {seed}" not in missing:
            missing.append(f"{name}, seed {seed}, {length:,} bytes at {', '.join(lacking)}")
        if here:
            cells = [_cell(by_depth[depth]) if depth in by_depth else "" for depth in depths]
            rows.append([name, str(seed), f"{length:,}", *cells, _peaks(here), _speed(here)])
    header = ["update", "seed", "bytes", *(f"{depth:.0%}" for depth in depths), "peak memory", "bytes a second"]
    parts = [
        f"{setting()}. Passkeys of which all digits are right, of {keys} for each figure, by their depth; in brackets "
        "the share of digits, where that is another:",
        lines_of(header, rows),
        *_trainings(records, variants, seeds),
    ]
    if missing:
        parts.append(f"Not run: {'; '.join(missing)}.")
    return "\n\n".join(parts)


def _cell(answers: Record) -> str:
    keys, digits = percent(answers["keys"]), percent(answers["digits"])
    return keys if keys == digits else f"{keys} ({digits})"


def _peaks(answers: Sequence[Record]) -> str:
    """Return the memory of the processes that read rows of one length, in MB."""
    peaks = [each["peak_bytes"] / 1e6 for each in answers]
    low, high = f"{min(peaks):.0f}", f"{max(peaks):.0f}"
    return f"{low} MB" if low == high else f"{low}–{high} MB"


def _speed(answers: Sequence[Record]) -> str:
    read = sum(each["length"] * each["asked"] for each in answers)
    return f"{read / max(sum(each['seconds'] for each in answers), 0.1):,.0f}"


def _trainings(records: Iterable[Record], variants: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Return a table of the trainings, if there are any."""
    records = select(records, kind="training")
    found = [each for name, seed in product(variants, seeds) for each in select(records, variant=name, seed=seed)]
    rows = [
        [
            each["variant"],
            str(each["seed"]),
            f"{each['parameters']:,}",
            f"{each['steps']:,}",
            f"{each['loss']:.2g}",
        ]
        for each in found
    ]
    header = ["update", "seed", "parameters", "steps", "loss of the answers at the end"]
    return [lines_of(header, rows)] if rows else []
