"""`bundle list`, `bundle path` and `bundle remove`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.console.options import hf_home_option, jobs_option, json_option
from bundler.console.output import print_json, progress_bar, say
from bundler.errors import BundleError, NotInstalledError
from bundler.plan.layout import default_hf_home
from bundler.text.wording import counted, size


@click.command("list")
@hf_home_option
@json_option
@click.pass_context
def list_(ctx: click.Context, hf_home: Path | None, as_json: bool) -> None:
    """List the bundles that are installed in HF_HOME.

    A receipt that was changed is reported on stderr, and makes the exit code 6.

    \b
    Example:
      bundle list --json
    """
    from bundler.home.home import Home
    from bundler.home.journal import list_unfinished

    home = default_hf_home(hf_home)
    damaged: list[BundleError] = []
    bundles = Home(home).bundles(on_damage=damaged.append)
    unfinished = list_unfinished(home)
    rows = [
        {
            "name": bundle.name,
            "digest": bundle.digest,
            "repos": [repo.repo_id for repo in bundle.lock.repos],
            "left_out": list(bundle.left_out),
            "files": len(bundle.layout.blobs),
            "bytes": sum(blob.size_bytes for blob in bundle.layout.blobs),
        }
        for bundle in bundles
    ]
    if as_json:
        print_json(
            {
                "hf_home": str(home),
                "bundles": rows,
                "damaged": [error.message for error in damaged],
                "unfinished": unfinished,
            }
        )
    else:
        for bundle in bundles:
            blobs = bundle.layout.blobs
            total = sum(blob.size_bytes for blob in blobs)
            click.echo(f"{bundle.name}  {bundle.digest[:19]}  {counted(len(blobs), 'file')}, {size(total)}")
            for repo in bundle.lock.repos:
                also = f"  also as {', '.join(repo.aliases)}" if repo.aliases else ""
                click.echo(f"  {repo.kind:9}  {repo.repo_id}  {repo.revision} = {repo.commit[:12]}{also}")
            if bundle.left_out:
                click.echo(f"  left out   {', '.join(bundle.left_out)}")
        if not bundles and not damaged:
            say(f"no bundle is installed in {home}")
    for name in unfinished:
        say(f"note: an installation of {name} did not end; install it again, or `bundle remove {name}`")
    for error in damaged:
        say(f"error: {error}")
    ctx.exit(6 if damaged else 0)


@click.command()
@click.argument("repo_id")
@click.option("--bundle", "name", metavar="NAME", help="Look in this bundle only.")
@click.option("--dataset", is_flag=True, help="REPO_ID is a dataset.")
@click.option("--quick", is_flag=True, help="Compare names, links and sizes, hash nothing.")
@hf_home_option
@jobs_option
@json_option
def path(
    repo_id: str,
    name: str | None,
    dataset: bool,
    quick: bool,
    hf_home: Path | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Print the snapshot folder of REPO_ID, a repo id or an alias, after verifying its files.

    \b
    Examples:
      bundle path gpt2
      vllm serve "$(bundle path HuggingFaceTB/SmolLM2-135M)"
    """
    from bundler.home.home import Home
    from bundler.home.installed import InstalledBundle

    home = default_hf_home(hf_home)
    damaged: list[BundleError] = []
    bundles = [Home(home).bundle(name)] if name else Home(home).bundles(on_damage=damaged.append)
    found: list[tuple[InstalledBundle, Path]] = []
    failures: list[NotInstalledError] = []
    for bundle in bundles:
        try:
            found.append((bundle, bundle.snapshot_path(repo_id, "dataset" if dataset else "model")))
        except NotInstalledError as error:
            failures.append(error)
    if not found and damaged:
        raise damaged[0]  # It may be that one's.
    for damage in damaged:
        say(f"warning: {damage.message}")
    if not found:
        raise _closest(failures, repo_id) or NotInstalledError(
            f"no bundle is installed in {home}", hint="install one with `bundle install FILE`"
        )
    if len({folder for _, folder in found}) > 1:
        names = ", ".join(bundle.name for bundle, _ in found)
        raise NotInstalledError(
            f"{repo_id} is installed at different commits by bundles {names}", hint="choose one with --bundle"
        )
    bundle, folder = found[0]
    with progress_bar(f"verifying {repo_id}") as (advance, _):
        bundle.verify(quick=quick, repo_id=repo_id, jobs=jobs, progress=advance).raise_if_failed()
    if as_json:
        print_json({"repo_id": repo_id, "bundle": bundle.name, "digest": bundle.digest, "path": str(folder)})
    else:
        click.echo(str(folder))


def _closest(failures: list[NotInstalledError], repo_id: str) -> NotInstalledError | None:
    """Return the failure of a bundle that has the repo, as the other type or left out, or else the last."""
    about = [error for error in failures if error.message.startswith(f"{repo_id} of bundle ")]
    return next(reversed(about or failures), None)


@click.command()
@click.argument("name")
@hf_home_option
def remove(name: str, hf_home: Path | None) -> None:
    """Uninstall bundle NAME. Blobs that other bundles or your own downloads use stay.

    Remove it when no job uses it: a `bundle run` that goes on is not known here, and would miss the files. What a
    failed installation of NAME left is deleted too. A damaged receipt is set aside, and the files stay.

    \b
    Example:
      bundle remove demo
    """
    from bundler.home.remove import remove as remove_bundle

    freed = remove_bundle(name, default_hf_home(hf_home), on_note=lambda text: say(f"note: {text}"))
    say(f"removed {name}, {size(freed)} freed")
