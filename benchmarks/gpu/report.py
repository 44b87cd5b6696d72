"""What the check has found, as a section of benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.gpu.boxed import Row
from benchmarks.lib.marks import Marks

MARKS = Marks("gpu-check")
# Dense bfloat16 of the data sheets, in TFLOP/s, by a word of the device's name; the first that fits.
_PEAKS = {"B200": 2250, "H200": 989, "H100": 989, "L40S": 362, "A100": 312, "A10": 125, "L4": 121}
_NAMES = {"llama": "Llama", "linear": "ours, linear", "delta": "ours, delta"}


def section(results: dict[str, Any]) -> str:
    """Return the section.

    Args:
        results: The content of the JSON file: `about` the run, and `parts`, by name, with their rows.
    """
    about, parts = results["about"], results["parts"]
    (machine, *_) = [*_rows(parts, "device"), {}]
    lines = [_conditions(about, machine), ""]
    broken = [f"- **{name}**: {row['failed']}" for name, rows in parts.items() for row in rows if "failed" in row]
    if broken:
        lines += ["Parts that did not end well; what they had found by then stands below:", "", *broken, ""]
    lines += ["### Equalities", "", *_equalities(_rows(parts, "equality")), ""]
    lines += ["### Compiled", "", *_compiled(_rows(parts, "compile")), ""]
    trained = [row for name in parts if name.startswith("training") for row in _rows(parts, name)]
    lines += ["### Training", "", *_training(trained, machine), ""]
    decoded = [row for name in parts if name.startswith("decoding") for row in _rows(parts, name)]
    lines += ["### Decoding", "", *_decoding(decoded)]
    return "\n".join(lines)


def _rows(parts: dict[str, list[Row]], name: str) -> list[Row]:
    return [row for row in parts.get(name, []) if "failed" not in row]


def _conditions(about: dict[str, Any], machine: Row) -> str:
    device = machine.get("device", about["device"])
    memory = f", {machine['memory_gib']:.0f} GiB, CUDA {machine['cuda']}" if "memory_gib" in machine else ""
    gemm = f" Its own product of matrices: {machine['gemm_tflops']:.1f} TFLOP/s in bfloat16." if machine else ""
    tiny = " **Tiny sizes, which try the script; no figure means anything.**" if about["tiny"] else ""
    return (
        f"{about['date']}, {device}{memory}; torch {about['torch']}, transformers {about['transformers']}, Python "
        f"{about['python']}; {about['seconds']:.0f} s in all.{gemm}{tiny}"
    )


def _equalities(rows: Sequence[Row]) -> list[str]:
    """Return a line for each comparison: the worst of all attentions, by type."""
    cells: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        cells.setdefault(row["what"], {}).setdefault(row["dtype"], []).append(row)
    table = [
        [what, *(_worst(by_dtype.get(dtype, [])) for dtype in ("float32", "bfloat16"))]
        for what, by_dtype in cells.items()
    ]
    attentions = ", ".join(dict.fromkeys(row["attention"] for row in rows))
    if not rows:
        return ["Not done."]
    return [
        f"By {attentions}; the difference by the length of what is compared with.",
        "",
        *_table(["", "float32", "bfloat16"], table),
    ]


def _worst(rows: Sequence[Row]) -> str:
    if not rows:
        return "–"
    wrong = [row for row in rows if not row.get("holds", True)]
    worst = max(wrong or rows, key=lambda row: float(row["difference"]))
    verdict = f", **{worst['allowed']:.1e} allowed, by {worst['attention']}**" if wrong else ""
    return f"{worst['difference']:.1e}{verdict}"


def _compiled(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["Not done."]
    (row,) = rows
    return [
        f"`torch.compile`, {row['tokens']:,} tokens: forward and backward {row['eager_over_compiled']:.2f} × as fast, "
        f"after {row['first_call_seconds']:.0f} s of compiling; the loss differs by {row['loss_difference']:.1e} of it."
    ]


def _training(rows: Sequence[Row], machine: Row) -> list[str]:
    if not rows:
        return ["Not done."]
    name = str(machine.get("device", ""))
    peak = next((value for word, value in _PEAKS.items() if word in name), None)
    reference = peak or machine.get("gemm_tflops")
    of_what = "the data sheet's peak" if peak else "its own product of matrices"
    table = [
        [
            f"{row['tokens']:,}",
            f"{_NAMES[row['variant']]}, {row['attention'].removesuffix('_attention_2')}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['tflops']:.1f}",
            f"{row['tflops'] / reference:.0%}" if reference else "–",
            _gib(row),
        ]
        for row in sorted(rows, key=lambda row: int(row["tokens"]))
    ]
    heading = ["tokens of the row", "", "tokens/s", "TFLOP/s", f"MFU, of {of_what}", "peak, GiB"]
    return _table(heading, table)


def _decoding(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["Not done."]
    table = [
        [
            f"{row['tokens']:,}",
            _NAMES[row["variant"]],
            f"{row['read_per_second']:,.0f}",
            f"{row['ms_per_token']:.2f}",
            f"{row['state_mib']:,.2f}",
            _gib(row),
        ]
        for row in sorted(rows, key=lambda row: int(row["tokens"]))
    ]
    return _table(["context", "", "tokens/s read", "ms per token", "state, MiB", "peak, GiB"], table)


def _gib(row: Row) -> str:
    return "–" if row["peak_gib"] is None else f"{row['peak_gib']:.1f}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
