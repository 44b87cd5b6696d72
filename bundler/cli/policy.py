"""`bundle policy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.bundle_arguments import is_file_name
from bundler.cli.trust_options import judgement_json, policy_option, signature_option
from bundler.console.group import ErrorGroup
from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json, say
from bundler.plan.folders import default_hf_home
from bundler.remote.address import parse_place

if TYPE_CHECKING:
    from bundler.trust.judge import Judgement
    from bundler.trust.policy import Policy


@click.group(cls=ErrorGroup)
def policy() -> None:
    """Ask what the policies of this machine say.

    \b
    Example:
      bundle policy check demo.tar.zst
    """


@policy.command()
@click.argument("bundle", nargs=-1, required=True)
@signature_option
@policy_option
@hf_home_option
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    bundle: tuple[str, ...],
    signature: Path | None,
    policy: Path | None,
    hf_home: Path | None,
    as_json: bool,
) -> None:
    """Show what each rule says of BUNDLE, a bundle file, its address, or the name of an installed bundle.

    Nothing is installed, and no content is read. Ends with exit code 20 if a rule is against it.

    \b
    Examples:
      bundle policy check demo.tar.zst
      bundle policy check demo --json
    """
    from bundler.trust.policy import load_policies

    policies = load_policies(policy)
    if not policies:
        say("note: there is no policy: anybody's signature is accepted, and none is asked for")
    judgement = _judge(bundle, signature, hf_home, policies)
    if as_json:
        print_json({"name": judgement.name, **judgement_json(judgement)})
    else:
        for verdict in judgement.verdicts:
            click.echo(str(verdict))
    ctx.exit(0 if judgement.ok else 20)


def _judge(
    bundle: tuple[str, ...], signature: Path | None, hf_home: Path | None, policies: tuple[Policy, ...]
) -> Judgement:
    if len(bundle) > 1 or is_file_name(bundle[0]):
        from bundler.format.find import find_bundle
        from bundler.trust.check_file import judge_file

        return judge_file(find_bundle([parse_place(word) for word in bundle]), policies, signature=signature)
    from bundler.home.home import Home
    from bundler.home.trust.kept import judge_installed

    if signature:
        raise click.UsageError("--signature is for a bundle file; an installed bundle has its own")
    return judge_installed(Home(default_hf_home(hf_home)).bundle(bundle[0]), policies)
