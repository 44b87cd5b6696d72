"""Publish and find checkpoints; a checkpoint is complete, and records what it was made from.

Rule book:

* a checkpoint is written to `OUTPUT/.incoming/checkpoint-N` and synced, then `provenance.json` is written, and the
  folder is renamed to `OUTPUT/checkpoint-N`. So a folder with that name was complete; a killed run leaves only the
  incoming folder;
* `provenance.json` lists every file of the checkpoint with its size. A checkpoint that lost bytes afterwards, by a full
  disk or an interrupted copy, is skipped by `find_latest`;
* the files of optimizer and model have transformers' format, so that any transformers program can load them; or they
  are shares in the folder `shards`, which `infini-llama export` turns into such files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from bundler.files.atomic import atomic_write, fsync_dir

PROVENANCE = "provenance.json"
CONFIG = "train.yaml"
# Folder of a checkpoint whose weights and optimizer state are by shares (see `infini_llama.parallel`).
SHARDS = "shards"
INCOMING = ".incoming"
# A file system with less free space than this counts as full.
_NO_ROOM_BYTES = 1 << 20
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a checkpoint was made from.

    Attributes:
        bundle: Name of the installed bundle; empty without a bundle.
        bundle_digest: Digest of the bundle, `sha256:<hex>`.
        lock_sha256: SHA-256 of its lock.
        tokenizer: Repo id or folder in the configuration.
        tokenizer_commit: Commit of its snapshot, if it came from a repo.
        tokenizer_origin: Which tokenizer was used, and where it came from (see `infini_llama.data.tokenizers`).
        data: Path, files, bytes and SHA-256 of the text, and its number of tokens.
        settings: The resolved configuration.
        seed: The seed in the settings.
        versions: Versions of this package, torch, transformers and Python.
        world_size: Number of processes that trained.
        machine: `system` and `device` of rank 0, in words.
        started_from: Folder of the model that the run started with, and its provenance; empty for a new model.
        rewarming: From which step and rates a changed schedule is come to (see `infini_llama.train.schedule`); empty
            unless the run resumed with one.
        order: In which order rows are drawn, and how many were (see `infini_llama.data.order`); empty for a run that
            began before there was one.
    """

    bundle: str
    bundle_digest: str
    lock_sha256: str
    tokenizer: str
    tokenizer_commit: str
    data: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    versions: dict[str, str]
    world_size: int
    tokenizer_origin: dict[str, Any] = field(default_factory=dict)
    started_from: dict[str, Any] = field(default_factory=dict)
    rewarming: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    order: dict[str, Any] = field(default_factory=dict)


def incoming_folder(output_dir: Path) -> Path:
    """Return the folder for unfinished checkpoints of a run."""
    return output_dir / INCOMING


def clear_incoming(output_dir: Path) -> None:
    """Delete unfinished checkpoints of a killed run, so that their files are not mixed with new ones."""
    shutil.rmtree(incoming_folder(output_dir), ignore_errors=True)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raise an `OSError` instead of the errors of safetensors and torch for a file that cannot be written.

    Raises:
        OSError: `folder` cannot be written to; the error is ENOSPC if the file system is full.
    """
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        text = str(error)
        # The message of safetensors has the system's error number; that of torch's file writer has none.
        number = re.search(r"\(os error ([0-9]+)\)", text)
        if number is None and not re.search("PytorchStreamWriter|inline_container", text):
            raise
        is_full = shutil.disk_usage(folder).free < _NO_ROOM_BYTES
        code = int(number[1]) if number else errno.ENOSPC if is_full else errno.EIO
        raise OSError(code, os.strerror(code), str(folder)) from error


def seal(folder: Path, record: dict[str, Any]) -> None:
    """Sync the files of a model's folder, and write its provenance: `record`, and each file with its size.

    Whoever may read new files of this user may read them: safetensors makes its own for their owner only.
    """
    files, mode = sorted(p for p in folder.rglob("*") if p.is_file()), _mode_of_new_files(folder)
    for file in files:
        file.chmod(mode)
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    atomic_write(folder / PROVENANCE, (json.dumps({**record, "files": sizes}, indent=1) + "\n").encode())


def _mode_of_new_files(folder: Path) -> int:
    """Return the permission bits that a new file gets; asking for the umask would change it for other threads."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        probe = Path(place, "probe")
        probe.touch()
        return probe.stat().st_mode & 0o777


def publish(folder: Path, output_dir: Path, provenance: Provenance, *, step: int, keep: int) -> Path:
    """Make a checkpoint visible, and remove the oldest complete ones beyond `keep`.

    One that is damaged counts for none of them, and is removed when an older complete one would be.

    Args:
        folder: The finished folder below `incoming_folder(output_dir)`.
        output_dir: The run's folder.
        provenance: The provenance to write beside the weights.
        step: Number of optimizer steps so far.
        keep: How many checkpoints to keep.

    Returns:
        The checkpoint's final path.
    """
    seal(folder, {"step": step, **asdict(provenance)})
    final = output_dir / folder.name
    if final.exists():
        # An old checkpoint of this step: the killed run had continued past the one that was resumed, or this is
        # damaged.
        _remove(final, output_dir)
    folder.rename(final)
    fsync_dir(output_dir)
    _remove_old(output_dir, final, keep)
    return final


def _remove_old(output_dir: Path, newest: Path, keep: int) -> None:
    """Remove checkpoints before the last `keep` complete ones; never `newest`, which has just got its name."""
    found = list_checkpoints(output_dir)
    complete = [path for path in found if path == newest or is_complete(path)]
    kept = {newest, *complete[-keep:]}
    first = min(map(found.index, kept))
    for number, path in enumerate(found):
        if path not in kept and (path in complete or number < first):
            _remove(path, output_dir)


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Return the checkpoint folders of a run in order of steps, complete or not."""
    found = ((_CHECKPOINT.fullmatch(p.name), p) for p in output_dir.iterdir() if p.is_dir())
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def find_latest(output_dir: Path) -> Path | None:
    """Return the newest complete checkpoint of a run; None if there is none."""
    if not output_dir.is_dir():
        return None
    return next((path for path in reversed(list_checkpoints(output_dir)) if is_complete(path)), None)


def find_damaged(output_dir: Path, *, since: Path | None) -> list[Path]:
    """Return the checkpoints that are not complete: those after `since`, or all of them if it is None."""
    if not output_dir.is_dir():
        return []
    found = list_checkpoints(output_dir)
    newer = found[found.index(since) + 1 :] if since else found
    return [path for path in newer if not is_complete(path)]


def is_complete(checkpoint: Path) -> bool:
    """Return whether a checkpoint has its provenance, and every file that it lists with the same size."""
    try:
        files = json.loads((checkpoint / PROVENANCE).read_bytes())["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _remove(checkpoint: Path, output_dir: Path) -> None:
    # Rename it first: an interrupted deletion must not leave an incomplete checkpoint.
    doomed = incoming_folder(output_dir) / f"removed-{checkpoint.name}"
    shutil.rmtree(doomed, ignore_errors=True)
    doomed.parent.mkdir(exist_ok=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)
