"""Rows of bytes that hide a passkey: the text of `infini_llama/tasks/passkey.py`, with the answer at its end.

Rule book:

* a row has exactly the length that was asked for: the filler is cut where the question begins. Rows of one length are
  at one position in their segments, so that many are read at once;
* the passkey stands after a whole sentence of filler;
* a row is a list of its parts and not a string, so that of a million bytes only those exist that are read just now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.tasks.passkey import FILLER, KEY, QUESTION, TASK

DIGITS = 5
# The share of rows to train on with the passkey at the begin, and of those with it at the end: in long rows hardly any
# is there by chance, and asked there a model was no better than a guess.
_AT_EACH_END = 1 / 8
# A space, and the digits.
ANSWER_LENGTH = DIGITS + 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """A text that ends in a passkey.

    Attributes:
        parts: Pieces of text, each with the number of bytes that it fills, repeated or cut.
        repeated: Where the passkey begins that is hidden the second time.
    """

    parts: tuple[tuple[str, int], ...]
    repeated: int

    @property
    def length(self) -> int:
        """Bytes of the row."""
        return sum(length for _, length in self.parts)

    def text(self, begin: int, end: int) -> str:
        """Return the text from byte `begin` to byte `end`."""
        found, start = [], 0
        for piece, length in self.parts:
            first, last = max(begin - start, 0), min(end - start, length)
            if first < last:
                offset, taken = first % len(piece), last - first
                enough = piece * -(-(offset + taken) // len(piece))
                found.append(enough[offset : offset + taken])
            start += length
        return "".join(found)


def make_row(key: str, length: int, depth: float, *, introduced: bool = True, lead: int = 0) -> Row:
    """Return a row of `length` bytes, answer included.

    Args:
        key: The passkey.
        length: Of the row.
        depth: Place of the passkey in the filler, from 0 (before it) to 1 (after its last whole sentence).
        introduced: Whether the text begins by saying what will be asked.
        lead: Bytes of filler before anything else, less than a sentence.

    Raises:
        ValueError: There is no room for passkey and question.
    """
    task, hidden = TASK if introduced else "", KEY.format(key=key)
    asked = f"{QUESTION} {key}"
    filler = room_for_filler(length, introduced=introduced) - lead
    if filler < 0:
        raise ValueError(f"task, passkey and question take {length - filler} bytes, found room for {length}")
    before = round(filler // len(FILLER) * depth) * len(FILLER)
    begin = (FILLER[len(FILLER) - lead :], lead), (task, len(task)), (FILLER, before)
    end = (hidden, len(hidden)), (FILLER, filler - before), (asked, len(asked))
    return Row(parts=(*begin, *end), repeated=lead + len(task) + before + hidden.rindex(key))


def room_for_filler(length: int, *, introduced: bool) -> int:
    """Return how many of `length` bytes are neither task, passkey nor question; below 0 if they do not fit."""
    needed = len(KEY.format(key="0" * DIGITS)) + len(QUESTION) + ANSWER_LENGTH
    return length - needed - (len(TASK) if introduced else 0)


def draw_keys(count: int, generator: torch.Generator) -> list[str]:
    """Return passkeys."""
    digits = torch.randint(10, (count, DIGITS), generator=generator)
    return ["".join(map(str, key)) for key in digits.tolist()]


def read_tokens(rows: Sequence[Row], begin: int, end: int) -> Tensor:
    """Return the tokens of rows from `begin` to `end`, `(rows, bytes)`."""
    texts = "".join(row.text(begin, end) for row in rows)
    codes = torch.frombuffer(bytearray(texts, "ascii"), dtype=torch.uint8)
    return _token_of_byte()[codes.long()].view(len(rows), -1)


@cache
def _token_of_byte() -> Tensor:
    """Return the token of each ASCII character: looking them up is a hundred times as fast as the tokenizer."""
    tokenizer = byte_tokenizer()
    return torch.tensor([tokenizer(chr(code))["input_ids"][0] for code in range(128)])


def draw_depths(count: int, generator: torch.Generator) -> list[float]:
    """Return places of passkeys: some at either end, the others anywhere."""
    anywhere = torch.rand(count, generator=generator)
    chance = torch.rand(count, generator=generator)
    depths = anywhere.where(chance >= _AT_EACH_END, 0).where(chance < 1 - _AT_EACH_END, 1)
    return [float(depth) for depth in depths]


def draw_rows(
    count: int, length: int, segment_length: int, generator: torch.Generator, *, introduced: bool, led: bool
) -> tuple[Tensor, Tensor]:
    """Return rows to train on, `(count, at most length)`, all of one length, which is drawn; and `repeated` of each.

    The end of the row is anywhere in its segment, as far as the question begins in it: what local attention does not
    see of the question cannot be told apart from other text.

    Args:
        count: Number of rows.
        length: Greatest length, a whole number of segments.
        segment_length: The model's.
        generator: Source of random numbers.
        introduced: As in `make_row`.
        led: Whether rows begin inside a sentence. Without, the passkeys of short rows are in a few places of their
            segments only, and one that the end of a segment cuts elsewhere is not found later.
    """
    spare = min(segment_length - len(QUESTION) - ANSWER_LENGTH, room_for_filler(length, introduced=introduced))
    drawn = length - int(torch.randint(spare + 1, (1,), generator=generator))
    depths = draw_depths(count, generator)
    most = min(room_for_filler(drawn, introduced=introduced), len(FILLER) - 1)
    leads = torch.randint(most + 1 if led else 1, (count,), generator=generator).tolist()
    rows = [
        make_row(key, drawn, depth, introduced=introduced, lead=lead)
        for key, depth, lead in zip(draw_keys(count, generator), depths, leads, strict=True)
    ]
    return read_tokens(rows, 0, drawn), torch.tensor([row.repeated for row in rows])
