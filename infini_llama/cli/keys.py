"""`infini-llama keys`: print all keys of a configuration."""

from __future__ import annotations

import click

from infini_llama.settings.reference import reference


@click.command("keys")
def command() -> None:
    """Print every key of the configuration, with meaning, type, range and default, as YAML to start from.

    \b
    Examples:
      infini-llama keys | less
      infini-llama keys > train.yaml
    """
    click.echo(reference(), nl=False)
