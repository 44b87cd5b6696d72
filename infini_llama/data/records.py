"""Read the records of raw data: their texts in pieces, and the faults of records without usable text.

Rule book:

* a text file is one record; a line of a JSON Lines file is one, blank lines between them are none; a row of a Parquet
  file or a dataset is one. The text is under `text_key`;
* a record is bad if it is malformed, lacks the key, has no text under it, is not UTF-8, or holds only white space. It
  is reported, and reading continues;
* a damaged file is an error at once, because the number of its records is not known;
* at most one record is in memory, and of a text file one piece.

Texts come in pieces of at most `PIECE` characters, cut where a tokenizer would cut too, so that all cores can tokenize
one large document. A tokenizer that marks the beginning of a text also marks the beginning of each piece.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bundler.errors import NotInstalledError
from infini_llama.data.compression import open_plain
from infini_llama.data.files import DatasetName, RawFile
from infini_llama.errors import TrainingDataError

PIECE = 1 << 20
_BLOCK_BYTES = 1 << 18
_ROWS_AT_ONCE = 256
# Cut after a single line end; if there is none, before a single blank.
_LINE_END = re.compile(r"(?<=\S)\n(?=\S)")
_BLANK = re.compile(r"(?<=\S)(?= \S)")
_JSON_NAMES = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a record's text; the last part has `closes` set.

    Attributes:
        text: The text.
        closes: Whether it is the last part.
        at: Where the record stands in its file: its first byte in a file of lines, the number of the row in a table.
        file: Number of the file among those that are read.
    """

    text: str
    closes: bool = True
    at: int = 0
    file: int = 0


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record without usable text. Pieces since the last complete record belong to it, and must be dropped."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


Records = Iterator[Piece | BadRecord]


class _UnusableError(ValueError):
    """A record is bad; the message says why."""


def read_file(file: RawFile, text_key: str, number: int = 0) -> Records:
    """Yield the records of a file in order.

    Args:
        file: The file.
        text_key: Key of the text.
        number: Its number among those that are read.

    Raises:
        TrainingDataError: The file as a whole cannot be used.
    """
    if file.kind == "text":
        return _text_file(file, number)
    if file.kind == "lines":
        return _json_lines(file, text_key, number)
    return _parquet(file, text_key, number)


def pieces(text: str, at: int = 0, file: int = 0) -> Iterator[Piece]:
    """Cut a text into pieces."""
    while len(text) > PIECE:
        end = _find_cut(text)
        yield Piece(text[:end], closes=False, at=at, file=file)
        text = text[end:]
    yield Piece(text, at=at, file=file)


def parse_line(line: bytes, text_key: str, *, is_first: bool) -> str:
    """Return the text of a JSON line.

    Args:
        line: The line.
        text_key: Key of the text.
        is_first: Whether it is the first of its file, which may begin with a byte order mark.

    Raises:
        ValueError: It has no usable text.
    """
    content = line.removeprefix(codecs.BOM_UTF8) if is_first else line
    return _check(_value(content, text_key), text_key)


def _find_cut(text: str) -> int:
    """Return where to cut a text longer than a piece; depends only on its first `PIECE` + 1 characters."""
    # The last possible place is wanted, so search near the end first.
    for start in (PIECE - 4096, 0):
        window = text[max(start, 0) : PIECE + 1]
        for pattern in (_LINE_END, _BLANK):
            ends = [match.end() for match in pattern.finditer(window)]
            if ends and max(start, 0) + ends[-1] > 0:
                return max(start, 0) + ends[-1]
    return PIECE


def _text_file(file: RawFile, number: int) -> Records:
    # Not utf-8-sig: its decoder counts bytes from after the byte order mark, so errors would name a wrong byte.
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest, read, is_first, is_blank = "", 0, True, True
    with open_plain(file.path, file.compression) as stream:
        while True:
            block = stream.read(_BLOCK_BYTES)
            begin = read - len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                found = error.object[error.start : error.start + 1].hex()
                place = f"byte {begin + error.start}"
                yield BadRecord(str(file.path), f"{place} is not UTF-8 (found 0x{found}: {error.reason})")
                return
            read += len(block)
            if is_first and text:
                text, is_first = text.removeprefix("\ufeff"), False
            is_blank = is_blank and not text.strip()
            rest += text
            while len(rest) > PIECE:
                end = _find_cut(rest)
                yield Piece(rest[:end], closes=False, file=number)
                rest = rest[end:]
            if not block:
                break
    yield BadRecord(str(file.path), "only white space") if is_blank else Piece(rest, file=number)


