"""Options and words about signatures and policies that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bundler.console.output import say
from bundler.console.paths import GivenPath

if TYPE_CHECKING:
    from bundler.trust.judge import Judgement

policy_option = click.option(
    "--policy",
    metavar="FILE",
    type=GivenPath(dir_okay=False),
    help="A policy that must hold besides /etc/bundle/policy.yaml.  [default: $BUNDLE_POLICY]",
)
signature_option = click.option(
    "--signature",
    metavar="FILE",
    type=GivenPath(dir_okay=False),
    help="The bundle's signature.  [default: BUNDLE.sig beside it, if it is there]",
)


def say_refusals(judgement: Judgement) -> None:
    """Tell what stands against a bundle, and else whom its signature is by."""
    for verdict in judgement.verdicts:
        if not verdict.ok:
            say(str(verdict))
    if judgement.ok and judgement.signer:
        say(f"signed by {judgement.signer}")


def judgement_json(judgement: Judgement) -> dict[str, Any]:
    """Return a judgement as JSON has it."""
    return {
        "trusted": judgement.ok,
        "signer": judgement.signer,
        "verdicts": [
            {"rule": one.rule, "ok": one.ok, "detail": one.detail, "policy": one.policy}
            for one in judgement.verdicts
        ],
    }
