"""`bundle log`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json
from bundler.plan.folders import default_hf_home
from bundler.text.wording import size


@click.command()
@hf_home_option
@json_option
def log(hf_home: Path | None, as_json: bool) -> None:
    """Show what was installed, rolled back, removed and pruned in HF_HOME, when and by whom, from old to new.

    \b
    Example:
      bundle log --json
    """
    from bundler.home.log import read_log

    home = default_hf_home(hf_home)
    entries = read_log(home)
    if as_json:
        print_json({"hf_home": str(home), "changes": [asdict(entry) for entry in entries]})
        return
    for entry in entries:
        more = f", before {entry.before[:19]}" if entry.before and entry.before != entry.digest else ""
        more += f", from {entry.source}" if entry.source else ""
        more += f", {size(entry.freed_bytes)} freed" if entry.freed_bytes is not None else ""
        click.echo(f"{entry.at}  {entry.by}  {entry.action} {entry.name} {entry.digest[:19]}{more}")
