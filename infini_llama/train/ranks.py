"""Verification once per node, before any process group exists.

Under torchrun every rank starts this program, and hashing a large bundle once per rank would multiply minutes of disk
reading by the number of accelerators. So on each node

* when a parent has verified already (`bundle run` says so in BUNDLE_VERIFIED), no rank verifies again;
* else local rank 0 verifies, in full unless told otherwise and with a bar on a terminal, and the other local ranks wait
  for its verdict and share it, good or bad.

torch may not be imported yet, so the verdict travels through a file, in a folder that only this user may enter and
whose name is made of what torchrun or Slurm tell every rank of one launch on one node: run id, master address and port,
restart count, the folder of error files, job and step. Those may repeat between launches (a static rendezvous is
called "none" on port 29500), so a verdict counts only while the process that wrote it lives, and a failure also for as
long as it is fresh. Local rank 0 says that it has begun before it begins, so a waiting rank can tell a long
verification from a dead one.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bundler
from bundler import errors
from bundler.console.output import progress_bar
from bundler.errors import BundleError, OfflineError
from bundler.files.atomic import atomic_write
from bundler.files.digest import sha256_bytes
from bundler.files.owner import Owner
from bundler.home.installed import InstalledBundle
from bundler.offline.variables import VERIFIED, VERIFIED_HOME, format_verified, parse_verified
from bundler.plan.layout import default_hf_home
from bundler.text.wording import size
from infini_llama.progress import say

# What all ranks of one launch on one node have in common, and others mostly do not.
_LAUNCH = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "MASTER_ADDR",
    "MASTER_PORT",
    "GROUP_RANK",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_NODEID",
)
POLL_SECONDS = 0.05
BEGIN_TIMEOUT_SECONDS = 120.0
# A failed rank 0 is gone when its verdict is read. This is how much earlier than us it may have failed.
FRESH_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What local rank 0 has to say.

    Attributes:
        state: `verifying`, `verified` or `failed`.
        digest: The bundle's digest, once verified.
        hf_home: Where it is installed.
        error: Class name of the failure.
        message: Its message.
        hint: Its hint.
        owner: Local rank 0.
    """

    state: str
    digest: str = ""
    hf_home: str = ""
    error: str = ""
    message: str = ""
    hint: str | None = None
    owner: Owner

    @property
    def lives(self) -> bool:
        """Whether local rank 0 still runs on this node."""
        return self.owner.may_be_alive(idle_seconds=0, patience_seconds=0)


def enforce_offline_once_per_node(name: str, *, hf_home: Path | None = None, quick: bool = False) -> Any:
    """Verify the bundle on this node, shut the network in this process, and return the `InstalledBundle`.

    Must be called before any Hugging Face library is imported.

    Args:
        name: Of the bundle.
        hf_home: Cache root; by default as the Hugging Face libraries choose it.
        quick: Compare names, links and sizes only, and hash nothing.

    Raises:
        BundleError: What `bundler.enforce_offline` raises, in every local rank; or local rank 0 died without a word.
    """
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if local_size == 1:
        return _enforce(name, hf_home, quick=quick)
    path = verdict_path(name, os.environ)
    verified = is_verified(name, default_hf_home(hf_home), os.environ)
    if local_rank == 0 and (not verified or _has_begun(path)):
        return _verify_for_the_others(name, hf_home, path, quick=quick)
    if verified:
        return _enforce(name, hf_home, quick=quick)
    verdict = wait_for_verdict(path)
    os.environ[VERIFIED] = format_verified({name: verdict.digest})
    os.environ[VERIFIED_HOME] = verdict.hf_home
    return _enforce(name, hf_home, quick=quick)


def is_verified(name: str, hf_home: Path, environment: Mapping[str, str]) -> bool:
    """Tell whether a parent on this node has verified the bundle in this `hf_home`, by BUNDLE_VERIFIED."""
    home = environment.get(VERIFIED_HOME)
    return name in parse_verified(environment.get(VERIFIED, "")) and home is not None and Path(home) == hf_home


