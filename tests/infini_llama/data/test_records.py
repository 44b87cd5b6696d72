"""Which files are read, and what records they hold."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from infini_llama.data.files import (
    DatasetName,
    RawFile,
    find_files,
    parse_dataset_name,
    raw_file,
)
from infini_llama.data.records import PIECE, BadRecord, Piece, read_file
from infini_llama.errors import TrainingDataError
from tests.support.users import make_open_folder, without_privileges

Compress = Callable[[bytes], bytes]
COMPRESSIONS: dict[str, Compress] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def records(path: Path, text_key: str = "text") -> list[str | BadRecord]:
    """Return the texts of a file, pieces joined, and its bad records as they are."""
    found: list[str | BadRecord] = []
    begun = ""
    for record in read_file(find_files(path)[0][0], text_key):
        if isinstance(record, BadRecord):
            found.append(record)
            begun = ""
        else:
            begun += record.text
            if record.closes:
                found.append(begun)
                begun = ""
    return found


def write_lines(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_folder_is_searched_in_a_fixed_order_and_what_is_not_read_is_named(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.jsonl.gz", "a/b/c.PARQUET", "a/readme.md", "a/d.json.zst", "x.parquet.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    files, left_out = find_files(tmp_path)
    assert [(f.path.relative_to(tmp_path).as_posix(), f.kind, f.compression) for f in files] == [
        ("a/b/c.PARQUET", "parquet", ""),
        ("a/d.json.zst", "lines", ".zst"),
        ("a/z.jsonl.gz", "lines", ".gz"),
        ("b.txt", "text", ""),
    ]
    assert [p.relative_to(tmp_path).as_posix() for p in left_out] == ["a/readme.md", "x.parquet.gz"]


def test_linked_folders_are_searched_and_each_once(tmp_path: Path) -> None:
    for name in ("data/a/x.txt", "data/c/y.txt", "else/z.txt", "else/deep/w.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    data = tmp_path / "data"
    for link, target in (("b", "../else"), ("b2", "../else/deep"), ("c/up", ".."), ("d", "c"), ("e", "../data")):
        (data / link).symlink_to(target)
    found = [f.path.relative_to(data).as_posix() for f in find_files(data)[0]]
    assert found == ["a/x.txt", "b/z.txt", "b2/w.txt", "c/y.txt"]


def test_what_cannot_be_read_of_a_folder_is_an_error(tmp_path: Path) -> None:
    """Left out without a word, other data would be trained on."""
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "notes.md").symlink_to("gone")
    assert find_files(tmp_path)[1] == [tmp_path / "notes.md"]
    (tmp_path / "b.txt").symlink_to("gone")
    with pytest.raises(TrainingDataError, match=r"b\.txt: expected a file, found a link that leads to none"):
        find_files(tmp_path)
    (tmp_path / "b.txt").unlink()
    os.mkfifo(tmp_path / "c.jsonl")
    with pytest.raises(TrainingDataError, match=r"c\.jsonl: expected a file, found something else"):
        find_files(tmp_path)


def test_a_folder_that_may_not_be_read_is_an_error() -> None:
    for folder in make_open_folder():
        (folder / "a.txt").write_text("x")
        (folder / "d").mkdir(mode=0)
        with without_privileges(), pytest.raises(TrainingDataError, match="d: cannot be read: Permission denied"):
            find_files(folder)
        (folder / "d").chmod(0o700)


def test_a_file_that_is_named_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("words")
    assert records(tmp_path / "notes.md") == ["words"]


def test_a_folder_without_a_file_to_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("x")
    with pytest.raises(TrainingDataError, match=r"holds no file named \.txt, .*, but 1 others such as a\.bin"):
        find_files(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset:org/x", DatasetName(repo_id="org/x", config=None, split="train")),
        ("dataset:org/x:en", DatasetName(repo_id="org/x", config="en", split="train")),
        ("dataset:org/x::test", DatasetName(repo_id="org/x", config=None, split="test")),
        ("dataset:org/x:en:test", DatasetName(repo_id="org/x", config="en", split="test")),
        ("corpus/dataset:x", None),
    ],
)
def test_a_dataset_is_named_with_configuration_and_split(text: str, expected: DatasetName | None) -> None:
    assert parse_dataset_name(text) == expected


@pytest.mark.parametrize("text", ["dataset:", "dataset:a:b:c:d"])
def test_what_only_begins_like_a_dataset_is_refused(text: str) -> None:
    with pytest.raises(TrainingDataError, match="expected dataset:org/name"):
        parse_dataset_name(text)


def test_a_text_file_is_one_record_with_its_line_ends_and_without_its_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\n")
    assert records(tmp_path / "a.txt") == ["one\r\n\r\ntwo\n"]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_compressed_files_are_read_as_what_they_hold(tmp_path: Path, suffix: str) -> None:
    lines = b'{"text": "one"}\n{"text": "two"}\n'
    (tmp_path / f"a.jsonl{suffix}").write_bytes(COMPRESSIONS[suffix](lines))
    assert records(tmp_path / f"a.jsonl{suffix}") == ["one", "two"]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_compressed_file_that_ends_too_early_is_an_error_and_no_shorter_text(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](bytes(range(32, 127)) * 50)[:-9])
    with pytest.raises(TrainingDataError, match=f"expected a whole {suffix} file"):
        records(path)


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_file_that_is_not_what_its_suffix_says_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_text("plain text")
    with pytest.raises(TrainingDataError, match=r"a\.txt"):
        records(path)


def test_several_zstd_frames_are_one_file(tmp_path: Path) -> None:
    compress = COMPRESSIONS[".zst"]
    (tmp_path / "a.txt.zst").write_bytes(compress(b"one ") + compress(b"two"))
    assert records(tmp_path / "a.txt.zst") == ["one two"]


def test_each_bad_line_is_named_with_what_is_wrong_and_the_others_are_read(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        {"text": "one"},
        "",
        '{"text": ',
        {"body": 1, "id": 2},
        {"text": 5},
        {"text": None},
        {"text": " \n"},
        [1],
        '{"text": "half \\ud800"}',
        {"text": "two"},
    )
    path.write_bytes(path.read_bytes() + b'{"text": "caf\xe9"}\n{"text": "three"}')
    assert [str(record) for record in records(path)] == [
        "one",
        f"{path}:3: malformed JSON: Expecting value at character 11",
        f"{path}:4: expected the key 'text', found body, id",
        f"{path}:5: expected text under 'text', found a number",
        f"{path}:6: expected text under 'text', found null",
        f"{path}:7: only white space",
        f"{path}:8: expected an object with the key 'text', found a list",
        f"{path}:9: half of a surrogate pair at character 6, which is not valid UTF-8",
        "two",
        f"{path}:11: byte 13 is not UTF-8 (found 0xe9: invalid continuation byte)",
        "three",
    ]


def test_the_text_is_under_the_key_that_is_asked_for(tmp_path: Path) -> None:
    assert records(write_lines(tmp_path / "a.jsonl", {"text": "no", "body": "yes"}), "body") == ["yes"]


def test_bytes_that_are_not_utf8_are_named_by_their_place_in_the_file_wherever_blocks_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    # A character of two bytes across the end of the first block, and the fault in the second.
    path.write_bytes(b"\xef\xbb\xbf" + b"x" * ((1 << 18) - 4) + "é".encode() + b"\xe9 au lait")
    place = (1 << 18) + 1
    assert [str(r) for r in records(path)] == [
        f"{path}: byte {place} is not UTF-8 (found 0xe9: invalid continuation byte)"
    ]


def test_a_text_that_ends_inside_a_character_is_bad(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("né".encode()[:-1])
    assert [str(r) for r in records(tmp_path / "a.txt")] == [
        f"{tmp_path}/a.txt: byte 1 is not UTF-8 (found 0xc3: unexpected end of data)"
    ]


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_a_blank_file_is_a_bad_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert [str(r) for r in records(tmp_path / "a.txt")] == [f"{tmp_path}/a.txt: only white space"]


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string()])
def test_rows_of_a_parquet_file_are_records(tmp_path: Path, kind: pyarrow.DataType) -> None:
    texts = pyarrow.array(["one", None, "", "two"], kind)
    parquet.write_table(
        pyarrow.table({"id": [1, 2, 3, 4], "text": texts}), tmp_path / "a.parquet", row_group_size=3
    )
    assert [str(record) for record in records(tmp_path / "a.parquet")] == [
        "one",
        f"{tmp_path}/a.parquet:2: expected text under 'text', found null",
        f"{tmp_path}/a.parquet:3: only white space",
        "two",
    ]


def test_a_parquet_file_of_repeated_texts_is_read_as_texts(tmp_path: Path) -> None:
    column = pyarrow.array(["one", "two", "one"]).dictionary_encode()
    parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
    assert records(tmp_path / "a.parquet") == ["one", "two", "one"]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"body": ["x"]}, "expected a column 'text', found body"),
        ({"text": [1]}, "expected text in the column 'text', found int64"),
    ],
)
def test_a_parquet_file_without_such_a_column_of_text_is_an_error(
    tmp_path: Path, table: dict[str, list[object]], problem: str
) -> None:
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    with pytest.raises(TrainingDataError, match=problem):
        records(tmp_path / "a.parquet")


def test_a_parquet_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["one"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TrainingDataError, match="expected a whole Parquet file"):
        records(path)


def text_pieces(path: Path) -> Iterable[Piece]:
    file = raw_file(path)
    assert isinstance(file, RawFile)
    return (record for record in read_file(file, "text") if isinstance(record, Piece))


def test_a_long_text_comes_in_pieces_that_end_where_lines_do(tmp_path: Path) -> None:
    text = "The cat sat.\n" * (PIECE // 6)
    (tmp_path / "a.txt").write_text(text)
    found = list(text_pieces(tmp_path / "a.txt"))
    assert "".join(piece.text for piece in found) == text
    assert [(len(p.text) > PIECE - 20, p.text.endswith("sat.\n"), p.closes) for p in found] == [
        (True, True, False),
        (True, True, False),
        (False, True, True),
    ]


@pytest.mark.parametrize("text", ["word " * (PIECE // 4), "x" * (PIECE + 3), "\n" * PIECE + "x"])
def test_a_text_without_lines_is_cut_too_and_loses_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    found = list(text_pieces(tmp_path / "a.txt"))
    assert "".join(piece.text for piece in found) == text
    assert len(found) == 2
    assert len(found[0].text) <= PIECE


def test_a_line_of_json_is_cut_as_a_file_is(tmp_path: Path) -> None:
    text = "The cat sat.\n" * (PIECE // 6)
    (tmp_path / "a.txt").write_text(text)
    assert list(text_pieces(write_lines(tmp_path / "a.jsonl", {"text": text}))) == list(
        text_pieces(tmp_path / "a.txt")
    )


def test_reading_takes_no_memory_in_proportion_to_the_file(tmp_path: Path) -> None:
    line = json.dumps({"text": "The cat sat on the mat. " * 40}).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(line * 60_000)
    (tmp_path / "b.txt").write_bytes(line * 60_000)
    # Both are 58 MiB. The peak of a process of its own, without what its imports take.
    program = f"""
import resource, sys
from pathlib import Path
from infini_llama.data.files import find_files
from infini_llama.data.records import read_file
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
count = sum(len(r.text) for f in find_files(Path({str(tmp_path)!r}))[0] for r in read_file(f, "text"))
print(count, (peak() - before) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, mebibytes = map(int, done.stdout.split())
    assert count == 60_000 * (960 + len(line))
    assert mebibytes < 30
