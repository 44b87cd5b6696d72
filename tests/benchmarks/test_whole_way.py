"""The harness of `make bench-way`: it runs, and its table says what was measured. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.lib.measure import Run
from benchmarks.pack import whole_way
from benchmarks.pack.load_child import load


def run(wall: float, cpu: float, read: int = 0) -> Run:
    """One run of a step."""
    return Run(wall_seconds=wall, cpu_seconds=cpu, peak_bytes=0, flush_seconds=0, size_bytes=0, read_bytes=read)


def test_sums_of_all_steps_are_compared_within_a_round() -> None:
    taken = {
        ("ours", True): [[run(3, 4), run(1, 1, 2000)], [run(5, 4), run(1, 1)]],
        ("theirs", True): [[run(2, 2), run(2, 2), run(1, 1)], [run(2, 2), run(2, 2), run(2, 1)]],
    }
    assert whole_way.markdown(taken).splitlines()[2:] == [
        "| ours | cold | 4.00 s; 1.00 s | **5.00 s** [4.00–6.00] | **5.00 s** [5.00–5.00] | 2 kB | |",
        "| theirs | cold | 2.00 s; 2.00 s; 1.50 s | **5.50 s** [5.00–6.00] | **5.00 s** [5.00–5.00] | 0 B "
        "| **1.12** [1.00–1.25], **not reached**: 1.3; **1.00** [1.00–1.00] |",
    ]


def test_the_front_page_has_the_sums_of_all_sizes_that_were_measured() -> None:
    names = ("ours", "`zstd \\| tar`, load", "cp")
    walls = {name: 2.0 * number for number, name in enumerate(names, 1)}
    taken = {(name, is_cold): [[run(walls[name] + is_cold, 1)]] * 2 for is_cold in (True, False) for name in names}
    known = "2026-11-30, commit x. A machine. {} of generated bf16 weights, 2 rounds. Load."
    tables = [f"{known.format(size)}\n\n{whole_way.markdown(taken)}" for size in ("2.2 GB", "16.1 GB")]
    assert whole_way.summarize([tables[0], "", tables[1]]).splitlines() == [
        "| weights | archive in | ours | `zstd \\| tar`, load | cp |",
        "| --- | --- | --- | --- | --- |",
        "| 2.2 GB | the disk | 3.00 s | 5.00 s | 7.00 s |",
        "| 2.2 GB | memory | 2.00 s | 4.00 s | 6.00 s |",
        "| 16.1 GB | the disk | 3.00 s | 5.00 s | 7.00 s |",
        "| 16.1 GB | memory | 2.00 s | 4.00 s | 6.00 s |",
    ]


def test_what_is_loaded_is_every_tensor_and_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"shape":[4],"data_offsets":[3,7]}}'
    content = len(header).to_bytes(8, "little") + header + b"aaabbbb"
    (tmp_path / "m.safetensors").write_bytes(content)
    assert load(tmp_path) == 7
    (tmp_path / "m.safetensors").write_bytes(content[:-1])
    with pytest.raises(SystemExit, match="b is cut short"):
        load(tmp_path)


def test_the_published_page_has_a_place_for_it() -> None:
    page = Path(whole_way.__file__).parents[1] / "README.md"
    assert all(marks.stand_in(page) for marks in whole_way.MARKS.values())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    done = CliRunner().invoke(whole_way.main, ["--work", str(tmp_path)])
    assert done.exit_code == 1
    assert "exists" in done.output
    assert tmp_path.is_dir()
