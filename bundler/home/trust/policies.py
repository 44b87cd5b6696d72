"""Where installed bundles are asked for policies before each launch.

It stands apart from what reads bundle files: that loads numpy, whose threads Landlock would not hold, and takes a
launch a third of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundler.home.installed import InstalledBundle
from bundler.trust.paths import policy_paths


def check_policies(bundles: Sequence[InstalledBundle], policy: Path | None = None) -> None:
    """Make sure that installed bundles may still be used; without a policy nothing is asked.

    Args:
        bundles: Those that are to be used.
        policy: A policy that must hold besides the machine's; default that of BUNDLE_POLICY.

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