def _enforce(name: str, hf_home: Path | None, *, quick: bool) -> Any:
    @contextlib.contextmanager
    def show(bundle: InstalledBundle) -> Iterator[Callable[[int], None]]:
        begun, total = time.monotonic(), sum(blob.size_bytes for blob in bundle.layout.blobs)
        with progress_bar(f"verifying {bundle.name}", total) as (advance, _):
            yield advance
        what = "names and sizes" if quick else size(total)
        say(f"verified {bundle.name} {bundle.digest}: {what}, {time.monotonic() - begun:.1f} s")

    bundles = bundler.enforce_offline(name, hf_home=hf_home, quick=quick, show=show)
    return next(bundle for bundle in bundles if bundle.lock.name == name)


def _has_begun(path: Path) -> bool:
    """Tell whether this process said that it verifies, and has started again since: the others still wait for it."""
    verdict = _read(path)
    return verdict is not None and verdict.state == "verifying" and verdict.owner == Owner.current()


def _verify_for_the_others(name: str, hf_home: Path | None, path: Path, *, quick: bool) -> Any:
    me = Owner.current()
    _write(path, Verdict(state="verifying", owner=me))
    try:
        bundle = _enforce(name, hf_home, quick=quick)
    except BaseException as error:
        message, hint = (error.message, error.hint) if isinstance(error, BundleError) else (repr(error), None)
        _write(path, Verdict(state="failed", error=type(error).__name__, message=message, hint=hint, owner=me))
        raise
    _write(path, Verdict(state="verified", digest=bundle.digest, hf_home=str(bundle.hf_home), owner=me))
    return bundle


def wait_for_verdict(path: Path) -> Verdict:
    """Wait until local rank 0 has verified, and return what it says.

    Raises:
        BundleError: It failed (the same error is raised), died, or never began.
    """
    begun = time.monotonic()
    while True:
        verdict = _read(path)
        if verdict is not None:
            if verdict.state == "failed":
                kind = getattr(errors, verdict.error, OfflineError)
                raise kind(f"local rank 0: {verdict.message}", hint=verdict.hint)
            if not verdict.lives:
                raise OfflineError(f"local rank 0 (process {verdict.owner.pid}) died while verifying the bundle")
            if verdict.state == "verified":
                return verdict
        elif time.monotonic() - begun > BEGIN_TIMEOUT_SECONDS:
            raise OfflineError(
                f"local rank 0 did not begin to verify within {BEGIN_TIMEOUT_SECONDS:.0f} s: no verdict in {path}",
                hint="ranks of one node must share TMPDIR; or start torchrun under `bundle run`, which verifies once",
            )
        time.sleep(POLL_SECONDS)


def verdict_path(name: str, environment: Mapping[str, str]) -> Path:
    """Return where the ranks of this launch on this node find the verdict on a bundle.

    Raises:
        OfflineError: The folder belongs to someone else, or others may write to it.
    """
    folder = Path(tempfile.gettempdir()) / f"infini-llama-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise OfflineError(f"{folder}: expected a folder that only this user may write to", hint="remove it")
    # <logs>/<run>_<random>/attempt_0/<rank>/error.json
    attempt = Path(environment.get("TORCHELASTIC_ERROR_FILE", "")).parent.parent
    launch = [name, str(attempt), *(environment.get(variable, "") for variable in _LAUNCH)]
    return folder / f"{sha256_bytes(json.dumps(launch).encode())[:32]}.json"


def _write(path: Path, verdict: Verdict) -> None:
    atomic_write(path, json.dumps({**asdict(verdict), "owner": verdict.owner.mark}).encode(), mode=0o600)


def _read(path: Path) -> Verdict | None:
    """Return the verdict of this launch, or None while there is none but one that an earlier launch left."""
    try:
        age_seconds = time.time() - path.stat().st_mtime
        record = json.loads(path.read_bytes())
        owner = Owner.parse(record.pop("owner"))
        if owner is None:
            return None
        verdict = Verdict(owner=owner, **record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    # "verified" by a dead process is never taken: that process would be training beside us.
    return verdict if verdict.lives or (verdict.state != "verified" and age_seconds < FRESH_SECONDS) else None
