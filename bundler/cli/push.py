"""`bundle push` and `bundle pull`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bundler.cli.bundle_arguments import OutputFile, VolumeSize
from bundler.console.options import json_option
from bundler.console.output import print_json, progress_bar, say
from bundler.console.paths import GivenAddress, GivenPath
from bundler.remote.address import Address
from bundler.text.wording import size


@click.command()
@click.argument("bundle", nargs=-1, required=True, type=GivenPath())
@click.argument("address", type=GivenAddress())
@click.option(
    "--image",
    is_flag=True,
    help="Make an image that is mounted as a read-only HF_HOME; the bundle's codec must be zstd.",
)
@click.option(
    "--signature",
    metavar="FILE",
    type=GivenPath(dir_okay=False),
    help="The bundle's signature.  [default: BUNDLE.sig beside it, if it is there]",
)
@click.option(
    "--piece-size",
    metavar="SIZE",
    type=VolumeSize(),
    help="Cut it into blobs of SIZE, such as 512M, elsewhere than in a registry into volumes, so that a push which was "
    "killed goes on behind the last whole one.",
)
@click.option("--mount-from", metavar="NAME", help="Another repository of that registry which may have it.")
@json_option
def push(
    bundle: tuple[Path, ...],
    address: Address,
    image: bool,
    signature: Path | None,
    piece_size: int | None,
    mount_from: str | None,
    as_json: bool,
) -> None:
    """Send BUNDLE, a file or volumes, to ADDRESS: a registry, oci://REGISTRY/NAME:TAG; or s3://, gs://, az://, https://.

    In a registry its lock, its signature and a bill of materials are attached to it; elsewhere its signature is put
    beside it. What is there is not sent. A push that was interrupted goes on where the registry can do that, and behind
    the last whole piece with --piece-size. Logins are those of `docker login` and `podman login`; a registry without
    TLS is oci+http://….

    \b
    Examples:
      bundle push demo.tar.zst oci://registry.example.org/models/demo:1
      bundle push demo.tar.zst oci://registry.example.org/models/demo:image --image
      bundle push demo.tar.zst s3://bucket/demo.tar.zst --piece-size 1G
    """
    from bundler.format.find import find_bundle
    from bundler.transfer.push import push as push_bundle

    with progress_bar("pushing") as (advance, set_total):
        pushed = push_bundle(
            find_bundle(bundle),
            address,
            image=image,
            signature=signature,
            mount_from=mount_from,
            piece_bytes=piece_size,
            on_total=set_total,
            progress=advance,
            on_note=lambda text: say(f"note: {text}"),
        )
    if as_json:
        print_json(asdict(pushed))
        return
    say(f"pushed {pushed.name}: {size(pushed.size_bytes)}, {size(pushed.sent_bytes)} of it now\n{pushed.digest}")
    click.echo(pushed.address)


@click.command()
@click.argument("address", type=GivenAddress())
@click.option("-o", "--output", type=OutputFile(), help="The file to write.  [default: its name, here]")
@json_option
def pull(address: Address, output: Path | None, as_json: bool) -> None:
    """Bring the bundle of ADDRESS into a file, and its signature beside it.

    A pull that was interrupted goes on with what is missing. The file gets its name when all of it is verified. To
    install a bundle it need not be pulled: `bundle install ADDRESS` stores nothing but what is installed.

    \b
    Example:
      bundle pull oci://registry.example.org/models/demo:1 -o demo.tar.zst
    """
    from bundler.transfer.pull import pull as pull_bundle

    with progress_bar("pulling") as (advance, set_total):
        pulled = pull_bundle(address, output, on_total=set_total, progress=advance)
    if as_json:
        signature = str(pulled.signature) if pulled.signature else None
        print_json({**asdict(pulled), "path": str(pulled.path), "signature": signature})
        return
    say(
        f"pulled {pulled.name}: {size(pulled.size_bytes)}, {size(pulled.received_bytes)} of it now\n{pulled.digest}"
    )
    click.echo(str(pulled.path))
