"""`bundle init` and `bundle add`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from bundler.cli.draft_report import describe_written, say_written
from bundler.cli.manifest_options import manifest_option, name_option
from bundler.console.options import json_option
from bundler.console.output import print_json, say
from bundler.plan.file_rules import Into
from bundler.plan.names import HUB_TYPES, RepoKind

_manifest_option = manifest_option("The manifest.")


@click.command()
@_manifest_option
@name_option
@json_option
def init(manifest_path: Path, name: str | None, as_json: bool) -> None:
    """Begin a manifest, with a comment for each kind of entry. One that is there stays as it is.

    \b
    Examples:
      bundle init -o train.yaml
      bundle add openai-community/gpt2 -o train.yaml
    """
    from bundler.draft.write import begin_manifest

    name = begin_manifest(manifest_path, name=name)
    if as_json:
        print_json({"manifest": str(manifest_path), "name": name})
    say(f"{manifest_path}: written, without entries; next: bundle add REPO_ID -o {manifest_path}")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="REPO_ID|URL...")
@_manifest_option
@name_option
@click.option(
    "--as", "kind", type=click.Choice(("tokenizer", *HUB_TYPES)), help="What it is; the Hub is not asked."
)
@click.option("--revision", default="main", show_default=True, help="Branch, tag or full commit.")
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="Another name that code loads it by; repeatable."
)
@click.option("--config", "configs", multiple=True, metavar="NAME", help="Configuration of a dataset; repeatable.")
@click.option("--include", "patterns", multiple=True, metavar="PATTERN", help="Take these files only; repeatable.")
@click.option("--trust-remote-code", is_flag=True, help="Take the Python of the repo, which loading it runs.")
@click.option("--allow-pickle", is_flag=True, help="Take pickle weights, which can run code when they are loaded.")
@click.option(
    "--into", type=click.Choice(get_args(Into)), help="Who looks for a file of another host.  [default: files]"
)
@json_option
def add(
    names: tuple[str, ...],
    manifest_path: Path,
    name: str | None,
    kind: RepoKind | None,
    revision: str,
    aliases: tuple[str, ...],
    configs: tuple[str, ...],
    patterns: tuple[str, ...],
    trust_remote_code: bool,
    allow_pickle: bool,
    into: Into | None,
    as_json: bool,
) -> None:
    """Add repos, and files of other hosts, to a manifest, which keeps its comments and is begun where there is none.

    Without --as the Hub says what each is: a model, a tokenizer where the repo has no weights, or a dataset.

    \b
    Examples:
      bundle add openai-community/gpt2 --as tokenizer --alias gpt2
      bundle add Salesforce/wikitext --config wikitext-2-raw-v1 -o train.yaml
      bundle add https://example.org/weights.pth --into torch_hub
    """
    from bundler.draft.add import Wish, add_repos

    wish = Wish(
        kind=kind,
        revision=revision,
        aliases=aliases,
        configs=configs,
        patterns=patterns,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        into=into,
    )
    written = add_repos(names, manifest_path, wish, name=name)
    if as_json:
        print_json(describe_written(written))
    say_written(written, f"bundle fetch {manifest_path}")
