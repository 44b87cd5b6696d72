"""Checkpoints that are whole or absent, and that say where they come from.

Rule book:

* a checkpoint is written to `OUTPUT/.incoming/checkpoint-N`, synced, given its `provenance.json` last, and renamed to
  `OUTPUT/checkpoint-N`. What has that name is complete; a run that was killed leaves only the incoming folder behind;
* `provenance.json` lists every file of the checkpoint with its size: one that was cut short afterwards, by a full disk
  or an interrupted copy, is passed over by `latest`;
* the optimizer's and the model's files are transformers', so that any transformers program can load them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from bundler.files.atomic import atomic_write, fsync_dir

PROVENANCE = "provenance.json"
CONFIG = "train.yaml"
INCOMING = ".incoming"
# A file system with less is full, whatever it rounds to.
_NO_ROOM_BYTES = 1 << 20
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a checkpoint was made from.

    Attributes:
        bundle: Name of the installed bundle; empty without one.
        bundle_digest: Its digest, `sha256:<hex>`.
        lock_sha256: SHA-256 of its lock.
        tokenizer: Repo id or folder as configured.
        tokenizer_commit: Commit of its snapshot, if it came from a repo.
        tokenizer_origin: Which tokenizer was really used, and where it came from: `infini_llama.data.tokenizers`.
        data: Path, files, bytes and SHA-256 of the text, and the tokens it gave.
        settings: The resolved configuration.
        seed: As in the settings.
        versions: Of this package, torch, transformers and Python.
        world_size: Processes that trained.
        started_from: Folder of the model that the run started with, and its provenance; empty for a fresh one.
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


def incoming_folder(output_dir: Path) -> Path:
    """Return where unfinished checkpoints of a run stand."""
    return output_dir / INCOMING


def clear_incoming(output_dir: Path) -> None:
    """Remove what a killed run left unfinished, lest its files get mixed with those of the next try."""
    shutil.rmtree(incoming_folder(output_dir), ignore_errors=True)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what safetensors and torch raise when a file cannot be written into the `OSError` that it is.

    Raises:
        OSError: `folder` could not be written to; the file system's room tells whether for want of it.
    """
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        text = str(error)
        # Of safetensors, with the system's number in it; of torch's file writer, without.
        number = re.search(r"\(os error ([0-9]+)\)", text)
        if number is None and not re.search("PytorchStreamWriter|inline_container", text):
            raise
        is_full = shutil.disk_usage(folder).free < _NO_ROOM_BYTES
        code = int(number[1]) if number else errno.ENOSPC if is_full else errno.EIO
        raise OSError(code, os.strerror(code), str(folder)) from error


def publish(folder: Path, output_dir: Path, provenance: Provenance, *, step: int, keep: int) -> Path:
    """Make a checkpoint visible, and remove the oldest beyond `keep`.

    Args:
        folder: The finished folder below `incoming_folder(output_dir)`.
        output_dir: The run's folder.
        provenance: To be written beside the weights.
        step: Optimizer steps taken.
        keep: How many checkpoints to leave.

    Returns:
        The checkpoint's final path.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    record = {"step": step, **asdict(provenance), "files": sizes}
    atomic_write(folder / PROVENANCE, (json.dumps(record, indent=1) + "\n").encode())
    final = output_dir / folder.name
    if final.exists():
        # Left by an earlier run that went on past the checkpoint that was resumed from, or damaged since.
        _remove(final, output_dir)
    folder.rename(final)
    fsync_dir(output_dir)
    for old in list_checkpoints(output_dir)[:-keep]:
        _remove(old, output_dir)
    return final


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Return the checkpoint folders of a run by step, whole or not."""
    found = ((_CHECKPOINT.fullmatch(p.name), p) for p in output_dir.iterdir() if p.is_dir())
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def find_latest(output_dir: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, or None."""
    if not output_dir.is_dir():
        return None
    return next((path for path in reversed(list_checkpoints(output_dir)) if is_complete(path)), None)


def find_damaged(output_dir: Path, *, since: Path | None) -> list[Path]:
    """Return the checkpoints after `since`, or all, that are not complete."""
    if not output_dir.is_dir():
        return []
    found = list_checkpoints(output_dir)
    newer = found[found.index(since) + 1 :] if since else found
    return [path for path in newer if not is_complete(path)]


def is_complete(checkpoint: Path) -> bool:
    """Tell whether a checkpoint has its provenance, and every file in it with the size it had."""
    try:
        files = json.loads((checkpoint / PROVENANCE).read_bytes())["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _remove(checkpoint: Path, output_dir: Path) -> None:
    # Renamed out of sight first: a removal that is interrupted must not leave half a checkpoint.
    doomed = incoming_folder(output_dir) / f"removed-{checkpoint.name}"
    shutil.rmtree(doomed, ignore_errors=True)
    doomed.parent.mkdir(exist_ok=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)
