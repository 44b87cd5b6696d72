"""Start a child process of the proof: isolated, with its own cache and a fixed environment."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import bundler
from bundler.errors import ProofError
from bundler.files.bounded import read_bounded
from bundler.make.fetch import blob_path
from bundler.make.proof.confinement import SandboxChoice, choose_confinement
from bundler.make.proof.findings import Finding, entry_path, parse_findings
from bundler.make.proof.home import assemble
from bundler.make.store import Store
from bundler.offline.kernel.isolation import Requested
from bundler.offline.launch.launch import Completed, run_isolated
from bundler.offline.launch.writable_overlay import merge_files, mirror
from bundler.offline.sandbox.limits import Breach, Limits, Watcher
from bundler.offline.sandbox.sandbox import Sandbox, make_entry
from bundler.offline.sandbox.visible import Visible, visible_to_python
from bundler.offline.variables import WritableOverlay, offline_environment
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.layout import layout
from bundler.plan.lock import Lock

Mode = Literal["prove", "prepare"]
# Far more than what is honest takes.
LIMITS = Limits()

# Characters from the end of the log: enough to see why a process died.
_LOG_TAIL_BYTES = 2000

# What a child sees of the environment. Settings of the person who fetches must not help, or hinder, what has to work on
# another machine, and what is a secret nobody can tell by its name.
_PASSED = re.compile(
    r"PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ|LD_LIBRARY_PATH|PYTHONPATH|PYTHONHOME|PYTHONUTF8|PYTHONIOENCODING|PYTHONWARNINGS"
    r"|(OMP|MKL|OPENBLAS)_NUM_THREADS"
)
# The largest result that is read: thousands of entries, each with its findings.
_MOST_RESULT_BYTES = 16 << 20
_MOST_STEP_BYTES = 20


@dataclass(frozen=True)
class ChildResult:
    """The result of a child process.

    Attributes:
        findings: One for each entry that it checked.
        completed: How the process ran, with its isolation.
        sandbox: What held it besides.
    """

    findings: list[Finding]
    completed: Completed
    sandbox: Sandbox


def run_child(
    mode: Mode,
    lock: Lock,
    store: Store,
    work: Path,
    home: Path,
    *,
    isolate: Requested = "auto",
    sandbox: SandboxChoice = "auto",
    limits: Limits = LIMITS,
) -> ChildResult:
    """Let a child process check every entry of `lock`.

    Args:
        mode: "prove" or "prepare"; see `bundler.make.proof.child`.
        lock: A complete lock.
        store: The store with its files.
        work: An empty folder on the store's file system.
        home: The child's HF_HOME, which will be made below `work`.
        isolate: The isolation, as for `bundle run`.
        sandbox: As `choose_confinement` takes it.
        limits: What the child may take; preparing datasets, which runs no code of repos, may take any time and room.

    Raises:
        ProofError: The child ended without a result, or with something else in its place; or it went over a limit.
        OfflineError: This machine does not support `isolate`.
        SandboxError: This machine does not support `sandbox`.
    """
    chosen = choose_confinement(lock, isolate=isolate, sandbox=sandbox)
    assemble(home, layout(lock), blob_path(store))
    folders = _Folders.make(work, home, mode)
    log = work / f"{mode}.log"
    folders.write_job(mode, lock)
    if mode == "prepare":
        limits = replace(limits, step_seconds=None, written_bytes=None)
    log.touch()
    watcher = Watcher(limits, (folders.scratch, log), lambda: _read_step(folders.step))
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        completed = run_isolated(
            folders.command(),
            env=_environment(mode, folders),
            isolate=isolate,
            confine=make_entry(chosen, folders.visible(), folders.root, limits),
            wait=watcher.wait,
            cwd=folders.scratch,
            stdin=nothing,
            stdout=output,
            stderr=output,
        )
    if watcher.breach is not None:
        raise _refuse(lock, watcher.breach)
    try:
        found = parse_findings(read_bounded(folders.result, _MOST_RESULT_BYTES), len(lock.repos))
    except (OSError, ValueError) as error:
        raise _dead(mode, completed, log) from error
    return ChildResult(found, completed, chosen)


def _read_step(path: Path) -> int:
    """Return the entry that the child says it is at; its first, where it says nothing that makes sense."""
    with contextlib.suppress(OSError, ValueError):
        return int(read_bounded(path, _MOST_STEP_BYTES))
    return 0


def _refuse(lock: Lock, breach: Breach) -> ProofError:
    index = min(breach.step, len(lock.repos) - 1)
    repo, entry = lock.repos[index], entry_path(lock, index)
    hint = "an entry with trust_remote_code runs Python of its repo: look at that before you fetch it again"
    if breach.is_time:
        hint = f"if it may take so long: --proof-timeout MINUTES; {hint}"
    return ProofError(f"{entry} ({repo.repo_id}): its proof was ended: it {breach.what}", hint=hint)


def _dead(mode: Mode, completed: Completed, log: Path) -> ProofError:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        tail = stream.read().decode(errors="replace").strip()
    return ProofError(
        f"the process for the step {mode!r} ended with exit code {completed.exit_code} and without a result"
        + (f"; the end of its output:\n{tail}" if tail else ""),
        hint="137 means that it was killed, usually because memory ran out"
        if completed.exit_code == 137
        else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Folders:
    """Where a child finds and leaves things.

    Attributes:
        home: Its HF_HOME, to be read.
        lock: The lock.
        job: What it is told to do.
        scratch: What it may write: a home, a temporary folder, and what libraries insist on.
        writable: All folders that it may write.
        root: An empty folder for a root of its own.
    """

    home: Path
    lock: Path
    job: Path
    scratch: Path
    writable: tuple[Path, ...]
    root: Path

    @property
    def result(self) -> Path:
        """Where the child leaves its findings."""
        return self.scratch / "result.json"

    @property
    def step(self) -> Path:
        """Where the child says which entry it is at."""
        return self.scratch / "step"

    @classmethod
    def make(cls, work: Path, home: Path, mode: Mode) -> _Folders:
        scratch, root, datasets = work / "scratch", work / "root", home / "datasets"
        for folder in (root, scratch / "home", scratch / "tmp", scratch / "modules", scratch / "datasets"):
            folder.mkdir(parents=True)
        writable = [scratch]
        if mode == "prepare":
            datasets.mkdir(exist_ok=True)
            writable.append(datasets)
        elif datasets.is_dir():
            # These files are links to the store: read here, with folders of their own for lock files.
            mirror(datasets, scratch / "datasets")
        if mode == "prove" and (found := sorted((home / "files").glob("*/snapshots/*"))):
            merge_files(found, scratch / "files")
        return cls(
            home=home,
            lock=work / "lock.json",
            job=work / "job.json",
            scratch=scratch,
            writable=tuple(writable),
            root=root,
        )

    def command(self) -> list[str]:
        """Return what the child is."""
        # -P: the working folder, which the child may write, is not imported from.
        return [sys.executable, "-P", "-m", "bundler.make.proof.child", str(self.job)]

    def visible(self) -> Visible:
        """Return what it may read and write."""
        read = (Path(bundler.__file__).parent, self.home, self.lock, self.job)
        return visible_to_python(read, self.writable)

    def write_job(self, mode: Mode, lock: Lock) -> None:
        """Write down what the child is to do, and what it reads besides."""
        if mode == "prove":
            # As much of a receipt as the guard reads, so that it answers calls as it does in a launch.
            (self.home / BUNDLES_FOLDER).mkdir(exist_ok=True)
            (self.home / BUNDLES_FOLDER / f"{lock.name}.json").write_text(f'{{"lock": {lock.dumps()}}}')
        self.lock.write_text(lock.dumps())
        job = {"lock": self.lock, "home": self.home, "result": self.result, "step": self.step}
        self.job.write_text(json.dumps({"mode": mode, **{name: str(path) for name, path in job.items()}}))


def _environment(mode: Mode, folders: _Folders) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
    modules, datasets = folders.scratch / "modules", folders.scratch / "datasets"
    own |= {"HOME": str(folders.scratch / "home"), "TMPDIR": str(folders.scratch / "tmp")}
    # For equal results everywhere: few threads, no warnings about forks, and no GPU.
    own |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}
    own |= {"PYTHONDONTWRITEBYTECODE": "1"}
    source = Path(bundler.__file__).parents[1]
    if source.name not in ("site-packages", "dist-packages"):
        # Perhaps found by the working folder only.
        own["PYTHONPATH"] = os.pathsep.join(filter(None, [own.get("PYTHONPATH"), str(source)]))
    if mode == "prove":
        more = {name: folders.scratch / name for name in ("metrics", "evaluate")}
        files = folders.scratch / "files"
        overlay = WritableOverlay(
            modules=modules, datasets=datasets, files=files if files.is_dir() else None, **more
        )
        return offline_environment(folders.home, overlay=overlay).apply(own)
    # The library must think that it is online. Only our Hub on loopback can be reached.
    return own | {
        "HF_HOME": str(folders.home),
        "HF_MODULES_CACHE": str(modules),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }
