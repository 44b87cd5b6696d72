"""`bundle remove`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.console.options import hf_home_option
from bundler.console.output import say
from bundler.plan.layout import default_hf_home
from bundler.text.wording import size


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
