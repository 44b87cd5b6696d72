"""From runs to figures: medians, ratios within a round, and the targets.

Pure functions on what `benchmarks.pack.run` writes to results.json; no file is read here, nothing measured.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]

OURS = "bundle"
GENERATED = "generated-bf16"
LARGE = "generated-bf16-large"
# The goals of the comparison; a figure is at least this good, or the table says that it is not.
SIZE_TO_ENTROPY = 1.01
PACK_TO_TAR = 3.0
FETCH_TO_TAR = 2.2
INSTALL_TO_TAR = 3.0
VERIFY_TO_OPENSSL = 4.0
PEAK_BYTES = 300_000_000
TWO_JOBS_TO_ONE = 1.7


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Target:
    """One goal and what was measured; `reached` is None where it was not measured."""

    figure: str
    goal: str
    measured: str
    reached: bool | None


def runs(results: Results, case: str, tool: str, action: str) -> list[dict[str, Any]]:
    """Return the runs of one tool; empty where there are none."""
    cell = results["cases"].get(case, {}).get("tools", {}).get(tool, {}).get(action, {})
    found = cell.get("runs", [])
    assert isinstance(found, list)
    return found


def spread(results: Results, case: str, tool: str, action: str, key: str) -> Spread | None:
    """Summarise one measure of one tool over all rounds."""
    values = [float(run[key]) for run in runs(results, case, tool, action)]
    return Spread.of(values) if values else None


def ratio(
    results: Results, case: str, action: str, *, of: str, to: str, key: str = "wall_seconds"
) -> Spread | None:
    """Summarise the quotients of two tools' runs, each of one round."""
    divisors = {run["round"]: run[key] for run in runs(results, case, to, action)}
    quotients = [
        run[key] / divisors[run["round"]] for run in runs(results, case, of, action) if divisors.get(run["round"])
    ]
    return Spread.of(quotients) if quotients else None


def peak(results: Results, case: str, tool: str) -> float | None:
    """Return the highest peak memory of any run of a tool on a case."""
    peaks = [
        run["peak_bytes"] for action in ("pack", "install", "verify") for run in runs(results, case, tool, action)
    ]
    return max(peaks) if peaks else None


def targets(results: Results) -> list[Target]:
    """Compare what was measured with the goals."""
    found = [_entropy(results, case) for case in ("minilm-bf16", GENERATED)]
    found += [_beside_zipnn(results, case) for case in ("minilm-fp32", "minilm-fp16")]
    tar = "tar | zstd -3"
    found.append(_speed(results, "pack, hashing included", "pack", tar, PACK_TO_TAR))
    found.append(_speed(results, "install, verification included", "install", tar, INSTALL_TO_TAR))
    found.append(_speed(results, "verify an installed bundle", "verify", "openssl dgst", VERIFY_TO_OPENSSL))
    found += [_peak(results, case) for case in (GENERATED, LARGE)]
    found += [_jobs(results, action) for action in ("pack", "install", "verify")]
    found += [_refetch(results), _repack(results)]
    return found


def _title(results: Results, case: str) -> str:
    return str(results["cases"][case]["title"]) if case in results["cases"] else case


def _entropy(results: Results, case: str) -> Target:
    figure, goal = f"size, {_title(results, case)}", f"≤ {SIZE_TO_ENTROPY} × order-0 entropy"
    size = spread(results, case, OURS, "pack", "size_bytes")
    bound = results["cases"].get(case, {}).get("entropy", {}).get("bound_bytes")
    if size is None or not bound:
        return Target(figure, goal, "not measured", None)
    value = size.median / bound
    return Target(figure, goal, f"{value:.4f} ×", value <= SIZE_TO_ENTROPY)


def _beside_zipnn(results: Results, case: str) -> Target:
    figure, goal = f"size, {_title(results, case)}", "≤ zipnn's"
    value = ratio(results, case, "pack", of=OURS, to="zipnn", key="size_bytes")
    if value is None:
        return Target(figure, goal, "not measured", None)
    return Target(figure, goal, f"{value.median:.4f} × zipnn's", value.median <= 1)


def _speed(results: Results, figure: str, action: str, other: str, goal: float) -> Target:
    wanted = f"≥ {goal:g} × as fast as `{other}`"
    value = ratio(results, GENERATED, action, of=other, to=OURS)
    if value is None:
        return Target(figure, wanted, "not measured", None)
    return Target(figure, wanted, times(value), value.median >= goal)


def _peak(results: Results, case: str) -> Target:
    figure, goal = f"peak memory, {_title(results, case)}", f"≤ {PEAK_BYTES // 1_000_000} MB"
    value = peak(results, case, OURS)
    if value is None:
        return Target(figure.replace(LARGE, "16 GB"), goal, "not measured (`BENCH_FLAGS=--large`)", None)
    return Target(figure, goal, f"{value / 1e6:.0f} MB", value <= PEAK_BYTES)


def _jobs(results: Results, action: str) -> Target:
    figure, goal = f"two jobs against one, {action}", f"≥ {TWO_JOBS_TO_ONE} ×"
    value = ratio(results, GENERATED, action, of=f"{OURS} -j 1", to=f"{OURS} -j 2")
    if value is None:
        return Target(figure, goal, "not measured", None)
    return Target(figure, goal, times(value), value.median >= TWO_JOBS_TO_ONE)


def _refetch(results: Results) -> Target:
    """A further fetch, less start, resolving and proof, against hashing the files once with openssl."""
    figure = "fetch of what is fetched and packed, less dry run and proof"
    goal = "≤ 1 × `openssl dgst -sha256` of the files"
    rounds = results.get("fetch", {}).get("rounds", [])
    if not rounds:
        return Target(figure, goal, "not measured", None)
    value = Spread.of([refetch_seconds(item) / item["openssl"]["wall_seconds"] for item in rounds])
    return Target(figure, goal, times(value), value.median <= 1)


def _repack(results: Results) -> Target:
    """A further fetch that has to pack, all of it, against what packs the same files."""
    figure, goal = "fetch of what is fetched but not packed", f"≥ {FETCH_TO_TAR:g} × as fast as `tar | zstd -3`"
    rounds = results.get("fetch", {}).get("rounds", [])
    if not rounds:
        return Target(figure, goal, "not measured", None)
    value = Spread.of([item["tar"]["wall_seconds"] / item["packing"]["wall_seconds"] for item in rounds])
    return Target(figure, goal, times(value), value.median >= FETCH_TO_TAR)


def refetch_seconds(item: dict[str, Any]) -> float:
    """Return what a further fetch took without what a dry run does, and without the proof."""
    again, dry = item["again"], item["dry_run"]
    return max(0.0, float(again["wall_seconds"] - again["proof_seconds"] - dry["wall_seconds"]))


def times(value: Spread) -> str:
    """Write a ratio: ``3.21 × [3.05–3.40]``."""
    return f"{value.median:.2f} × [{value.low:.2f}–{value.high:.2f}]"
