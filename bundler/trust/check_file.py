"""Judge a bundle that is not installed: a file, volumes, or one volume alone."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from bundler.errors import TrustError
from bundler.format.reader import BundleReader
from bundler.format.storage.volumes import volumes_in
from bundler.remote.address import Address, Place
from bundler.trust.judge import Judgement, Subject, Verdict, judge
from bundler.trust.policy import Policy, listed_authorities, listed_keys
from bundler.trust.signature_file import SignedStatement, find_signature


def judge_file(
    place: Place | Sequence[Path], policies: Sequence[Policy], *, signature: Path | None = None
) -> Judgement:
    """Ask every rule about a bundle; its index and lock are read, and no content is.

    Args:
        place: Its file, its address, or its volumes. Of one volume, whose set may be elsewhere, only the signature is
            looked at.
        policies: Those that hold here.
        signature: Its signature; default the one beside it.

    Raises:
        FormatError: It is no bundle.
        LockError: The lock inside is malformed.
    """
    paths = [] if isinstance(place, Address) else [place] if isinstance(place, Path) else list(place)
    found = volumes_in(paths[0]) if len(paths) == 1 and paths[0].is_file() else []
    signed = find_signature(place, signature, keys=listed_keys(policies), authorities=listed_authorities(policies))
    if len(found) == 1 and found[0].header.count > 1:
        return _judge_volume(found[0].header.digest, signed)
    with BundleReader(place) as reader:
        return judge(
            Subject(reader.lock, reader.whole_digest), signed, policies, datetime.datetime.now(datetime.UTC)
        )


def _judge_volume(digest: str, signed: SignedStatement | TrustError | None) -> Judgement:
    """Judge by what a volume says of its set: it has no lock that policies could be asked about."""
    if signed is None:
        return Judgement(name="", verdicts=())
    if isinstance(signed, TrustError):
        return Judgement(name="", verdicts=(Verdict(rule="signature", ok=False, detail=signed.message),))
    statement = signed.statement
    is_same = digest in (statement.digest, statement.delta_digest)
    detail = f"{signed.source} is about {statement.digest}, this volume is of {digest}"
    verdict = Verdict(
        rule="statement", ok=is_same, detail=f"of release {statement.sequence}" if is_same else detail
    )
    return Judgement(name=statement.name, verdicts=(verdict,))
