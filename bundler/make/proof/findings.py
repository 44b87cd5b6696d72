"""What a child process of the proof found, entry by entry, and the errors that failed findings become."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from bundler.errors import DependencyError, ProofError, SpaceError
from bundler.plan.lock import Lock, LockedRepo

# The extra `train` of setup.cfg; tests/packaging compares them. Not our package's name, which is not ours on PyPI.
INSTALL_HINT = "pip install 'torch>=2.6' 'transformers>=5.20,<6' 'accelerate>=1.1' 'datasets>=5.0'"


@dataclass
class Finding:
    """The results for one entry.

    Attributes:
        index: Its position in the lock that the child received.
        proven: What worked.
        notes: What was not checked, and what is unusual but harmless.
        failure: What does not work; None if everything does.
        damaged: Whether the reason is the content of files, and not a missing file.
        missing: Files that a library looked for and the entry does not have, without those that the commit lacks.
        line: What to write into the manifest, if the check knows.
        package: The package whose import failed; None if none did.
        prepared: The prepared files of a dataset.
    """

    index: int
    proven: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str | None = None
    damaged: bool = False
    missing: list[str] = field(default_factory=list)
    line: str | None = None
    package: str | None = None
    prepared: list[str] = field(default_factory=list)


class UnloadableError(ProofError):
    """Entries do not load; the message speaks of the manifest that they stand in.

    Attributes:
        findings: The failed ones, for whom there is no manifest.
    """

    def __init__(self, message: str, findings: Iterable[Finding]) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


def parse_findings(text: bytes, entries: int) -> list[Finding]:
    """Read what a child wrote, which may have run code of unknown makers.

    Args:
        text: The findings as JSON.
        entries: How many entries it was given.

    Raises:
        ValueError: It is anything else.
    """
    try:
        written = json.loads(text)
        if not isinstance(written, list):
            raise ValueError("no list of findings")
        found = [Finding(**item) for item in written]
    except (TypeError, RecursionError) as error:
        raise ValueError(f"no list of findings: {error}") from error
    for finding in found:
        lists = (finding.proven, finding.notes, finding.missing, finding.prepared)
        texts = (finding.failure, finding.line, finding.package)
        if not (
            type(finding.index) is int
            and 0 <= finding.index < entries
            and isinstance(finding.damaged, bool)
            and all(isinstance(value, str | None) for value in texts)
            and all(isinstance(value, list) and all(isinstance(item, str) for item in value) for value in lists)
        ):
            raise ValueError(f"no finding: {str(vars(finding))[:200]}")
    return found


def entry_path(lock: Lock, index: int) -> str:
    """Return the key path in the manifest of the lock's entry `index`, such as ``models[2]``."""
    kind = lock.repos[index].kind
    return f"{kind}s[{sum(repo.kind == kind for repo in lock.repos[:index])}]"


def refuse_failures(lock: Lock, findings: Iterable[Finding]) -> None:
    """Raise one error for all failed findings; return if none failed.

    Raises:
        UnloadableError: Entries do not load.
        DependencyError: All failed entries failed because a package is missing.
        SpaceError: The disk was too small for a prepared dataset.
    """
    failed = [finding for finding in findings if finding.failure is not None]
    if not failed:
        return
    for finding in failed:
        # Messages of the datasets library and of the kernel.
        if any(words in str(finding.failure) for words in ("Not enough disk space", "No space left on device")):
            raise SpaceError(
                f"{entry_path(lock, finding.index)}: {finding.failure}",
                hint="prepared datasets are larger than the files they come from: use another --cache-dir",
            )
    blocks, packages = [], []
    for finding in failed:
        repo, entry = lock.repos[finding.index], entry_path(lock, finding.index)
        if finding.package is not None:
            packages.append(f"{entry} ({repo.repo_id}): {finding.package}")
            continue
        blocks.append(f"{entry} ({repo.repo_id}) does not load offline: {finding.failure}")
        if finding.damaged:
            blocks.append(f"  the files are the same in the repo; another {entry}.revision may work")
            continue
        if finding.missing and finding.line is None:
            blocks.append(f"  not found in the bundle: {', '.join(finding.missing)}")
        blocks.append(f"  what to change: {finding.line or _remedy(repo, entry, finding.missing)}")
    if blocks:
        raise UnloadableError("\n".join(blocks), [finding for finding in failed if finding.package is None])
    raise DependencyError(
        "the proof needs packages that are not installed here:\n  " + "\n  ".join(packages),
        hint=f"install them beside `bundle`; if it is one of these: {INSTALL_HINT}",
    )


def _remedy(repo: LockedRepo, entry: str, missing: Iterable[str]) -> str:
    if repo.kind == "dataset":
        return f"{entry}.configs or the patterns of {entry} in the manifest, if files were left out; or the files"
    if any(PurePosixPath(name).suffix == ".py" for name in missing) and not repo.trust_remote_code:
        return f"{entry}.trust_remote_code: true, if it needs its own Python and you trust it"
    return f"{entry}.allow_patterns or {entry}.ignore_patterns, if they leave out a file that the repo has"
