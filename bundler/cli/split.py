"""`bundle split` and `bundle join`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.bundle_arguments import VOLUME_SIZE_HELP, OutputFile, VolumeSize
from bundler.cli.parity_options import check_parity, parity_files, parity_option, write_parity
from bundler.cli.replaced import describe_replaced, replaced_json
from bundler.console.options import json_option
from bundler.console.output import print_json, progress_bar, say
from bundler.console.paths import GivenPath
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.make.split import Copied

_output_option = click.option("-o", "--output", metavar="BUNDLE", type=OutputFile(), help="What to write.")


@click.command()
@click.argument("bundle", nargs=-1, required=True, type=GivenPath())
@click.option("--volume-size", metavar="SIZE", required=True, type=VolumeSize(), help=VOLUME_SIZE_HELP)
@parity_option
@_output_option
@json_option
def split(
    bundle: tuple[Path, ...], volume_size: int, share: Fraction | None, output: Path | None, as_json: bool
) -> None:
    """Cut BUNDLE into volumes BUNDLE.001, BUNDLE.002, …; BUNDLE itself stays.

    BUNDLE may be in volumes already, of another size: they are read as they are. Each volume can be checked alone,
    and the volumes be installed without joining them. `cat BUNDLE.*` is a zstd file that stock tools unpack.

    \b
    Examples:
      bundle split demo.tar.zst --volume-size 4200M --parity 10%
      bundle split demo.tar.zst.001 --volume-size 700M -o /media/cd/demo.tar.zst
    """
    check_parity(share)
    from bundler.format.find import find_bundle
    from bundler.make.split import split_bundle

    place = find_bundle(bundle)
    with progress_bar("splitting") as (advance, set_total):
        copied = split_bundle(place, volume_size, output, on_total=set_total, progress=advance)
    names = [str(path) for path in copied.volumes]
    say(f"split {copied.source}: {counted(len(names), 'volume')}, {names[0]} to {names[-1]}\n{copied.digest}")
    _say_replaced(copied)
    made = write_parity(copied.volumes, share, keep=True)
    if as_json:
        print_json(
            {
                "digest": copied.digest,
                "bundle_bytes": copied.size_bytes,
                "volumes": names,
                **_replaced(copied),
                "parity": parity_files(made),
            }
        )


@click.command()
@click.argument("volumes", nargs=-1, required=True, type=GivenPath())
@_output_option
@json_option
def join(volumes: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """Make one file of VOLUMES again, with the bytes and the digest that it had before it was split.

    The first volume, or the name without a number, stands for all. The volumes stay. To install, joining is not
    needed: `bundle install` takes volumes.

    \b
    Examples:
      bundle join demo.tar.zst.001
      bundle join /media/a/demo.tar.zst.001 /media/b/demo.tar.zst.002 -o demo.tar.zst
    """
    from bundler.format.find import find_bundle
    from bundler.make.split import join_bundle

    place = find_bundle(volumes)
    with progress_bar("joining") as (advance, set_total):
        copied = join_bundle(place, output, on_total=set_total, progress=advance)
    say(f"joined {copied.path}: {size(copied.size_bytes)}\n{copied.digest}")
    _say_replaced(copied)
    if as_json:
        joined = {"bundle": str(copied.path), "digest": copied.digest, "bundle_bytes": copied.size_bytes}
        print_json({**joined, **_replaced(copied)})


def _say_replaced(copied: Copied) -> None:
    if copied.replaced:
        say(describe_replaced(copied.replaced))


def _replaced(copied: Copied) -> dict[str, Any]:
    return {"replaced": copied.replaced and replaced_json(copied.replaced)}
