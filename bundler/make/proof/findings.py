"""What a child process of the proof found, entry by entry, and the errors that failed findings become."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from bundler.errors import DependencyError, ProofError, SpaceError
from bundler.plan.lock import Lock, LockedRepo

# The extra `train` of setup.cfg, held equal by tests/packaging. Not by our own name: that is not ours on PyPI.
INSTALL_HINT = "pip install 'torch>=2.6' 'transformers>=5.20,<6' 'accelerate>=1.1' 'datasets>=5.0'"


@dataclass
class Finding:
    """What came of one entry.

    Attributes:
        index: Its position in the lock that the child was given.
        proven: What was seen to work.
        notes: What was not checked, and what is odd but harmless.
        failure: What does not work, or None.
        damaged: Whether the reason is in the content of files, rather than in their absence.
        missing: Files that a library looked for and the entry does not have, unless the commit is known to lack them.
        package: What an import failed for, or None.
        prepared: The files of a dataset that was prepared.
    """

    index: int
    proven: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str | None = None
    damaged: bool = False
    missing: list[str] = field(default_factory=list)
    package: str | None = None
    prepared: list[str] = field(default_factory=list)


def entry_path(lock: Lock, index: int) -> str:
    """Return the key path in the manifest of the lock's entry `index`, such as ``models[2]``."""
    kind = lock.repos[index].kind
    return f"{kind}s[{sum(repo.kind == kind for repo in lock.repos[:index])}]"


def refuse_failures(lock: Lock, findings: Iterable[Finding]) -> None:
    """Raise what failed findings mean to the user, all of them together; return if none failed.

    Raises:
        ProofError: Entries do not load.
        DependencyError: All that failed did so for want of a package.
        SpaceError: The disk was too small for a prepared dataset.
    """
    failed = [finding for finding in findings if finding.failure is not None]
    if not failed:
        return
    for finding in failed:
        # The datasets library, and the kernel.
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
            blocks.append(f"  the files are as the repo has them; another {entry}.revision may be whole")
            continue
        if finding.missing:
            blocks.append(f"  looked for, and not in the bundle: {', '.join(finding.missing)}")
        blocks.append(f"  what to change: {_remedy(repo, entry, finding.missing)}")
    if blocks:
        raise ProofError("\n".join(blocks))
    raise DependencyError(
        "cannot be proven without packages that are not installed here:\n  " + "\n  ".join(packages),
        hint=f"install them beside `bundle`, or, if it is one of these: {INSTALL_HINT}",
    )


def _remedy(repo: LockedRepo, entry: str, missing: Iterable[str]) -> str:
    if repo.kind == "dataset":
        return f"{entry}.configs or the patterns of {entry} in the manifest, if files were left out; or the files"
    if any(PurePosixPath(name).suffix == ".py" for name in missing) and not repo.trust_remote_code:
        return f"{entry}.trust_remote_code: true, if it needs its own Python and you trust it"
    return f"{entry}.allow_patterns or {entry}.ignore_patterns, if they leave out what the repo has"
