"""`bundle parity` and `bundle repair`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import click

from bundler.cli.parity_options import Share, write_parity
from bundler.console.options import jobs_option, json_option
from bundler.console.output import print_json, progress_bar, say
from bundler.console.paths import GivenPath
from bundler.text.wording import size


@click.command()
@click.argument("bundle", nargs=-1, required=True, type=GivenPath())
@click.option("--share", type=Share(), default="10%", show_default=True, help="How much may be lost or damaged.")
@json_option
def parity(bundle: tuple[Path, ...], share: Fraction, as_json: bool) -> None:
    """Write parity of BUNDLE beside it: `bundle repair` rebuilds from it what is lost on the way.

    BUNDLE is a file, which gets BUNDLE.parity, or volumes, which get BUNDLE.parity.001 and so on, no longer than they
    are. Carry them along. What is rebuilt is verified like all else: parity is trusted for nothing. It takes the
    package raptorq (the extra `parity`).

    \b
    Examples:
      bundle parity demo.tar.zst
      bundle parity demo.tar.zst.001 --share 25%
    """
    made = write_parity(bundle, share, keep=False)
    assert made is not None, "a share is given"
    for path in made.files:
        click.echo(str(path), err=as_json)
    if as_json:
        print_json(
            {
                "files": [str(path) for path in made.files],
                "size_bytes": made.size_bytes,
                "replaced": [str(path) for path in made.replaced],
            }
        )


@click.command()
@click.argument("bundle", type=GivenPath())
@click.option(
    "--parity",
    "files",
    multiple=True,
    type=GivenPath(dir_okay=False),
    help="Parity that is not beside it. Repeatable.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=GivenPath(file_okay=False, exists=True),
    help="Write what is rebuilt there, and leave the rest as it is.  [default: in place of what is damaged]",
)
@jobs_option
@json_option
def repair(bundle: Path, files: tuple[Path, ...], output: Path | None, jobs: int | None, as_json: bool) -> None:
    """Rebuild what is lost or damaged of BUNDLE from its parity.

    BUNDLE is the file, one of the volumes, or their name without a number; it need not be there. What is damaged of a
    file is written over where it is, and only when each byte of the bundle is then the one that its digest stands for.
    Ends with exit code 6 if too much is lost; then nothing was changed.

    \b
    Examples:
      bundle repair demo.tar.zst
      bundle repair /media/disk/demo.tar.zst.001 --parity /media/other/demo.tar.zst.parity.001 -o /scratch
    """
    from bundler.parity.bundle import repair_bundle

    with progress_bar(f"looking at {bundle.name}") as (advance, set_total):
        done = repair_bundle(
            bundle,
            files,
            output=output,
            jobs=jobs,
            on_total=set_total,
            progress=advance,
            on_note=lambda text: say(f"note: {text}"),
        )
    for path in done.files:
        say(f"rebuilt {path}{', which was missing' if path.name in {one.name for one in done.missing} else ''}")
    say(
        f"{size(done.rebuilt_bytes)} rebuilt; each byte is that of this bundle"
        if done.files
        else "nothing to repair"
    )
    say(done.digest)
    if as_json:
        print_json(
            {
                "digest": done.digest,
                "rebuilt": [str(path) for path in done.files],
                "missing": [str(path) for path in done.missing],
                "rebuilt_bytes": done.rebuilt_bytes,
            }
        )
