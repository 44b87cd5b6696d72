"""`make gpu-check`: does the model hold on a card, and how fast is it there; eight minutes at most.

    python -m benchmarks.gpu.check [--output gpu.json] [--write]      where the card is, at the root of this repository
    python -m benchmarks.gpu.check --from gpu.json --write            later, elsewhere
    python -m benchmarks.gpu.check --device cpu --tiny                tries all parts of it, without a card

Where the card is it needs torch and transformers, and flash-attn if that is to be measured; nothing is installed or
downloaded. Each part has its own process and a limit of time: a part that fails keeps its reason, and the rest goes on.
The results are written after every part.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu import equality, report, speed
from benchmarks.gpu.boxed import Part, Row, run_boxed
from benchmarks.gpu.sizes import FULL, TINY, Sizes, fused_implementations

_ROOT = Path(__file__).parents[2]
_SECONDS = 8 * 60
_RESULTS = _ROOT / "benchmarks" / "gpu.json"
# What a part may take, in seconds; together less than `_SECONDS`, with one attention more.
_LIMITS = {"device": 30, "equality": 60, "compile": 90, "training": 55, "decoding": 45}


def parts(device: torch.device, sizes: Sizes) -> Iterator[tuple[str, Part]]:
    """Yield the name and the work of each part, the most important first."""
    yield "device", partial(speed.describe, device, sizes)
    yield "equality", partial(equality.check_equality, device)
    # Asked in the child that has the device: the parent must not touch it.
    for variant in ("linear", "llama", "delta"):
        yield f"training, {variant}, sdpa", partial(speed.train, device, sizes, variant, "sdpa")
    for variant in ("linear", "llama"):
        yield f"decoding, {variant}", partial(speed.decode, device, sizes, variant)
    for variant in ("linear", "llama"):
        yield f"training, {variant}, flash", partial(_train_with_flash, device, sizes, variant)
    yield "compile", partial(speed.compile_and_train, device, sizes)


def _train_with_flash(device: torch.device, sizes: Sizes, variant: str) -> Iterator[Row]:
    """Yield the rows of a training with flash attention; none where it is not installed."""
    for attention in fused_implementations(device)[1:]:
        yield from speed.train(device, sizes, variant, attention)


def run(device: torch.device, sizes: Sizes, output: Path | None, seconds: float = _SECONDS) -> dict[str, Any]:
    """Run all parts, and return what they found.

    Args:
        device: Where.
        sizes: How large.
        output: JSON file that is written after each part; None for none.
        seconds: When to stop.
    """
    begun = time.monotonic()
    found: dict[str, list[Row]] = {}
    results: dict[str, Any] = {"about": {}, "parts": found}
    for name, part in parts(device, sizes):
        left = seconds - (time.monotonic() - begun)
        rows = found.setdefault(name, [])
        limit = min(left, _LIMITS[name.partition(",")[0]])
        for row in run_boxed(part, limit) if limit > 0 else [{"failed": "no time was left"}]:
            sys.stderr.write(f"{name}: {json.dumps(row)}\n")
            rows.append(row)
        results["about"] = {
            "date": str(datetime.datetime.now(datetime.UTC).date()),
            "device": f"{platform.machine()} CPU" if device.type == "cpu" else device.type,
            "tiny": sizes is TINY,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "seconds": round(time.monotonic() - begun, 1),
        }
        if output is not None:
            output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def failures(results: dict[str, Any]) -> list[str]:
    """Return the parts that did not end well, and the equalities that do not hold."""
    return [
        f"{name}: {row.get('failed') or row['what']}"
        for name, rows in results["parts"].items()
        for row in rows
        if "failed" in row or not row.get("holds", True)
    ]


def main() -> None:
    """Run the check, or read its results; print the tables, and exit with 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu with --tiny")
    parser.add_argument("--tiny", action="store_true", help="sizes that only try the script")
    parser.add_argument("--output", type=Path, help="JSON file; benchmarks/gpu.json unless --tiny")
    parser.add_argument("--from", dest="given", type=Path, help="read this JSON file instead of running anything")
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md too")
    options = parser.parse_args()
    if options.given:
        results = json.loads(options.given.read_text())
    else:
        if options.tiny:
            torch.set_num_threads(1)
        output = options.output or (None if options.tiny else _RESULTS)
        results = run(torch.device(options.device), TINY if options.tiny else FULL, output)
    text = report.section(results)
    sys.stdout.write(f"{text}\n")
    if options.write:
        report.MARKS.write(_ROOT / "benchmarks" / "README.md", text)
    if wrong := failures(results):
        sys.exit("does not hold:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
