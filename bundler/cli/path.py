"""`bundle path`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.console.options import hf_home_option, jobs_option, json_option
from bundler.console.output import print_json, progress_bar, say
from bundler.plan.folders import default_hf_home
from bundler.plan.names import HUB_TYPES, RepoType


@click.command()
@click.argument("repo_id")
@click.option("--bundle", "name", metavar="NAME", help="Look in this bundle only.")
@click.option("--type", "repo_type", type=click.Choice(HUB_TYPES), help="What REPO_ID is; default model.")
@click.option("--dataset", is_flag=True, help="The same as --type dataset.")
@click.option("--quick", is_flag=True, help="Compare names, links and sizes, hash nothing.")
@hf_home_option
@jobs_option
@json_option
def path(
    repo_id: str,
    name: str | None,
    repo_type: RepoType | None,
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
    from bundler.home.find_snapshot import find_snapshot
    from bundler.home.home import Home

    bundle, folder = find_snapshot(
        Home(default_hf_home(hf_home)),
        repo_id,
        repo_type or ("dataset" if dataset else "model"),
        name=name,
        on_damage=lambda error: say(f"warning: {error.message}"),
    )
    with progress_bar(f"verifying {repo_id}") as (advance, _):
        bundle.verify(quick=quick, repo_id=repo_id, jobs=jobs, progress=advance).raise_if_failed()
    if as_json:
        print_json({"repo_id": repo_id, "bundle": bundle.name, "digest": bundle.digest, "path": str(folder)})
    else:
        click.echo(str(folder))
