"""Start a child process of the proof: isolated, with its own cache and a fixed environment."""

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

# Characters from the end of the log: enough to see why a process died.
_LOG_TAIL_BYTES = 2000

# Settings of this user are removed: the result must hold on another machine.
_FOREIGN = re.compile(
    r"(HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|DATASETS|BUNDLE)_.*|.*_PROXY|DISABLE_TELEMETRY|DO_NOT_TRACK",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ChildResult:
    """The result of a child process.

    Attributes:
        findings: One for each entry that it checked.
        completed: How the process ran, with its isolation.
    """

    findings: list[Finding]
    completed: Completed


def run_child(
    mode: str, lock: Lock, store: Store, work: Path, home: Path, *, isolate: Requested = "auto"
) -> ChildResult:
    """Let a child process check every entry of `lock`.

    Args:
        mode: "prove" or "prepare"; see `bundler.make.proof.child`.
        lock: A complete lock.
        store: The store with its files.
        work: An empty folder on the store's file system.
        home: The child's HF_HOME, which will be made below `work`.
        isolate: The isolation, as for `bundle run`.

    Raises:
        ProofError: The child ended without a result.
        OfflineError: This machine does not support `isolate`.
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
            f"the process for the step {mode!r} ended with exit code {completed.exit_code} and without a result"
            + (f"; the end of its output:\n{tail}" if tail else ""),
            hint="137 means that it was killed, usually because memory ran out"
            if completed.exit_code == 137
            else None,
        ) from error
    return ChildResult(found, completed)


def _environment(mode: str, home: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not _FOREIGN.fullmatch(name)}
    # For equal results everywhere: few threads, no warnings about forks, and no GPU.
    own |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}
    if mode == "prove":
        return offline_environment(home).apply(own)
    # The library must think that it is online. Only our Hub on loopback can be reached.
    return own | {
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }
