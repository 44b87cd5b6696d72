from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from infini_llama.run_folder.checkpoints import (
    Provenance,
    clear_incoming,
    disk_errors,
    find_latest,
    incoming_folder,
    is_complete,
    list_checkpoints,
    publish,
)
from tests.support.process import run

PROVENANCE = Provenance(
    bundle="tiny",
    bundle_digest="sha256:1",
    lock_sha256="2",
    tokenizer="gpt2",
    tokenizer_commit="3",
    data={},
    settings={},
    seed=0,
    versions={},
    world_size=1,
)


def published(
    output_dir: Path,
    step: int,
    *,
    keep: int = 10,
    content: bytes = b"weights",
    provenance: Provenance = PROVENANCE,
) -> Path:
    """Publish a checkpoint with one file."""
    folder = incoming_folder(output_dir) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    return publish(folder, output_dir, provenance, step=step, keep=keep)


def test_the_latest_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    """By number: by name, checkpoint-9 would come after checkpoint-10."""
    last = published(tmp_path, 10)
    published(tmp_path, 9)
    assert find_latest(tmp_path) == last


def test_what_was_just_published_is_kept_and_a_damaged_one_counts_for_none(tmp_path: Path) -> None:
    """The run goes on from 10, since 20 has lost bytes, and keeps one checkpoint."""
    published(tmp_path, 5)
    good, damaged = published(tmp_path, 10), published(tmp_path, 20)
    os.truncate(damaged / "model.safetensors", 3)
    newest = published(tmp_path, 13, keep=1)
    assert list_checkpoints(tmp_path) == [newest, damaged]
    assert find_latest(tmp_path) == newest
    assert not good.exists()
    assert list_checkpoints(tmp_path) == [newest, published(tmp_path, 20, keep=2)]
    os.truncate(newest / "model.safetensors", 3)
    last = published(tmp_path, 30, keep=1)
    assert list_checkpoints(tmp_path) == [last]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_whoever_may_read_new_files_may_read_a_checkpoint(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = incoming_folder(tmp_path) / "checkpoint-1"
        (folder / "shards").mkdir(parents=True)
        for name in ("model.safetensors", "shards/0.distcp"):
            (folder / name).touch(mode=0o600)
        done = publish(folder, tmp_path, PROVENANCE, step=1, keep=1)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in done.rglob("*") if path.is_file()}
    assert modes.pop("provenance.json") == 0o644 & ~umask
    assert {*modes.values()} == {0o666 & ~umask}


def test_what_a_killed_run_left_unfinished_is_cleared(tmp_path: Path) -> None:
    torn = incoming_folder(tmp_path) / "checkpoint-2"
    torn.mkdir(parents=True)
    clear_incoming(tmp_path)
    clear_incoming(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_file_is_synced_before_the_checkpoint_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may lose power right after the rename: what the name promises must be on the disk by then."""
    steps: list[str] = []
    sync, rename = os.fsync, Path.rename

    def noted_sync(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def noted_rename(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    published(tmp_path, 1)
    weights, provenance, folder, renamed, parent = steps
    assert (weights, folder, renamed, parent) == (
        "model.safetensors",
        "checkpoint-1",
        "rename checkpoint-1",
        tmp_path.name,
    )
    assert provenance.startswith(".")


def test_killed_at_every_step_it_leaves_a_whole_checkpoint_or_none_and_the_next_run_finishes(
    tmp_path: Path,
) -> None:
    done = run([sys.executable, "-m", "tests.infini_llama.train.killing", tmp_path])
    outcome = json.loads(done.stdout)
    assert outcome["steps"] > 10
    # Without an old checkpoint to remove the rename is the last step.
    assert outcome["seen"] == {"first": [0], "next": [1, 2], "again": [0]}


def test_one_that_is_still_being_written_is_not_seen(tmp_path: Path) -> None:
    first = published(tmp_path, 1)
    torn = incoming_folder(tmp_path) / "checkpoint-2"
    torn.mkdir(parents=True)
    (torn / "model.safetensors").write_bytes(b"wei")
    assert find_latest(tmp_path) == first


def test_one_that_lost_bytes_a_file_or_its_provenance_is_passed_over(tmp_path: Path) -> None:
    first = published(tmp_path, 1)
    (published(tmp_path, 2) / "model.safetensors").write_bytes(b"wei")
    (published(tmp_path, 3) / "model.safetensors").unlink()
    (published(tmp_path, 4) / "provenance.json").unlink()
    (published(tmp_path, 5) / "provenance.json").write_text("{}")
    assert [is_complete(path) for path in list_checkpoints(tmp_path)] == [True, False, False, False, False]
    assert find_latest(tmp_path) == first


def test_without_any_there_is_no_latest(tmp_path: Path) -> None:
    assert find_latest(tmp_path) is None
    assert find_latest(tmp_path / "nowhere") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        published(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-10"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    (published(tmp_path, 1) / "model.safetensors").write_bytes(b"wei")
    again = published(tmp_path, 1, content=b"better")
    assert (again / "model.safetensors").read_bytes() == b"better"
    assert is_complete(again)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from infini_llama.run_folder.checkpoints import disk_errors

# As much as a full disk would take of a file; the kernel then says that it is too large.
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path(sys.argv[1])
try:
    with disk_errors(folder):
        {"safetensors": save_file, "torch": torch.save}[sys.argv[2]]({"w": torch.zeros(100_000)}, folder / "file")
except OSError as error:
    print(error.errno, error.filename == str(folder))
"""


@pytest.mark.parametrize(("library", "number"), [("safetensors", errno.EFBIG), ("torch", errno.EIO)])
def test_a_file_that_cannot_be_written_is_an_error_of_the_system(
    tmp_path: Path, library: str, number: int
) -> None:
    """torch does not say which it was, and there is room."""
    assert run([sys.executable, "-c", LIMITED, tmp_path, library]).stdout == f"{number} True\n"


def test_other_errors_of_a_save_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="connection closed by peer"), disk_errors(Path("/dev")):
        raise RuntimeError("connection closed by peer")
