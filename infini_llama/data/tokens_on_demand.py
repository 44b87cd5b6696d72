"""Tokens that are kept nowhere: a document is tokenized again when tokens of it are asked for.

For text whose tokens the disk has no room for. What is kept is where each document ends, in tokens, and where its
record stands in the raw data: 20 bytes for a document. So rows, their order, and where a run goes on are those of
tokens that are kept. A line is found by its first byte, a row of a Parquet file or of a dataset by its number. A
compressed file can be read from its start only, and is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from infini_llama.data.encoding import Encoder, Encoding
from infini_llama.data.files import RawFile
from infini_llama.data.records import parse_line, pieces
from infini_llama.errors import TrainingDataError

# Number of the file, and the place of the record in it.
PLACE = np.dtype([("file", "<u4"), ("at", "<i8")])
# Files that are held open: fewer than a process may have.
_OPEN_FILES = 128


class Texts:
    """The texts of records.

    Args:
        files: The files, in the order in which they were read.
        dataset: The dataset that was read instead; None for files.
        text_key: Key of the text.

    Raises:
        TrainingDataError: A file is compressed.
    """

    def __init__(self, files: Sequence[RawFile], dataset: Any, text_key: str) -> None:
        self._files, self._text_key = files, text_key
        self._dataset = None if dataset is None else dataset.select_columns([text_key])
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._group: tuple[tuple[int, int], Any] = ((-1, -1), None)
        squeezed = next((file for file in files if file.compression), None)
        if squeezed is not None:
            raise TrainingDataError(
                f"{squeezed.path}: expected files that can be read at any place, found a compressed one",
                hint="without data.keep_tokens use plain JSON Lines, Parquet or a dataset of the bundle",
            )

    def read(self, file: int, place: int) -> str:
        """Return the text of the record at a place of a file.

        Raises:
            TrainingDataError: The file cannot be read, or holds something else there.
        """
        if self._dataset is not None:
            return str(self._dataset[place][self._text_key])
        raw = self._files[file]
        try:
            if raw.kind == "parquet":
                return self._row(file, place)
            stream = self._opened(file)
            stream.seek(place)
            if raw.kind == "text":
                return str(stream.read().decode("utf-8-sig"))
            return parse_line(stream.readline(), self._text_key, is_first=place == 0)
        except (OSError, ValueError, IndexError) as error:
            raise TrainingDataError(f"{raw.path}: cannot be read again at {place:,}: {error}") from error

    def _opened(self, file: int) -> Any:
        if file not in self._open:
            self._open[file] = self._open_file(self._files[file])
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(file)
        return self._open[file]

    def _open_file(self, raw: RawFile) -> BinaryIO | Any:
        if raw.kind != "parquet":
            return raw.path.open("rb")
        from pyarrow import parquet

        return parquet.ParquetFile(raw.path)

    def _row(self, file: int, number: int) -> str:
        """Return a row; the group of rows that it stands in is kept, since neighbours are mostly read next."""
        table, group = self._opened(file), 0
        while number >= (rows := table.metadata.row_group(group).num_rows):
            number, group = number - rows, group + 1
        if self._group[0] != (file, group):
            self._group = (file, group), table.read_row_group(group, columns=[self._text_key]).column(0)
        return str(self._group[1][number].as_py())


class TokensOnDemand:
    """All tokens, one document after another, as far as `Documents` needs an array of them.

    Args:
        texts: The texts of the records.
        places: Where the record of each document stands, of type `PLACE`.
        ends: Where each document ends.
        encoding: How texts become tokens.
        kind: Integer type of a token.

    Attributes:
        dtype: That type.
    """

    def __init__(
        self, texts: Texts, places: np.ndarray, ends: np.ndarray, encoding: Encoding, kind: np.dtype
    ) -> None:
        self._texts, self._places, self._ends, self._encoding = texts, places, ends, encoding
        self.dtype = kind
        self._encoder: Encoder | None = None
        # A document's rows and a row's documents are read one after another.
        self._last: tuple[int, np.ndarray] = (-1, np.zeros(0, kind))

    def __getitem__(self, part: slice) -> np.ndarray:
        """Return a run of tokens of one document.

        Raises:
            TrainingDataError: The text is not what was tokenized before.
        """
        document = int(np.searchsorted(self._ends, part.start, side="right"))
        begin = int(self._ends[document - 1]) if document else 0
        return self._tokens(document, int(self._ends[document]) - begin)[part.start - begin : part.stop - begin]

    def _tokens(self, document: int, count: int) -> np.ndarray:
        if self._last[0] != document:
            if self._encoder is None:
                self._encoder = Encoder(self._encoding)
            file, at = (int(number) for number in self._places[document])
            parts = list(pieces(self._texts.read(file, at)))
            tokens, _ = self._encoder.encode([part.text for part in parts], [part.closes for part in parts])
            if len(tokens) != count:
                raise TrainingDataError(
                    f"document {document + 1:,} has {len(tokens):,} tokens, and had {count:,} when the text was read "
                    "first",
                    hint="without data.keep_tokens the raw data must stay as it is while a run trains",
                )
            self._last = document, tokens.astype(self.dtype)
        return self._last[1]
