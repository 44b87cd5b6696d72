"""From text files to rows of segments.

Rule book:

* one file is one document; documents are kept apart: each starts on a fresh segment with an empty memory, and no
  document's first token is predicted from another's last;
* a row is a fixed number of segments, filled with documents in the order of the files. A document that is longer goes
  on in the next row, where its memory starts empty: rows are independent, as shuffling them needs;
* the end of a document's last segment is padding, which is neither attended to, remembered nor predicted. Documents
  much shorter than a segment waste most of it: choose `segment_length` for the data;
* bytes that are not UTF-8 are an error that names file and offset. Nothing is dropped unsaid.

Everything is held in memory, four bytes a token; streaming and other formats are not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bundler.digest import sha256_bytes
from bundler.errors import TrainingDataError

# transformers' cross entropy leaves labels of this value out.
IGNORED = -100
_SHOWN_FAULTS = 20


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Texts, and what the checkpoint's provenance says about them.

    Attributes:
        texts: One per document, none of them blank.
        files: Files that were read.
        blank: Files with nothing but white space.
        size_bytes: Of all files.
        sha256: Over the files' own SHA-256, in their order.
    """

    texts: list[str]
    files: int
    blank: int
    size_bytes: int
    sha256: str


def find_files(path: Path) -> list[Path]:
    """Return `path` itself if it is a file, else every `.txt` file below it, sorted.

    Raises:
        TrainingDataError: There is none.
    """
    if path.is_file():
        return [path]
    files = sorted(p for p in path.rglob("*.txt") if p.is_file())
    if not files:
        problem = "holds no .txt file" if path.is_dir() else "does not exist"
        raise TrainingDataError(
            f"{path}: {problem}", hint="--raw-data takes a text file, or a folder that is searched for *.txt"
        )
    return files


def read_corpus(path: Path) -> Corpus:
    """Read all documents at `path`.

    Raises:
        TrainingDataError: There is no text, or some of it cannot be read; all such files are named.
    """
    texts, digests, faults, blank, size_bytes = [], [], [], 0, 0
    files = find_files(path)
    for file in files:
        try:
            content = file.read_bytes()
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            found = content[error.start : error.start + 1].hex()
            faults.append(f"{file}: byte {error.start} is not UTF-8 (found 0x{found}: {error.reason})")
            continue
        except OSError as error:
            faults.append(f"{file}: cannot be read: {error.strerror}")
            continue
        size_bytes += len(content)
        digests.append(sha256_bytes(content))
        if text.strip():
            texts.append(text)
        else:
            blank += 1
    if faults:
        more = [f"... and {len(faults) - _SHOWN_FAULTS} more"] if len(faults) > _SHOWN_FAULTS else []
        shown = "".join(f"\n  {fault}" for fault in faults[:_SHOWN_FAULTS] + more)
        raise TrainingDataError(f"{path}: {len(faults)} of {len(files)} files cannot be used{shown}")
    if not texts:
        raise TrainingDataError(f"{path}: {len(files)} files, and nothing but white space in them")
    sha256 = sha256_bytes("".join(digests).encode())
    return Corpus(texts=texts, files=len(files), blank=blank, size_bytes=size_bytes, sha256=sha256)


def tokenize(texts: list[str], tokenizer: Any, *, end_of_document: bool) -> list[Tensor]:
    """Return each text's tokens, `(length,)`, closed by the end-of-text token if wanted.

    Raises:
        TrainingDataError: The tokenizer has no such token.
    """
    if end_of_document and tokenizer.eos_token_id is None:
        raise TrainingDataError(
            "the tokenizer has no end-of-text token to close documents with",
            hint="set data.end_of_document: false",
        )
    ending = [tokenizer.eos_token_id] if end_of_document else []
    # `verbose` off: a document may well be longer than the context that the tokenizer's own model had.
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return [torch.tensor(ids + ending, dtype=torch.int32) for ids in encoded]


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Documents as rows of segments.

    Args:
        documents: `(length,)` tokens each.
        segment_length: Tokens of a segment.
        segments_per_row: Segments of a row.
        padding_id: Any token; it is masked.

    Attributes:
        tokens: How many tokens the rows hold, padding not counted.
    """

    def __init__(
        self, documents: Iterable[Tensor], *, segment_length: int, segments_per_row: int, padding_id: int
    ) -> None:
        rows = list(_batched(_segments(documents, segment_length), segments_per_row))
        shape = (len(rows), segments_per_row * segment_length)
        self._tokens = torch.full(shape, padding_id, dtype=torch.int32)
        # 0 for padding, else the document's number, counted from 1.
        self._documents = torch.zeros(shape, dtype=torch.int32)
        for i, row in enumerate(rows):
            for j, (number, segment) in enumerate(row):
                place = slice(j * segment_length, j * segment_length + len(segment))
                self._tokens[i, place], self._documents[i, place] = segment, number
        self.tokens = int((self._documents > 0).sum())

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._tokens)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one row as the model takes it, each `(segments_per_row * segment_length,)`."""
        tokens, documents = self._tokens[index].long(), self._documents[index].long()
        labels = tokens.masked_fill(documents == 0, IGNORED)
        labels[1:].masked_fill_(documents[1:] != documents[:-1], IGNORED)
        labels[0] = IGNORED
        return {
            "input_ids": tokens,
            "attention_mask": (documents > 0).long(),
            "document_ids": documents,
            "labels": labels,
        }


def _segments(documents: Iterable[Tensor], segment_length: int) -> Iterator[tuple[int, Tensor]]:
    for number, tokens in enumerate(documents, start=1):
        for segment in tokens.split(segment_length):
            yield number, segment


def _batched(segments: Iterator[tuple[int, Tensor]], size: int) -> Iterator[list[tuple[int, Tensor]]]:
    while row := list(itertools.islice(segments, size)):
        yield row
