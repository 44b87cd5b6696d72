"""The harness of `make train-real-text`: its text, its log reading and its account. No training is done here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.train.real_text import Interruption, last_step, markdown, write_corpus


def test_training_and_held_out_text_share_no_file(tmp_path: Path) -> None:
    sizes = write_corpus(tmp_path)
    names = {split: {path.name for path in (tmp_path / split).iterdir()} for split in sizes}
    assert {split: len(found) for split, found in names.items()} == {
        split: size[0] for split, size in sizes.items()
    }
    assert not names["train"] & names["held-out"]
    assert min(map(len, names.values())) > 3
    assert "argparse.txt" in names["train"] | names["held-out"]
    assert not [name for name in names["train"] if name.startswith(("test.", "site-packages."))]


def test_the_last_step_of_a_log_is_found_over_several_launches(tmp_path: Path) -> None:
    log = tmp_path / "memory.log"
    assert last_step(log) == 0
    log.write_text("note: nothing\nstep   5/400  loss 9.1\nstep  40/400  loss 6.0\ntokenizer gpt2\n")
    assert last_step(log) == 40


def test_the_account_names_each_interruption_and_each_stretch() -> None:
    def stretch(first: int, last: int, with_memory: float, without_memory: float) -> dict[str, float]:
        return {
            "first": first,
            "last": last,
            "tokens": 1000,
            "with_memory": with_memory,
            "without_memory": without_memory,
        }

    text = markdown(
        {"train": (300, 8_000_000), "held-out": (23, 600_000)},
        {"parameters": 6_000_000, "steps": 400, "tokens": 819_200},
        [Interruption(signal="SIGKILL", seen_step=92, exit_code=-9, resumed_from="checkpoint-80")],
        0,
        {
            "memory": [stretch(1, 1, 700.0, 700.0), stretch(1, 64, 46.0, 47.5)],
            "shut": [stretch(1, 1, 735.0, 735.0), stretch(1, 64, 48.125, 48.125)],
        },
    )
    assert "300 files of 8.0 million characters to train on, 23 of 0.6 million held out" in text
    assert "- SIGKILL at step 92 or soon after: exit code -9, resumed from `checkpoint-80`" in text
    assert "under strace: 0 uses of an internet address" in text
    assert "| 1 | 1,000 | 700.00 | 700.00 | 735.00 |\n| all | 1,000 | 46.00 | 47.50 | 48.12 |" in text