def _json_lines(file: RawFile, text_key: str, file_number: int) -> Records:
    end = 0
    with open_plain(file.path, file.compression) as stream:
        for number, line in enumerate(stream, start=1):
            begin, end = end, end + len(line)
            if not line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").strip():
                continue
            try:
                text = parse_line(line, text_key, is_first=number == 1)
            except _UnusableError as error:
                yield BadRecord(f"{file.path}:{number}", str(error))
            else:
                yield from pieces(text, begin, file_number)


def _value(line: bytes, text_key: str) -> Any:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        found = line[error.start : error.start + 1].hex()
        raise _UnusableError(f"byte {error.start} is not UTF-8 (found 0x{found}: {error.reason})") from error
    except json.JSONDecodeError as error:
        raise _UnusableError(f"malformed JSON: {error.msg} at character {error.pos + 1}") from error
    except (RecursionError, ValueError) as error:
        raise _UnusableError(f"malformed JSON: {error}") from error
    if not isinstance(record, dict):
        raise _UnusableError(f"expected an object with the key {text_key!r}, found {_name_type(record)}")
    if text_key not in record:
        names = ", ".join(list(record)[:5]) or "none"
        raise _UnusableError(f"expected the key {text_key!r}, found {names}")
    return record[text_key]


def _check(value: Any, text_key: str) -> str:
    if not isinstance(value, str):
        raise _UnusableError(f"expected text under {text_key!r}, found {_name_type(value)}")
    if not value.strip():
        raise _UnusableError("only white space")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _UnusableError(
            f"half of a surrogate pair at character {error.start + 1}, which is not valid UTF-8"
        ) from error
    return value


def _name_type(value: Any) -> str:
    return _JSON_NAMES.get(type(value), "a number")


def _parquet(file: RawFile, text_key: str, number: int) -> Records:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file.path) as table:
            _check_column(str(file.path), table.schema_arrow, text_key)
            batches = table.iter_batches(_ROWS_AT_ONCE, columns=[text_key])
            yield from _rows(str(file.path), (batch.column(0) for batch in batches), number)
    except pyarrow.ArrowException as error:
        raise TrainingDataError(
            f"{file.path}: expected a whole Parquet file: {error}", hint="copy or make it again"
        ) from error
    except OSError as error:
        raise TrainingDataError(f"{file.path}: cannot be read: {error.strerror or error}") from error


def load_dataset(name: DatasetName) -> Any:
    """Load a prepared dataset from the local cache.

    Raises:
        NotInstalledError: It is not in the cache, or has no such configuration or split.
    """
    import datasets

    try:
        return datasets.load_dataset(name.repo_id, name.config, split=name.split)
    except Exception as error:  # The library raises many kinds of errors; what to do is the same for all.
        raise NotInstalledError(
            f"{name}: the datasets library finds no such dataset in the local cache: {str(error).splitlines()[0]}",
            hint="list it under `datasets:` in the bundle's manifest; with several configurations name one: "
            "dataset:org/name:config:split",
        ) from error


def read_dataset(name: DatasetName, dataset: Any, text_key: str) -> Records:
    """Yield the rows of a loaded dataset in order.

    Raises:
        TrainingDataError: It has no text column of this name.
    """
    _check_column(str(name), dataset.features.arrow_schema, text_key)
    column = dataset.select_columns([text_key]).with_format("arrow")
    batches = (column[start : start + _ROWS_AT_ONCE] for start in range(0, len(dataset), _ROWS_AT_ONCE))
    return _rows(str(name), (chunk for batch in batches for chunk in batch.column(0).chunks))


def _check_column(place: str, schema: Any, text_key: str) -> None:
    import pyarrow

    if text_key not in schema.names:
        raise TrainingDataError(
            f"{place}: expected a column {text_key!r}, found {', '.join(schema.names)}",
            hint="data.text_key names the column",
        )
    kind = schema.field(text_key).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in _text_types()):
        raise TrainingDataError(
            f"{place}: expected text in the column {text_key!r}, found {kind}",
            hint="data.text_key names the column",
        )


def _text_types() -> list[Any]:
    from pyarrow import types

    return [types.is_string, types.is_large_string, types.is_string_view]


def _rows(place: str, columns: Iterator[Any], file: int = 0) -> Records:
    import pyarrow

    number = 0
    for column in columns:
        plain = column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column
        # Read as bytes: Arrow does not check that its strings are valid UTF-8.
        for content in plain.cast(pyarrow.large_binary()).to_pylist():
            number += 1
            try:
                text = _check(None if content is None else content.decode(), "text")
            except UnicodeDecodeError as error:
                yield BadRecord(f"{place}:{number}", f"byte {error.start} is not UTF-8 ({error.reason})")
            except _UnusableError as error:
                yield BadRecord(f"{place}:{number}", str(error))
            else:
                yield from pieces(text, number - 1, file)
