"""Turn texts into tokens: read once, tokenize on all cores with the datasets library, write one flat array.

There are three passes, which need little memory for any amount of data. The first writes records as blocks of about
`_BLOCK` characters to an Arrow file; in the second `Dataset.map` turns blocks into tokens; the third writes all tokens
to `tokens.bin`, and the ends of documents to `ends.bin`. The files of the first two passes are deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from infini_llama.data.documents import Documents
from infini_llama.data.records import BadRecord, Piece

_BLOCK = 1 << 20
# Starting a process takes about as long as tokenizing this many blocks.
_BLOCKS_PER_PROCESS = 4
SHOWN = 10
TOKENS, ENDS = "tokens.bin", "ends.bin"


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
class Blocks:
    """Texts as blocks in an Arrow file.

    Attributes:
        path: The file.
        count: Number of blocks.
        records: Number of records that were read, with bad ones.
        bad: The bad records.
        void: Numbers of the bad records whose pieces are in the file.
    """

    path: Path
    count: int = 0
    records: int = 0
    bad: BadRecords = field(default_factory=BadRecords)
    void: set[int] = field(default_factory=set)


def write_blocks(records: Iterable[Piece | BadRecord], path: Path) -> Blocks:
    """Read all records, and write the texts of good records as blocks."""
    import pyarrow

    numbers = pyarrow.list_(pyarrow.int64())
    schema = pyarrow.schema(
        [
            ("numbers", numbers),
            ("closes", pyarrow.list_(pyarrow.bool_())),
            ("texts", pyarrow.list_(pyarrow.string())),
        ]
    )
    blocks = Blocks(path=path)
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        for block in _group_into_blocks(records, blocks):
            columns = [
                [[number for number, _ in block]],
                [[piece.closes for _, piece in block]],
                [[piece.text for _, piece in block]],
            ]
            arrays = [pyarrow.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
            blocks.count += 1
    return blocks


def _group_into_blocks(records: Iterable[Piece | BadRecord], blocks: Blocks) -> Iterator[list[tuple[int, Piece]]]:
    block: list[tuple[int, Piece]] = []
    size, is_open = 0, False
    for record in records:
        if isinstance(record, BadRecord):
            blocks.bad.add(record)
            if is_open:
                blocks.void.add(blocks.records)
            blocks.records, is_open = blocks.records + 1, False
            continue
        block.append((blocks.records, record))
        size += len(record.text)
        is_open = not record.closes
        blocks.records += record.closes
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def tokenize(
    blocks: Blocks, tokenizer: PreTrainedTokenizerBase, *, end_of_document: bool, processes: int, folder: Path
) -> Documents:
    """Tokenize blocks, write the result to `folder`, and return it as documents.

    Args:
        blocks: The result of `write_blocks`.
        tokenizer: The tokenizer; special tokens that it would add are left out.
        end_of_document: Whether to end each document with the end-of-text token.
        processes: The most processes to use; fewer are used for little text.
        folder: Folder for `tokens.bin` and `ends.bin`.
    """
    import datasets

    work = folder / "blocks"
    work.mkdir()
    ending = [tokenizer.eos_token_id] if end_of_document else []

    def encode(block: dict[str, Any]) -> dict[str, Any]:
        # No `verbose` warning: a document may be longer than the context of the tokenizer's original model.
        encoded = tokenizer(block["texts"], add_special_tokens=False, return_attention_mask=False, verbose=False)[
            "input_ids"
        ]
        parts = [ids + ending if closes else ids for ids, closes in zip(encoded, block["closes"], strict=True)]
        joined = np.fromiter((token for part in parts for token in part), np.int32)
        return {"numbers": block["numbers"], "lengths": [len(part) for part in parts], "tokens": joined}

    processes = max(1, min(processes, blocks.count // _BLOCKS_PER_PROCESS))
    whole_numbers = datasets.List(datasets.Value("int64"))
    with _configure_library(processes):
        encoded = datasets.Dataset.from_file(str(blocks.path)).map(
            encode,
            remove_columns=["closes", "texts"],
            features=datasets.Features(
                {
                    "numbers": whole_numbers,
                    "lengths": whole_numbers,
                    "tokens": datasets.List(datasets.Value("int32")),
                }
            ),
            # With one process, the tokenizer's own threads work on a batch; with several processes, threads are off.
            num_proc=processes if processes > 1 else None,
            writer_batch_size=4,
            cache_file_name=str(work / "encoded.arrow"),
            # Our own cache is by content. For its cache the library would hash the tokenizer's state.
            new_fingerprint="encoded",
            desc="tokenizing",
        )
        token_type = np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
        _write_flat(encoded.with_format("numpy"), blocks.void, token_type, folder)
    del encoded
    shutil.rmtree(work)
    return load(folder, np.dtype(token_type))


def load(folder: Path, token_type: np.dtype) -> Documents:
    """Return the documents that `tokenize` wrote to a folder, as memory maps."""
    tokens, ends = (_map(folder / name, kind) for name, kind in ((TOKENS, token_type), (ENDS, np.dtype("<i8"))))
    return Documents(tokens, ends)


def _map(path: Path, kind: np.dtype) -> np.ndarray:
    # mmap rejects empty files.
    return np.memmap(path, kind, mode="r") if path.stat().st_size else np.zeros(0, kind)


def _write_flat(encoded: Any, void: set[int], token_type: Any, folder: Path) -> None:
    """Write the tokens of all complete records, and where each record ends."""
    written, last = 0, None
    with (folder / TOKENS).open("wb") as tokens, (folder / ENDS).open("wb") as ends:
        for block in encoded:
            numbers, lengths, ids = (np.asarray(block[name]) for name in ("numbers", "lengths", "tokens"))
            if void:
                kept = ~np.isin(numbers, list(void))
                ids, numbers, lengths = ids[np.repeat(kept, lengths)], numbers[kept], lengths[kept]
            if not len(numbers):
                continue
            ids.astype(token_type).tofile(tokens)
            if last is not None and numbers[0] != last:
                np.array([written], "<i8").tofile(ends)
            part_ends = written + np.cumsum(lengths)
            # Write all ends but the last, because the next block may continue the last document.
            part_ends[:-1][numbers[1:] != numbers[:-1]].astype("<i8").tofile(ends)
            written, last = int(part_ends[-1]), int(numbers[-1])
        if last is not None:
            np.array([written], "<i8").tofile(ends)
        for stream in (tokens, ends):
            stream.flush()
            os.fsync(stream.fileno())


@contextlib.contextmanager
def _configure_library(processes: int) -> Iterator[None]:
    """Show the library's bar only on a terminal, and switch off the tokenizer's threads with several processes."""
    import datasets

    had_bars, before = datasets.are_progress_bars_disabled(), os.environ.get("TOKENIZERS_PARALLELISM")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    if processes > 1:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if not had_bars:
            datasets.enable_progress_bars()
        if processes > 1:
            os.environ.pop("TOKENIZERS_PARALLELISM")
            if before is not None:
                os.environ["TOKENIZERS_PARALLELISM"] = before
