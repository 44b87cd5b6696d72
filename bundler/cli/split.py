"""`bundle split` and `bundle join`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bundle_arguments import VOLUME_SIZE_HELP, OutputFile, VolumeSize
from bundler.console.options import json_option
from bundler.console.output import print_json, progress_bar, say
from bundler.console.paths import GivenPath
from bundler.errors import UsageError
from bundler.make.store import check_room
from bundler.text.wording import counted, size

_output_option = click.option("-o", "--output", metavar="BUNDLE", type=OutputFile(), help="What to write.")


@click.command()
@click.argument("bundle", nargs=-1, required=True, type=GivenPath())
@click.option("--volume-size", metavar="SIZE", required=True, type=VolumeSize(), help=VOLUME_SIZE_HELP)
@_output_option
@json_option
def split(bundle: tuple[Path, ...], volume_size: int, output: Path | None, as_json: bool) -> None:
    """Cut BUNDLE into volumes BUNDLE.001, BUNDLE.002, …; BUNDLE itself stays.

    BUNDLE may be in volumes already, of another size: they are read as they are. Each volume can be checked alone,
    and the volumes be installed without joining them. `cat BUNDLE.*` is a zstd file that stock tools unpack.

    \b
    Examples:
      bundle split demo.tar.zst --volume-size 4200M
      bundle split demo.tar.zst.001 --volume-size 700M -o /media/cd/demo.tar.zst
    """
    from bundler.format.find import find_bundle
    from bundler.format.reader import BundleReader
    from bundler.format.split import copy_bundle
    from bundler.format.storage.destinations import VolumeDestination
    from bundler.format.storage.volumes import volume_base

    with BundleReader(find_bundle(bundle)) as reader:
        if reader.volumes:
            base = output or volume_base(reader.volumes[0]) or reader.path
            if base.resolve() in {volume_base(path.resolve()) for path in reader.volumes}:
                raise UsageError(
                    f"the new volumes would take the names of the old ones, {reader.volumes[0]} and so on",
                    hint="name another place with --output",
                )
        else:
            base = output or reader.path
        check_room({base.absolute().parent: reader.size_bytes})
        destination = VolumeDestination(base, volume_size, sole=False)
        with progress_bar(f"splitting {reader.path.name}", reader.size_bytes) as (advance, _):
            copy_bundle(reader, destination, progress=advance)
        names = [str(path) for path in destination.volumes]
        say(f"split {reader.path}: {counted(len(names), 'volume')}, {names[0]} to {names[-1]}\n{reader.digest}")
        if as_json:
            print_json({"digest": reader.digest, "size_bytes": reader.size_bytes, "volumes": names})


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
    from bundler.format.reader import BundleReader
    from bundler.format.split import copy_bundle
    from bundler.format.storage.destinations import FileDestination
    from bundler.format.storage.volumes import volume_base

    with BundleReader(find_bundle(volumes)) as reader:
        out = output or (volume_base(reader.volumes[0]) if reader.volumes else None)
        sources = {path.resolve() for path in (reader.volumes or [reader.path])}
        if out is None or out.resolve() in sources:
            raise UsageError(
                f"{reader.path}: expected volumes, and another name for the result", hint="use --output"
            )
        check_room({out.absolute().parent: reader.size_bytes})
        with progress_bar(f"joining {out.name}", reader.size_bytes) as (advance, _):
            copy_bundle(reader, FileDestination(out, sole=False), progress=advance)
        say(f"joined {out}: {size(reader.size_bytes)}\n{reader.digest}")
        if as_json:
            print_json({"bundle": str(out), "digest": reader.digest, "size_bytes": reader.size_bytes})
