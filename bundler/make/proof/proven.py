"""Prove a lock, unless its files were proven before with the same packages.

A proof depends on the files, which a fetch has just hashed, and on the packages that load them. The store records each
successful proof under both, so that the next fetch need not import transformers and torch again.

Rule book:

* failures are not recorded;
* another version of Python or of any installed package, or a changed source file in this folder, needs a new proof;
* a recorded proof says that it is recorded, and when it was made.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bundler.files.digest import sha256_bytes
from bundler.make.proof.process.children import LIMITS
from bundler.make.proof.process.confinement import SandboxChoice
from bundler.make.proof.run import EntryProof, Proof, prove
from bundler.make.store import Store
from bundler.offline.kernel.isolation import Requested
from bundler.offline.sandbox.limits import Limits
from bundler.plan.lock import Lock


def prove_once(
    lock: Lock,
    store: Store,
    *,
    isolate: Requested = "auto",
    sandbox: SandboxChoice = "auto",
    limits: Limits = LIMITS,
) -> Proof:
    """Prove that everything in `lock` loads without a network, by every name; or return an earlier proof of it.

    Args:
        lock: A complete lock whose files in `store` were hashed by this run.
        store: The store with its files and with recorded proofs.
        isolate: The isolation, as for `bundle run`.
        sandbox: As `choose_confinement` takes it.
        limits: What it may take of this machine.

    Raises:
        ProofError: An entry does not load, or goes over a limit.
        DependencyError: A package that an entry needs is not installed.
    """
    started = time.monotonic()
    key = _make_key(lock, isolate, sandbox)
    if (remembered := _read(store.record("proven", key))) is not None:
        return replace(remembered, seconds=time.monotonic() - started, is_remembered=True)
    proof = prove(lock, store, isolate=isolate, sandbox=sandbox, limits=limits)
    store.keep_record("proven", key, asdict(proof))
    return proof


def recall_proof(lock: Lock, store: Store) -> Proof | None:
    """Return what was shown of a lock with the packages that are installed now; None if nothing is remembered."""
    return _read(store.record("proven", _make_key(replace(lock, proven_by=()), "auto", "auto")))


def _make_key(lock: Lock, isolate: Requested, sandbox: SandboxChoice) -> str:
    """Return a text that is equal only if a proof would load the same files with the same code."""
    packages = {(str(package.name), str(package.version)) for package in importlib.metadata.distributions()}
    return json.dumps(
        {
            "lock": sha256_bytes(lock.encoded),
            "isolate": isolate,
            "sandbox": sandbox,
            "python": sys.version,
            "packages": sorted(packages),
            # In a checkout the sources change without a new version.
            "sources": [sha256_bytes(path.read_bytes()) for path in sorted(Path(__file__).parent.rglob("*.py"))],
        }
    )


def _read(record: Any) -> Proof | None:
    """Return the proof in a record; None if there is none, or another version wrote it in another form."""
    try:
        entries = tuple(_entry(entry) for entry in record["entries"])
        return Proof(**{**record, "entries": entries, "refused": tuple(record["refused"])})
    except (TypeError, KeyError, AttributeError):
        return None


def _entry(record: dict[str, Any]) -> EntryProof:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
    }
    return EntryProof(**fields)
