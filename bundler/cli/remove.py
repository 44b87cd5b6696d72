"""`bundle remove`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json, say
from bundler.plan.folders import default_hf_home
from bundler.text.wording import counted, size


@click.command()
@click.argument("name")
@hf_home_option
@json_option
def remove(name: str, hf_home: Path | None, as_json: bool) -> None:
    """Uninstall bundle NAME, all generations of it. Content that other bundles or your own downloads use stays.

    A generation that a `bundle run` goes on with stays until it has ended; `bundle prune` deletes it then. What a
    failed installation of NAME left is deleted too. A damaged receipt is set aside, and the files stay.

    \b
    Example:
      bundle remove demo
    """
    from bundler.home.remove import remove as remove_bundle

    result = remove_bundle(name, default_hf_home(hf_home), on_note=lambda text: say(f"note: {text}"))
    for one in result.deleted:
        say(f"deleted {name} {one.bundle.digest[:19]}: {size(one.freed_bytes)}")
    say(f"removed {name}, {counted(result.generations, 'generation')}; {size(result.freed_bytes)} freed")
    if as_json:
        running = [{"digest": bundle.digest, "launch": str(launch)} for bundle, launch in result.running]
        print_json(
            {
                "name": name,
                "generations": result.generations,
                "deleted": [
                    {"digest": one.bundle.digest, "freed_bytes": one.freed_bytes} for one in result.deleted
                ],
                "freed_bytes": result.freed_bytes,
                "running": running,
            }
        )
    for bundle, launch in result.running:
        say(f"note: {bundle.digest[:19]} stays while {launch} reads it; `bundle prune` deletes it then")
