"""`bundle list`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json, say
from bundler.errors import AccessError, BundleError, IntegrityError
from bundler.plan.folders import default_hf_home
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.home.generations.inventory import Generation
    from bundler.home.installed import InstalledBundle
    from bundler.trust.policy import Policy


@click.command("list")
@hf_home_option
@json_option
@click.pass_context
def list_(ctx: click.Context, hf_home: Path | None, as_json: bool) -> None:
    """List the bundles that are installed in HF_HOME, and the generations of each that are kept.

    When, by whom and from where each was installed is known from the log. A receipt that was changed is reported on
    stderr, and makes the exit code 6.

    \b
    Example:
      bundle list --json
    """
    from bundler.home.common.journal import list_unfinished
    from bundler.home.generations.inventory import list_generations
    from bundler.home.home import Home

    home = Home(default_hf_home(hf_home))
    damaged: dict[str, BundleError] = {}

    def note_damage(error: BundleError) -> None:
        damaged.setdefault(error.message, error)

    bundles = home.bundles(on_damage=note_damage)
    generations = {
        name: list_generations(home, name, on_damage=note_damage)
        for name in home.all_names()  # of a bundle whose pointer is damaged, too: its other receipts may be
    }
    unfinished = list_unfinished(home.path)
    if as_json:
        from bundler.trust.policy import load_policies

        policies = load_policies() if bundles else ()
        print_json(
            {
                "hf_home": str(home.path),
                "bundles": [_bundle_json(bundle, generations[bundle.name], policies) for bundle in bundles],
                "damaged": list(damaged),
                "unfinished": unfinished,
            }
        )
    else:
        for bundle in bundles:
            _print_bundle(bundle, generations[bundle.name])
        if not bundles and not damaged:
            say(f"no bundle is installed in {home.path}")
    for name in unfinished:
        say(f"note: an installation of {name} did not end; install it again, or `bundle remove {name}`")
    for error in damaged.values():
        say(f"error: {error}")
    is_closed = all(isinstance(error, AccessError) for error in damaged.values())
    ctx.exit(0 if not damaged else AccessError.exit_code if is_closed else IntegrityError.exit_code)


def _bundle_json(
    bundle: InstalledBundle, generations: list[Generation], policies: Sequence[Policy]
) -> dict[str, Any]:
    return {
        "name": bundle.name,
        **_content_json(bundle),
        "repos": [repo.repo_id for repo in bundle.lock.repos],
        "entries": [
            {
                "kind": repo.kind,
                "repo_id": repo.repo_id,
                "revision": repo.revision,
                "commit": repo.commit,
                "aliases": list(repo.aliases),
                "trust_remote_code": repo.trust_remote_code,
                "allow_pickle": repo.allow_pickle,
                "endpoint": repo.endpoint,
                "licenses": None if repo.card is None else list(repo.card.licenses),
                "files": len(repo.files),
                "size_bytes": repo.size_bytes,
            }
            for repo in bundle.lock.repos
        ],
        "generations": [
            {
                **_content_json(one.bundle),
                "is_current": one.is_current,
                "has_view": one.bundle.has_view,
                "installed_at": one.installed and one.installed.at,
                "installed_by": one.installed and one.installed.by,
                "installed_by_uid": one.installed and one.installed.uid,
                "installed_with": one.installed and one.installed.version,
                "source": one.installed and one.installed.source,
                "signature": _signature_json(one.bundle, policies),
            }
            for one in generations
        ],
    }


def _signature_json(bundle: InstalledBundle, policies: Sequence[Policy]) -> dict[str, Any] | None:
    from bundler.home.trust.kept import read_kept_signature

    found = read_kept_signature(bundle.hf_home, bundle.name, bundle.digest, policies)
    if found is None:
        return None
    if isinstance(found, BundleError):
        return {"key": None, "sequence": None, "signed_at": None, "problem": found.message}
    statement, key = found.statement, found.key
    signed_at = statement.signed_at.isoformat()
    return {"key": key.fingerprint, "sequence": statement.sequence, "signed_at": signed_at, "problem": None}


def _content_json(bundle: InstalledBundle) -> dict[str, Any]:
    return {
        "digest": bundle.digest,
        "left_out": list(bundle.left_out),
        "files": len(bundle.layout.blobs),
        "size_bytes": sum(blob.size_bytes for blob in bundle.layout.blobs),
    }


def _print_bundle(bundle: InstalledBundle, generations: list[Generation]) -> None:
    blobs = bundle.layout.blobs
    total = sum(blob.size_bytes for blob in blobs)
    click.echo(f"{bundle.name}  {bundle.digest[:19]}  {counted(len(blobs), 'file')}, {size(total)}")
    for repo in bundle.lock.repos:
        also = f"  also as {', '.join(repo.aliases)}" if repo.aliases else ""
        click.echo(f"  {repo.kind:9}  {repo.repo_id}  {repo.revision} = {repo.commit[:12]}{also}")
    if bundle.left_out:
        click.echo(f"  left out   {', '.join(bundle.left_out)}")
    for one in generations:
        how = f"  {one.installed.at} by {one.installed.by} from {one.installed.source}" if one.installed else ""
        click.echo(f"  {'installed' if one.is_current else 'kept'!s:9}  {one.bundle.digest[:19]}{how}")
