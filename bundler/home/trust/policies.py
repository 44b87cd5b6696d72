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


def may_trust_stamps(bundle: InstalledBundle, policy: Path | None = None) -> bool:
    """Tell whether this user may believe what root or the home's owner say that they have hashed.

    Args:
        bundle: The bundle.
        policy: As for `check_policies`. Where there is none, they are believed; each that there is has to say so.

    Raises:
        PolicyError: A policy is malformed.
    """
    if not policy_paths(policy):
        return True
    from bundler.trust.policy import load_policies

    rules = [found.find_rule(bundle.name) for found in load_policies(policy)]
    return all(rule is not None and rule.home_stamps for rule in rules)
