"""Ask a model for passkeys in rows of any length, in a process of its own, whose memory is looked at.

    python -m benchmarks.train.passkey.asking MODEL LENGTH DEPTH KEYS

Prints the answer as JSON. Rows are read as streams, a few segments at a time, and a process reads rows of one length
only: the most memory that it had is what this length needs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.train.passkey.rows import ANSWER_LENGTH, Row, draw_keys, make_row, read_tokens
from infini_llama.model.cache import InfiniCache
from infini_llama.model.modeling import InfiniLlamaForCausalLM

# Other keys than those of a training, whose seeds are small.
_SEED = 1_000_000
_BYTES_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model answered at one length and depth.

    Attributes:
        digits: Share of digits that are right where all digits before them are given.
        keys: Share of passkeys all of whose digits are right; the model's own digits are then the same as the given.
        peak_bytes: Most memory that the process had.
        seconds: How long the reading took.
    """

    digits: float
    keys: float
    peak_bytes: int
    seconds: float


@torch.no_grad()
def ask(model: InfiniLlamaForCausalLM, rows: Sequence[Row]) -> tuple[float, float]:
    """Return the share of right digits, and that of passkeys that are right as a whole.

    Args:
        model: The model.
        rows: Rows of one length.
    """
    model.eval()  # type: ignore[no-untyped-call]
    cache = InfiniCache(model.config.num_hidden_layers)
    end = rows[0].length - ANSWER_LENGTH
    step = max(1, _BYTES_AT_ONCE // model.config.segment_length) * model.config.segment_length
    for begin in range(0, end, step):
        model(read_tokens(rows, begin, min(begin + step, end)), past_key_values=cache, logits_to_keep=1)
    answers = read_tokens(rows, end, end + ANSWER_LENGTH)
    found = model(answers[:, :-1], past_key_values=cache).logits.argmax(-1)
    right = found == answers[:, 1:]
    return float(right.float().mean()), float(right.all(dim=1).float().mean())


def rows_to_ask(length: int, depth: float, keys: int) -> list[Row]:
    """Return rows with passkeys of their own; the same for each model."""
    chance = torch.Generator().manual_seed(_SEED + round(1000 * depth))
    return [make_row(key, length, depth) for key in draw_keys(keys, chance)]


def ask_apart(model: Path, length: int, depth: float, keys: int) -> Answers:
    """Ask in a process of its own.

    Args:
        model: Folder of the model.
        length: Of the rows in bytes.
        depth: Place of the passkey.
        keys: Number of rows, with a passkey each.
    """
    words = [str(model), str(length), str(depth), str(keys)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train.passkey.asking", *words],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        check=True,
    )
    return Answers(**json.loads(done.stdout))


def main(words: Sequence[str]) -> None:
    """Ask, and write what was answered."""
    torch.set_num_threads(1)
    folder, length, depth, keys = Path(words[0]), int(words[1]), float(words[2]), int(words[3])
    model = InfiniLlamaForCausalLM.from_pretrained(folder, local_files_only=True)
    begun = time.perf_counter()
    digits, whole = ask(model, rows_to_ask(length, depth, keys))
    seconds = round(time.perf_counter() - begun, 1)
    peak = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert peak is not None, "the kernel tells the peak of each process"
    answers = Answers(digits=digits, keys=whole, peak_bytes=int(peak[1]) * 1024, seconds=seconds)
    sys.stdout.write(json.dumps(asdict(answers)))


if __name__ == "__main__":
    main(sys.argv[1:])
