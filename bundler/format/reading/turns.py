"""In what order chunks are read where several files are to be written at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice


def take_turns(numbers: Sequence[int], files: Sequence[range], at_once: int) -> Iterator[int]:
    """Yield the numbers of chunks so that files take turns; those of each come in order.

    Args:
        numbers: What is to be read, ascending.
        files: The chunks of each file that has chunks of its own, ascending, all of them in `numbers`. The other
            chunks take turns as if they were of one more file.
        at_once: How many of `files` take turns.
    """
    waiting = (iter(file) for file in files)
    turns: deque[Iterator[int]] = deque([_list_others(numbers, files), *islice(waiting, at_once)])
    while turns:
        file = turns.popleft()
        if (number := next(file, None)) is not None:
            yield number
            turns.append(file)
        elif (following := next(waiting, None)) is not None:
            turns.appendleft(following)


def _list_others(numbers: Sequence[int], files: Sequence[range]) -> Iterator[int]:
    at = 0
    for number in numbers:
        while at < len(files) and files[at].stop <= number:
            at += 1
        if at == len(files) or number not in files[at]:
            yield number
