"""Where a bundle is asked for signature and policy before it is installed.

Where there is nothing to ask for (no policy, no signature, no signed release before), nothing of `bundler.trust` that
reads them is loaded: an unsigned bundle costs what it did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bundler.format.reader import BundleReader
from bundler.format.source import Source
from bundler.home.exclusive import Note
from bundler.home.trust.paths import kept_signature_path, release_path
from bundler.remote.address import Address
from bundler.trust.paths import policy_paths, signature_path


class Admission(Protocol):
    """A bundle that may come in, as far as could be told before it was read."""

    @property
    def on_note(self) -> Note:
        """Told what a person should know of and is no error."""

    def check_digest(self, digest: str) -> None:
        """Make sure that the whole bundle is the one that was judged, once all of it was read.

        Raises:
            TrustError: It is not.
        """

    def keep_signature(self) -> None:
        """Keep the signature beside the receipt."""

    def keep(self) -> None:
        """Keep the signature, and remember the release: the bundle is installed."""


class _Free:
    """The admission of a bundle of which nothing is asked."""

    def __init__(self, on_note: Note) -> None:
        self.on_note = on_note

    def check_digest(self, digest: str) -> None:
        """Ask nothing."""

    def keep_signature(self) -> None:
        """Keep nothing."""

    def keep(self) -> None:
        """Keep nothing."""


def admit(
    bundle: Source,
    hf_home: Path,
    *,
    signature: Path | None,
    policy: Path | None,
    allow_rollback: bool,
    on_note: Note,
) -> Admission:
    """Ask signature, statement, policies and earlier releases about a bundle that is to be installed.

    Args:
        bundle: The bundle.
        hf_home: The home.
        signature: Its signature; default the one beside it, else the one that was kept when it was installed.
        policy: A policy that must hold besides the machine's; default that of BUNDLE_POLICY.
        allow_rollback: Let in what is older than what was installed under its name.
        on_note: Told what a person should know of and is no error.

    Raises:
        TrustError: It may not come in.
        PolicyError: A policy is malformed.
        IntegrityError: It cannot be told what was installed before.
    """
    name = bundle.lock.name
    asking = [signature, *policy_paths(policy)]
    known = [release_path(hf_home, name)]
    place = bundle.place
    if isinstance(bundle, BundleReader):
        known.append(kept_signature_path(hf_home, name, bundle.whole_digest))
    if place is not None and not isinstance(place, Address):
        known.append(signature_path(place))
    # What is beside an address is known by asking only.
    is_asked = any(asking) or isinstance(place, Address)
    if not is_asked and not any(path.exists() for path in known):
        return _Free(on_note)
    from bundler.home.trust.judged import Judged

    admission = Judged.open(bundle, hf_home, signature, policy, on_note)
    admission.check(allow_rollback=allow_rollback)
    return admission
