"""Turn texts into tokens: read once, encode on all cores, write one flat array.

Texts go from the reader to the encoder in blocks of about `_BLOCK` characters, several at once, and their tokens come
back in order: to `tokens.bin`, and the ends of documents to `ends.bin`. So no text is written, each token is written
once, and memory holds a few blocks for each core, however much there is to read. Where tokens are not kept, they are
only counted, and `places.bin` says where to read each document again.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

import numpy as np
from transformers import PreTrainedTokenizerBase

from infini_llama.data import encoding
from infini_llama.data.documents import Documents
from infini_llama.data.records import BadRecord, Piece
from infini_llama.data.tokens_on_demand import PLACE, Texts, TokensOnDemand
from infini_llama.errors import TrainingDataError

_BLOCK = 1 << 20
# Starting a process takes about as long as tokenizing so many blocks.
_BLOCKS_PER_PROCESS = 4
SHOWN = 10
TOKENS, ENDS, PLACES = "tokens.bin", "ends.bin", "places.bin"

Encoded = tuple[np.ndarray, np.ndarray]


@dataclass(kw_only=True)
class BadRecords:
    """The bad records that were found.

    Attributes:
        count: How many there are.
        first: The first `SHOWN` of them.
    """

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, record: BadRecord) -> None:
        """Add a bad record."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(str(record))


@dataclass(kw_only=True)
class Tokenized:
    """What was made of all records.

    Attributes:
        good: Number of records with usable text.
        bad: The others.
        tokens: Number of tokens.
    """

    good: int = 0
    bad: BadRecords = field(default_factory=BadRecords)
    tokens: int = 0


@dataclass(kw_only=True)
class _Block:
    """Texts to encode at once.

    Attributes:
        texts: The texts.
        closes: Whether each is the last of its document.
        places: Of each that is, number of the file and place in it.
        spoilt: Before so many of the texts a document that was not closed turned out bad, and is dropped.
    """

    texts: list[str] = field(default_factory=list)
    closes: list[bool] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    spoilt: list[int] = field(default_factory=list)


def tokenize(
    records: Iterable[Piece | BadRecord],
    tokenizer: PreTrainedTokenizerBase,
    *,
    end_of_document: bool,
    processes: int,
    folder: Path,
    stop_at_bad: bool = False,
    keep_tokens: bool = True,
) -> Tokenized:
    """Tokenize records, and write tokens and ends of documents to `folder`.

    Args:
        records: The records, in order.
        tokenizer: The tokenizer; special tokens that it would add are left out.
        end_of_document: Whether to end each document with the end-of-text token.
        processes: The most processes to use; for little text none is started.
        folder: Folder for `tokens.bin`, `ends.bin` and `places.bin`.
        stop_at_bad: Whether nothing more is tokenized after a bad record; the others are still counted.
        keep_tokens: Whether to write tokens; otherwise where records stand, so that they can be read again.

    Raises:
        TrainingDataError: A process died.
    """
    done = Tokenized()
    how = how_to_encode(tokenizer, end_of_document=end_of_document)
    blocks = _group_into_blocks(records, done, stop_at_bad=stop_at_bad)
    try:
        with _Writer(folder, token_type(tokenizer), keep_tokens=keep_tokens) as writer:
            for block, (tokens, lengths) in _encode_all(blocks, how, processes):
                writer.write(block, tokens, lengths)
            done.tokens = writer.written
    except BrokenProcessPool as error:
        raise TrainingDataError(
            f"a process that tokenizes died: {error}",
            hint="where memory ran out, use fewer processes: data.num_proc; 1 starts none",
        ) from error
    return done


def token_type(tokenizer: PreTrainedTokenizerBase) -> np.dtype:
    """Return the integer type of the tokens in the file."""
    return np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)


def how_to_encode(tokenizer: PreTrainedTokenizerBase, *, end_of_document: bool) -> encoding.Encoding:
    """Return how the texts of a run become tokens."""
    ending = tokenizer.eos_token_id if end_of_document else None
    assert ending is None or isinstance(ending, int)
    return encoding.Encoding.of(tokenizer, ending=ending)


def load(folder: Path, kind: np.dtype) -> Documents:
    """Return the documents whose tokens `tokenize` wrote to a folder, as memory maps."""
    return Documents(_map(folder / TOKENS, kind), _map(folder / ENDS, np.dtype("<i8")))


def load_on_demand(folder: Path, kind: np.dtype, texts: Texts, how: encoding.Encoding) -> Documents:
    """Return the documents whose places `tokenize` wrote to a folder; their tokens are made when they are needed."""
    places, ends = _map(folder / PLACES, PLACE), _map(folder / ENDS, np.dtype("<i8"))
    return Documents(TokensOnDemand(texts, places, ends, how, kind), ends)


