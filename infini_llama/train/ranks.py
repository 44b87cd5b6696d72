"""Verify the bundle once per node, before any process group exists.

With torchrun every rank starts this program. Hashing a large bundle takes minutes of disk reading, so not every rank
should do it. On each node:

* if a parent process has verified the bundle (`bundle run` sets BUNDLE_VERIFIED), no rank verifies it again;
* otherwise local rank 0 verifies it, fully by default and with a progress bar on a terminal; the other local ranks wait
  for its verdict, and succeed or fail with it.

torch must not be imported yet, so the verdict is passed in a file, in a folder that only this user may enter. The name
is made from values that torchrun or Slurm give to all ranks of a launch on a node: run id, master address and port,
restart count, folder of error files, job and step. Another launch may have the same values (a static rendezvous is
named "none" on port 29500), so a verdict is valid only while the process that wrote it lives, and a failure also for a
short time afterwards. Local rank 0 first writes that it has begun, so that a waiting rank can distinguish a long
verification from a dead process.
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
from bundler.plan.folders import default_hf_home
from bundler.text.wording import size
from infini_llama.progress import say

# Variables with the same values for all ranks of a launch on a node, and mostly other values for other launches.
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
# A failed rank 0 has ended when its verdict is read. This is how many seconds ago it may have failed.
FRESH_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The message of local rank 0.

    Attributes:
        state: `verifying`, `verified` or `failed`.
        digest: The bundle's digest, when verified.
        hf_home: The cache root that it is installed in.
        error: Class name of the failure.
        message: Message of the failure.
        hint: Hint of the failure.
        owner: The process of local rank 0.
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
        """Whether local rank 0 is still running on this node."""
        return self.owner.may_be_alive(idle_seconds=0, patience_seconds=0)


def enforce_offline_once_per_node(name: str, *, hf_home: Path | None = None, quick: bool = False) -> Any:
    """Verify the bundle on this node, shut the network in this process, and return the `InstalledBundle`.

    Must be called before any Hugging Face library is imported.

    Args:
        name: Name of the bundle.
        hf_home: Cache root; by default the one that the Hugging Face libraries choose.
        quick: Compare names, links and sizes only, and hash nothing.

    Raises:
        BundleError: The error of `bundler.enforce_offline`, in every local rank; or local rank 0 died without a
            verdict.
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
    """Return whether a parent process on this node has verified the bundle in `hf_home`, by BUNDLE_VERIFIED."""
    home = environment.get(VERIFIED_HOME)
    return name in parse_verified(environment.get(VERIFIED, "")) and home is not None and Path(home) == hf_home


def _enforce(name: str, hf_home: Path | None, *, quick: bool) -> Any:
    begun, hashed = time.monotonic(), 0

    @contextlib.contextmanager
    def show(bundle: InstalledBundle) -> Iterator[Callable[[int], None]]:
        nonlocal hashed
        total = sum(blob.size_bytes for blob in bundle.layout.blobs)
        with progress_bar(f"verifying {bundle.name}", total) as (advance, _):

            def count(done: int) -> None:
                nonlocal hashed
                hashed += done
                advance(done)

            yield count

    was_verified = is_verified(name, default_hf_home(hf_home), os.environ)
    bundles = bundler.enforce_offline(name, hf_home=hf_home, quick=quick, show=show)
    bundle = next(bundle for bundle in bundles if bundle.lock.name == name)
    if not was_verified:
        what = "names and sizes" if quick else f"{size(hashed)} hashed, all else unchanged since it was"
        say(f"verified {name} {bundle.digest}: {what}, {time.monotonic() - begun:.1f} s")
    return bundle


def _has_begun(path: Path) -> bool:
    """Return whether this process wrote that it verifies, and has restarted; the other ranks still wait for it."""
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
    """Wait until local rank 0 has verified the bundle, and return its verdict.

    Raises:
        BundleError: Local rank 0 failed (the same error is raised), died, or did not begin in time.
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
    """Return the path of the verdict on a bundle, for the ranks of this launch on this node.

    Raises:
        OfflineError: The folder belongs to another user, or others may write to it.
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
    """Return the verdict of this launch; None if there is none yet, or only one of an earlier launch."""
    try:
        age_seconds = time.time() - path.stat().st_mtime
        record = json.loads(path.read_bytes())
        owner = Owner.parse(record.pop("owner"))
        if owner is None:
            return None
        verdict = Verdict(owner=owner, **record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    # A "verified" of a dead process is from an earlier launch: a process of ours would still be training.
    return verdict if verdict.lives or (verdict.state != "verified" and age_seconds < FRESH_SECONDS) else None
