"""Sign a bundle: say in a statement what it is and what was proven of it, and have a key sign that."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bundler import __version__
from bundler.errors import UsageError
from bundler.files.atomic import atomic_write
from bundler.format.reader import BundleReader
from bundler.trust.paths import Form, signature_path
from bundler.trust.sign import sign
from bundler.trust.signature_file import SignedStatement
from bundler.trust.statement import MAX_SEQUENCE, ProofClaim, ProvenEntry, Statement

if TYPE_CHECKING:
    from bundler.make.bundle import Made
    from bundler.make.proof.run import Proof
    from bundler.plan.lock import Lock

# What a proof loads by, as packages are called.
_PACKAGES = ("huggingface_hub", "transformers", "tokenizers", "torch", "accelerate", "datasets", "safetensors")


def sign_bundle(
    place: Path | Sequence[Path],
    key: Path,
    *,
    proof: Proof | None = None,
    sequence: int | None = None,
    valid_days: float | None = None,
    form: Form = "ssh",
) -> tuple[SignedStatement, Path]:
    """Write the signature of a bundle beside it.

    Args:
        place: The bundle: a file, volumes, or the name that they have in common. Its index and lock are read; that
            its content is right is taken for granted, as for a bundle that was just made.
        key: See `bundler.trust.sign.sign`.
        proof: What was shown of it here, with the packages that are installed now.
        sequence: Its release, a number higher than all before under its name; default the time in seconds since 1970.
        valid_days: How long it may be installed; default for ever.
        form: That of `ssh-keygen -Y sign`, a sigstore bundle, or a DSSE envelope; each has a name of its own.

    Returns:
        The signature, and where it stands.

    Raises:
        FormatError: It is no bundle.
        UsageError: The key or a number cannot be used.
        DependencyError: There is no ssh-keygen.
        TrustError: The key makes signatures that are not accepted.
    """
    with BundleReader(place) as reader:
        statement = make_statement(reader, proof, sequence=sequence, valid_days=valid_days)
    signed = sign(statement, key, form)
    path = signature_path(place, form)
    atomic_write(path, signed.content)
    return signed, path


def sign_made(made: Made, key: Path, path: Path | None = None) -> tuple[SignedStatement, Path]:
    """Sign a bundle that was just made; see `sign_bundle`.

    Args:
        made: The bundle; of one that went to a pipe nothing can be read again, and nothing is.
        key: See `bundler.trust.sign.sign`.
        path: Where the signature goes; default beside the bundle.
    """
    signed = sign(make_statement(made, made.proof), key)
    target = path or signature_path(list(made.volumes) or made.path)
    atomic_write(target, signed.content)
    return signed, target


class Signable(Protocol):
    """What a statement says of a bundle: one that was just made, or one that is read."""

    @property
    def lock(self) -> Lock:
        """The lock inside."""

    @property
    def digest(self) -> str:
        """Its digest."""

    @property
    def whole_digest(self) -> str:
        """Of a delta the digest of the whole bundle; else its own."""


def make_statement(
    bundle: Signable,
    proof: Proof | None,
    *,
    sequence: int | None = None,
    valid_days: float | None = None,
) -> Statement:
    """Return what is to be signed of a bundle; see `sign_bundle`.

    Raises:
        UsageError: A number is out of its range.
    """
    if sequence is not None and not 0 <= sequence <= MAX_SEQUENCE:
        raise UsageError(f"expected a release of 0 to {MAX_SEQUENCE}, found {sequence}")
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    try:
        expires = now + datetime.timedelta(days=valid_days) if valid_days is not None else None
    except OverflowError as error:
        raise UsageError(f"expected a number of days within this calendar, found {valid_days:g}") from error
    return Statement(
        name=bundle.lock.name,
        digest=bundle.whole_digest,
        delta_digest=None if bundle.digest == bundle.whole_digest else bundle.digest,
        lock_digest=bundle.lock.digest,
        sequence=int(time.time()) if sequence is None else sequence,
        signed_at=now,
        expires=expires,
        proof=_claim(proof, bundle.lock.proven_by) if proof else None,
    )


def _claim(proof: Proof, commands: tuple[str, ...]) -> ProofClaim:
    import importlib.metadata
    import platform

    versions = {"python": platform.python_version(), "bundler": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # The proof did without.
    entries = tuple(ProvenEntry(repo_id=entry.repo_id, proven=entry.proven) for entry in proof.entries)
    return ProofClaim(
        proven_at=proof.proven_at, isolation=proof.isolation, versions=versions, entries=entries, commands=commands
    )
