"""The child process of the proof: ``python -m bundler.make.proof.child JOB``, started by `bundler.make.proof.run`.

JOB is a JSON file: `mode` ("prove" or "prepare"), `lock` and `home` (paths), `result` and `step` (where to write). The
result is a JSON list of `bundler.make.proof.findings.Finding`, one for each entry that was checked; the step is the
number of the entry that is being checked. What libraries print goes to the parent's log, which is used only if there
is no result.

The parent sets the environment before this process's first import. Only the address of the loopback Hub is added here.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from bundler.files.atomic import atomic_write
from bundler.make.proof import dataset, loading
from bundler.make.proof.entries import ContradictionFault, LoadedEntry, LoadingFault, MissingPieceFault, Outcome
from bundler.make.proof.findings import Finding
from bundler.make.proof.kinds import file, kernel, space
from bundler.plan.lock import Lock, LockedRepo
from bundler.plan.names import repo_place

_PROVERS = {"dataset": dataset.prove, "kernel": kernel.prove, "space": space.prove, "file": file.prove}


def main(job_path: str) -> int:
    """Do the job; return 0, the exit code, when the result is written."""
    job = json.loads(Path(job_path).read_bytes())
    home = Path(job["home"])
    lock = Lock.loads(Path(job["lock"]).read_text(), source=job["lock"])
    step = Path(job["step"])
    findings = (_prepare if job["mode"] == "prepare" else _prove)(lock, home, step)
    atomic_write(Path(job["result"]), json.dumps([vars(finding) for finding in findings]).encode())
    return 0


def _prove(lock: Lock, home: Path, step: Path) -> list[Finding]:
    asked = _AskedFiles()
    # Not imported for it: weights without a config need no transformers, which takes a second.
    _WhenImported.call("transformers.utils.hub", asked.watch)
    findings = []
    for index, repo in enumerate(lock.repos):
        step.write_text(str(index))
        snapshot = home / repo_place(repo.repo_id, repo.repo_type) / "snapshots" / repo.commit
        entry = LoadedEntry(repo, snapshot)
        asked.begin(repo)
        outcome = Outcome()
        finding = _check_entry(index, _PROVERS.get(repo.kind, loading.prove), entry, outcome)
        finding.proven, finding.notes = outcome.proven, outcome.notes
        finding.missing = asked.missing()
        findings.append(finding)
    return findings


def _prepare(lock: Lock, home: Path, step: Path) -> list[Finding]:
    with dataset.serve_on_loopback(home) as endpoint:
        # Set before the first import of huggingface_hub, which reads it then.
        os.environ["HF_ENDPOINT"] = endpoint
        findings = []
        for index, repo in enumerate(lock.repos):
            if repo.kind == "dataset":
                step.write_text(str(index))
                prepared: list[str] = []
                finding = _check_entry(index, _prepare_and_list, prepared, repo, home)
                finding.prepared = prepared
                findings.append(finding)
        return findings


def _prepare_and_list(paths: list[str], repo: LockedRepo, home: Path) -> None:
    paths.extend(dataset.prepare(repo, home))


def _check_entry(index: int, action: Callable[..., None], *arguments: Any) -> Finding:
    finding = Finding(index)
    try:
        action(*arguments)
    except LoadingFault as error:
        finding.failure = str(error)
        finding.damaged = isinstance(error, ContradictionFault)
        finding.line = error.line if isinstance(error, MissingPieceFault) else None
    except ImportError as error:
        finding.failure = finding.package = " ".join(str(error).split())[:400]
    return finding


class _AskedFiles:
    """Records which files transformers looked for and did not find, so that an error can name them."""

    def __init__(self) -> None:
        self._repo: LockedRepo | None = None
        self._absent: list[str] = []

    def begin(self, repo: LockedRepo) -> None:
        self._repo = repo
        self._absent = []

    def missing(self) -> list[str]:
        """Return the names, without those that the commit is known to lack."""
        assert self._repo is not None
        return sorted(set(self._absent) - set(self._repo.absent) - {file.path for file in self._repo.files})

    def watch(self, hub: ModuleType) -> None:
        """Put ourselves in front of the function of transformers' module `hub` that looks for files."""
        original = getattr(hub, "cached_files", None)
        if original is None:
            return

        @functools.wraps(original)
        def cached_files(path_or_repo_id: Any, filenames: list[str], *args: Any, **options: Any) -> Any:
            folder = options.get("subfolder") or ""
            self._absent.extend(f"{folder}/{name}" if folder else str(name) for name in filenames)
            return original(path_or_repo_id, filenames, *args, **options)

        hub.cached_files = cached_files  # type: ignore[attr-defined]


class _WhenImported(MetaPathFinder):
    """Calls a function with a module when that is imported; nothing is called if it never is."""

    def __init__(self, name: str, action: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._action = action

    @classmethod
    def call(cls, name: str, action: Callable[[ModuleType], None]) -> None:
        """Let the import system call `action`; the module must not be there yet."""
        assert name not in sys.modules
        sys.meta_path.insert(0, cls(name, action))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module where the others do (see `MetaPathFinder`), and let its loader tell us."""
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_tell(module: ModuleType) -> None:
                execute(module)
                self._action(module)

            spec.loader.exec_module = execute_and_tell  # type: ignore[method-assign]
        return spec


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
