"""What `bundle install --dry-run` says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bundler.cli.rooms import end_by_room, print_rooms, rooms_json
from bundler.console.output import print_json, progress_bar, say
from bundler.format.find import find_bundle
from bundler.home.installation.plan import plan_install
from bundler.remote.address import Place
from bundler.text.wording import counted, size


def report_plan(
    ctx: click.Context,
    bundle: tuple[Place, ...],
    only: tuple[str, ...],
    target: Path,
    jobs: int | None,
    parity: tuple[Path, ...] | None,
    *,
    as_json: bool,
) -> None:
    """Print what an installation would do; ends with 10 where there is too little room."""
    if Path("-") in bundle:
        raise click.UsageError("--dry-run reads the end of a bundle, which a pipe cannot give: name a file")
    with progress_bar("hashing what is there") as (advance, set_total):
        plan = plan_install(
            find_bundle(bundle),
            target,
            only=only,
            parity=parity,
            jobs=jobs,
            on_total=set_total,
            progress=advance,
            on_note=lambda text: say(f"note: {text}"),
        )
    if as_json:
        print_json({**asdict(plan), "hf_home": str(target), "rooms": rooms_json(plan.rooms)})
    else:
        click.echo(
            f"would install {plan.name} in {target}: {counted(plan.files, 'file')}, {size(plan.size_bytes)}"
        )
        click.echo(f"would write {counted(plan.written_files, 'file')}, {size(plan.written_bytes)}")
        if plan.replaced:
            click.echo(f"would replace {plan.replaced}, and keep it for `bundle rollback {plan.name}`")
        print_rooms(plan.rooms)
    end_by_room(ctx, plan.rooms)
