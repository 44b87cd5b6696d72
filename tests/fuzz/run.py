"""`make fuzz`: every target for some time, each in a process of its own, and a table of what came of it.

Inputs that reach new code are kept in `.fuzz/corpus`, and the next run starts from them; an input that ends in anything
but an answer or an error of ours, takes more than 5 s, or 300 MB beyond the interpreter, is kept in `.fuzz/found`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bundler.files.parallel import available_cores
from tests.fuzz.corpus import make_seeds
from tests.fuzz.known import NAMES

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".fuzz"
# Longer inputs only slow the search down; what a long file can do is tests/hostile/test_bounds.py's.
_MAX_BYTES = 1 << 15
_BEGIN, _END = "<!-- begin: written by `make fuzz FUZZ_FLAGS=--write`, do not edit -->", "<!-- end -->"


@dataclass(frozen=True)
class Outcome:
    """What came of one target.

    Attributes:
        name: Its name.
        executions: How many inputs it was given.
        peak_mib: The most memory that it took, beyond what it took before the first input.
        found: What was found, or an empty text.
    """

    name: str
    executions: int
    peak_mib: int
    found: str


def fuzz(name: str, seconds: int) -> Outcome:
    """Run one target for so many seconds."""
    corpus, found = WORK / "corpus" / name, WORK / "found"
    found.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.child", name, str(corpus), f"-max_total_time={seconds}"]
    options = [f"-max_len={_MAX_BYTES}", f"-artifact_prefix={found}/{name}-"]
    done = subprocess.run([*command, *options], capture_output=True, check=False, cwd=ROOT)
    said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")

    def number(key: str) -> int:
        match = re.search(rf"{key}: +(\d+)", said)
        return int(match[1]) if match else 0

    # Of what was found, the error is in the middle, before libFuzzer's own lines.
    tail = "" if done.returncode == 0 else f"exit code {done.returncode}\n{said[-4000:]}"
    peak = max(0, number("stat::peak_rss_mb") - number("base_rss_mb"))
    return Outcome(name, number("stat::number_of_executed_units"), peak, tail)


def write_seeds() -> None:
    """Add the seeds to the inputs that are kept."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name, seeds in make_seeds(Path(folder)).items():
            corpus = WORK / "corpus" / name
            corpus.mkdir(parents=True, exist_ok=True)
            for seed in seeds:
                (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def write_table(outcomes: list[Outcome], seconds: int) -> str:
    """Return the table for SECURITY.md."""
    rows = [f"| {each.name} | {each.executions:,} | {each.peak_mib} |" for each in outcomes]
    total = sum(each.executions for each in outcomes)
    what = ", ".join(each.name for each in outcomes if each.found) or "nothing"
    return "\n".join(
        [
            f"With `make fuzz FUZZ_SECONDS={seconds}`, {total:,} inputs; {what} was found:",
            "",
            "| target | inputs | MiB at most, beyond the interpreter |",
            "| --- | --- | --- |",
            *rows,
        ]
    )


def main() -> None:
    """Run the targets that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=NAMES, help="default all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target; default 60")
    parser.add_argument(
        "--jobs", type=int, default=available_cores(), help="processes at a time; default all cores"
    )
    parser.add_argument("--write", action="store_true", help="write the table into SECURITY.md")
    arguments = parser.parse_args()
    write_seeds()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(pool.map(lambda name: fuzz(name, arguments.seconds), arguments.targets))
    table = write_table(outcomes, arguments.seconds)
    print(table)
    if found := [each for each in outcomes if each.found]:
        for each in found:
            print(f"\n{each.name}: {each.found}", file=sys.stderr)
        sys.exit(f"found: {', '.join(each.name for each in found)}; inputs are in {WORK / 'found'}")
    if arguments.write:
        page = ROOT / "SECURITY.md"
        before, _, rest = page.read_text().partition(_BEGIN)
        page.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{rest.partition(_END)[2]}")


if __name__ == "__main__":
    main()
