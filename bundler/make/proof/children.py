"""Starts a child process of the proof: isolated, on a cache of its own, in an environment of ours."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ProofError
from bundler.make.fetch import blob_path
from bundler.make.proof.findings import Finding
from bundler.make.proof.home import assemble
from bundler.make.store import Store
from bundler.offline.kernel.isolation import Requested
from bundler.offline.launch.launch import Completed, run_isolated
from bundler.offline.variables import offline_environment
from bundler.plan.layout import layout
from bundler.plan.lock import Lock

# Enough of a log to see what a process died of.
_LOG_TAIL_BYTES = 2000

# Settings of the person who fetches must not help, or hinder, what has to work on another machine.
_FOREIGN = re.compile(
    r"(HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|DATASETS|BUNDLE)_.*|.*_PROXY|DISABLE_TELEMETRY|DO_NOT_TRACK",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ChildResult:
    """What a child found, and under which isolation.

    Attributes:
        findings: One for each entry that it looked at.
        completed: How it ran.
    """

    findings: list[Finding]
    completed: Completed


def run_child(
    mode: str, lock: Lock, store: Store, work: Path, home: Path, *, isolate: Requested = "auto"
) -> ChildResult:
    """Let a child process look at every entry of `lock`.

    Args:
        mode: "prove" or "prepare"; see `bundler.make.proof.child`.
        lock: A complete lock.
        store: Where its files are.
        work: An empty folder on the store's file system.
        home: The child's HF_HOME, to be made below `work`.
        isolate: As `bundle run` takes it.

    Raises:
        ProofError: The child died before it had a result.
        OfflineError: `isolate` cannot be had.
    """
    assemble(home, layout(lock), blob_path(store))
    lock_file, result, log = work / "lock.json", work / f"{mode}-result.json", work / f"{mode}.log"
    lock_file.write_text(lock.dumps())
    job = work / "job.json"
    job.write_text(json.dumps({"mode": mode, "lock": str(lock_file), "home": str(home), "result": str(result)}))
    argv = [sys.executable, "-m", "bundler.make.proof.child", str(job)]
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        completed = run_isolated(
            argv, env=_environment(mode, home), isolate=isolate, stdin=nothing, stdout=output, stderr=output
        )
    try:
        found = [Finding(**item) for item in json.loads(result.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        tail = log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        raise ProofError(
            f"the process that should {mode} ended with exit code {completed.exit_code} before it had a result"
            + (f"; the end of what it wrote:\n{tail}" if tail else ""),
            hint="137 means that it was killed, most often for want of memory"
            if completed.exit_code == 137
            else None,
        ) from error
    return ChildResult(found, completed)


def _environment(mode: str, home: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not _FOREIGN.fullmatch(name)}
    # Reproducible, quiet on machines with many cores, and nobody's GPU.
    own |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}
    if mode == "prove":
        return offline_environment(home).apply(own)
    # Online, as far as the library knows: the only Hub in reach is ours, on loopback.
    return own | {
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }
