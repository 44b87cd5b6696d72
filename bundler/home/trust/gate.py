"""Where bundles are asked for signature and policy: before an installation, and before a launch.

Where there is nothing to ask for (no policy, no signature, no signed release before), nothing of `bundler.trust` that
reads them is loaded: an unsigned bundle costs what it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bundler.format.reader import BundleReader
from bundler.format.source import Source
from bundler.home.exclusive import Note
from bundler.home.installed import InstalledBundle
from bundler.home.trust.paths import kept_signature_path, release_path
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
    if isinstance(bundle, BundleReader):
        beside = signature_path(bundle.volumes or bundle.path)
        known += [beside, kept_signature_path(hf_home, name, bundle.whole_digest)]
    if not any(asking) and not any(path.exists() for path in known):
        return _Free(on_note)
    from bundler.home.trust.judged import Judged

    admission = Judged.open(bundle, hf_home, signature, policy, on_note)
    admission.check(allow_rollback=allow_rollback)
    return admission


def check_policies(bundles: Sequence[InstalledBundle], policy: Path | None = None) -> None:
    """Make sure that installed bundles may still be used; without a policy nothing is asked.

    Args:
        bundles: Those that are to be used.
        policy: As for `admit`.

    Raises:
        TrustError: One may not: each rule that stands against it is named.
        PolicyError: A policy is malformed.
    """
    if not policy_paths(policy):
        return
    from bundler.home.trust.kept import judge_installed
    from bundler.trust.policy import load_policies

    policies = load_policies(policy)
    for bundle in bundles:
        judge_installed(bundle, policies).raise_if_refused()
