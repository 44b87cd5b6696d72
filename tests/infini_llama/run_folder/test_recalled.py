"""`recall.jsonl`: what is written is read, and is replaced as a whole."""

from __future__ import annotations

from pathlib import Path

from infini_llama.run_folder.recalled import RECALL, read_recalled, write_recalled


def test_what_was_written_last_is_read(tmp_path: Path) -> None:
    assert read_recalled(tmp_path, RECALL) == []
    write_recalled(tmp_path, RECALL, [{"variant": "delta"}, {"variant": "linear"}])
    write_recalled(tmp_path, RECALL, [{"variant": "linear", "accuracy": {"2": 0.5}}])
    assert read_recalled(tmp_path, RECALL) == [{"variant": "linear", "accuracy": {"2": 0.5}}]
