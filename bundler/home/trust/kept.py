"""The signature of an installed generation, kept beside its receipt: `bundles/generations/NAME/DIGEST.sig`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from bundler.errors import TrustError
from bundler.files.atomic import atomic_write
from bundler.home.installed import InstalledBundle
from bundler.home.trust.paths import kept_signature_path
from bundler.trust.judge import Judgement, Subject, judge
from bundler.trust.policy import Policy, listed_keys
from bundler.trust.signature_file import SignedStatement, read_signature


def keep_signature(hf_home: Path, signed: SignedStatement) -> None:
    """Keep a signature beside the receipt of its generation."""
    path = kept_signature_path(hf_home, signed.statement.name, signed.statement.digest)
    if not path.exists() or path.read_bytes() != signed.content:
        atomic_write(path, signed.content)


def read_kept_signature(
    hf_home: Path, name: str, digest: str, policies: Sequence[Policy]
) -> SignedStatement | TrustError | None:
    """Return the signature of a generation; why it cannot be used; or None where none was kept."""
    path = kept_signature_path(hf_home, name, digest)
    try:
        return read_signature(path, keys=listed_keys(policies)) if path.exists() else None
    except TrustError as error:
        return error


def judge_installed(bundle: InstalledBundle, policies: Sequence[Policy]) -> Judgement:
    """Ask every rule about an installed bundle, now.

    Args:
        bundle: The bundle.
        policies: Those that hold here.
    """
    signed = read_kept_signature(bundle.hf_home, bundle.name, bundle.digest, policies)
    subject = Subject(bundle.lock, bundle.digest, is_part=bool(bundle.left_out))
    return judge(subject, signed, policies, datetime.datetime.now(datetime.UTC))