def _map(path: Path, kind: np.dtype) -> np.ndarray:
    # mmap rejects empty files.
    return np.memmap(path, kind, mode="r") if path.stat().st_size else np.zeros(0, kind)


def _group_into_blocks(
    records: Iterable[Piece | BadRecord], done: Tokenized, *, stop_at_bad: bool
) -> Iterator[_Block]:
    """Yield the texts of good records in blocks, and count in `done`."""
    block, size, is_open = _Block(), 0, False
    for record in records:
        if isinstance(record, BadRecord):
            done.bad.add(record)
            if is_open:
                block.spoilt.append(len(block.texts))
                is_open = False
            continue
        is_open = not record.closes
        done.good += record.closes
        if stop_at_bad and done.bad.count:
            continue
        block.texts.append(record.text)
        block.closes.append(record.closes)
        block.places.append((record.file, record.at))
        size += len(record.text)
        if size >= _BLOCK:
            yield block
            block, size = _Block(), 0
    yield block


def _encode_all(
    blocks: Iterable[_Block], how: encoding.Encoding, processes: int
) -> Iterator[tuple[_Block, Encoded]]:
    """Yield each block with its tokens, in order; other processes start once there is enough for them to do."""
    waiting: deque[tuple[_Block, Future[Encoded]]] = deque()
    with contextlib.ExitStack() as stack:
        # The tokenizer's own threads use all cores for a block, but its lists become an array on one of them.
        here: Executor = stack.enter_context(ThreadPoolExecutor(1))
        encoder = encoding.Encoder(how)
        submit: Callable[[_Block], Future[Encoded]] = lambda block: here.submit(  # noqa: E731
            encoder.encode, block.texts, block.closes
        )
        for number, block in enumerate(blocks):
            if processes > 1 and number == _BLOCKS_PER_PROCESS * 2:
                submit = _start(stack, how, processes)
            waiting.append((block, submit(block)))
            while len(waiting) > 2 * processes:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)


def _start(
    stack: contextlib.ExitStack, how: encoding.Encoding, processes: int
) -> Callable[[_Block], Future[Encoded]]:
    # Not forked: torch and the tokenizer have threads, and a fork may hang on what they hold.
    context = get_context("spawn")
    # No event: setting one waits for each that waits for it, also for one that was killed.
    may_begin = context.Semaphore(0)
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=encoding.begin, initargs=(how, may_begin)
    )
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)
    try:
        # All at once, and not as blocks come: where one has died meanwhile, the pool cannot start another, nor say so.
        # It starts one for a task only where none is idle, so none may be idle yet.
        for _ in range(processes):
            pool.submit(os.getpid)
    except OSError as error:
        raise BrokenProcessPool(f"it could not be started: {error}") from error
    finally:
        for _ in range(processes):
            may_begin.release()
    return lambda block: pool.submit(encoding.encode, block.texts, block.closes)


def _first(waiting: deque[tuple[_Block, Future[Encoded]]]) -> tuple[_Block, Encoded]:
    block, future = waiting.popleft()
    return block, future.result()


class _Writer:
    """Writes tokens, or places of records, and ends of documents.

    Args:
        folder: Where.
        kind: Integer type of a token.
        keep_tokens: Whether to write tokens.

    Attributes:
        written: Number of tokens so far.
    """

    def __init__(self, folder: Path, kind: np.dtype, *, keep_tokens: bool) -> None:
        self._kind, self._keeps = kind, keep_tokens
        self._content = (folder / (TOKENS if keep_tokens else PLACES)).open("wb")
        self._ends = (folder / ENDS).open("wb")
        self.written, self._closed = 0, 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._content, self._ends:
            if error is None:
                for stream in (self._content, self._ends):
                    stream.flush()
                    os.fsync(stream.fileno())

    def write(self, block: _Block, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Write a block; at each text before which a document is spoilt, take back what was written of it."""
        begins = np.concatenate([[0], np.cumsum(lengths)])
        cuts = [0, *block.spoilt, len(lengths)]
        for number, (first, last) in enumerate(pairwise(cuts)):
            if number:
                self._drop_open()
            closes = np.array(block.closes[first:last], bool)
            if self._keeps:
                tokens[begins[first] : begins[last]].astype(self._kind).tofile(self._content)
            else:
                np.array(block.places[first:last], PLACE)[closes].tofile(self._content)
            ends = (self.written + np.cumsum(lengths[first:last], dtype=np.int64))[closes]
            ends.astype("<i8").tofile(self._ends)
            self.written += int(begins[last] - begins[first])
            self._closed = int(ends[-1]) if len(ends) else self._closed

    def _drop_open(self) -> None:
        self.written = self._closed
        if self._keeps:
            self._content.flush()
            self._content.truncate(self._closed * self._kind.itemsize)
            self._content.seek(self._closed * self._kind.itemsize)
