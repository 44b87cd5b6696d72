"""`bundle rollback`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json, say
from bundler.plan.folders import default_hf_home


@click.command()
@click.argument("name")
@click.argument("digest", required=False)
@hf_home_option
@json_option
def rollback(name: str, digest: str | None, hf_home: Path | None, as_json: bool) -> None:
    """Make an older generation of bundle NAME the current one: that of DIGEST, or the one before the current.

    Nothing is read, copied or deleted. Jobs that run go on reading what they started with; the next `bundle run` reads
    the generation that is current now. Roll forward in the same way, with the digest of the newer one. `bundle list
    --json` shows all generations. Where the receipt of the current one is lost or damaged, DIGEST
    makes one current again.

    \b
    Examples:
      bundle rollback demo
      bundle rollback demo sha256:4f0c
    """
    from bundler.home.generations.rollback import rollback as roll_back

    result = roll_back(name, default_hf_home(hf_home), digest, on_note=lambda text: say(f"note: {text}"))
    before = result.before.digest if result.before else None
    if result.bundle.digest == before:
        say(f"nothing to do: {name} is at {before}")
    else:
        say(
            f"{name} is now {result.bundle.digest}\n{f'it was {before}, which stays' if before else 'it had none'}"
        )
    if as_json:
        print_json({"name": name, "digest": result.bundle.digest, "before": before})
