"""`bundle pack`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.bundle_arguments import VOLUME_SIZE_HELP, OutputFile, VolumeSize
from bundler.cli.fetch_report import describe_base
from bundler.cli.parity_options import check_parity, parity_option, write_parity
from bundler.cli.replaced import describe_replaced
from bundler.console.output import say
from bundler.console.paths import GivenPath
from bundler.format.codec.codecs import CodecChoice
from bundler.offline.sandbox.limits import DEFAULT_MINUTES
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.make.trained.pack import PackedFolder


@click.command()
@click.argument("folder", type=GivenPath(exists=True, file_okay=False))
@click.option(
    "-o", "--output", metavar="BUNDLE", type=OutputFile(), help="What to write.  [default: NAME.tar.zst]"
)
@click.option("--name", help="Name of the bundle.  [default: that of FOLDER]")
@click.option("--repo-id", help="Id by which programs load the model.  [default: trained/NAME]")
@click.option(
    "--base",
    metavar="OLD",
    type=GivenPath(),
    help="Pack only what OLD lacks, and of weights near its own the differences: an older bundle, its lock or receipt.",
)
@click.option("--volume-size", metavar="SIZE", type=VolumeSize(), help=VOLUME_SIZE_HELP)
@parity_option
@click.option(
    "--codec",
    type=click.Choice(["auto", "zstd"]),
    default="auto",
    show_default=True,
    help="As for `bundle fetch`.",
)
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=GivenPath(file_okay=False),
    help="Where what is packed is staged.  [default: $BUNDLE_CACHE, else ~/.cache/bundle]",
)
@click.option("--allow-pickle", is_flag=True, help="Take pickle weights where there are no others.")
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Take Python, for classes that its config names, as that of Infini-Llama does. Loading the model runs it, and "
    "so does the proof.",
)
@click.option("--unsandboxed", is_flag=True, help="Prove without a sandbox.")
@click.option(
    "--proof-timeout",
    "proof_minutes",
    metavar="MINUTES",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_MINUTES,
    show_default=True,
    help="How long the proof of one model may take.",
)
def pack(
    folder: Path,
    output: Path | None,
    name: str | None,
    repo_id: str | None,
    base: Path | None,
    volume_size: int | None,
    share: Fraction | None,
    codec: CodecChoice,
    cache_dir: Path | None,
    allow_pickle: bool,
    trust_remote_code: bool,
    unsandboxed: bool,
    proof_minutes: float,
) -> None:
    """Pack the trained model in FOLDER, or all checkpoint-N in it, into a bundle of its own, and print its digest.

    Nothing is downloaded. It is proven to load without a network, as what `bundle fetch` packs. Each checkpoint is a
    revision of the repo, and the last one is main too; of weights near each other the differences are stored. What
    says how the model was trained is packed with it. What is left out is named: optimizer states and other pickles,
    and Python unless it is trusted.

    \b
    Examples:
      bundle pack runs/1 --name run-1
      bundle pack runs/1 --name run-1 --base run-1.tar.zst -o run-1.week-2.tar.zst
    """
    check_parity(share)
    from bundler.cli.observer import ConsoleObserver
    from bundler.make.trained.pack import pack_folder

    with ConsoleObserver() as observer:
        done = pack_folder(
            folder,
            output,
            name=name,
            repo_id=repo_id,
            base=base,
            volume_bytes=volume_size,
            codec=codec,
            store=cache_dir,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            sandbox="none" if unsandboxed else "auto",
            proof_minutes=proof_minutes,
            observer=observer,
        )
    _say_what_was_packed(done)
    result = done.packed.result
    write_parity(done.volumes or [result.path], share, keep=True)
    click.echo(result.digest)


def _say_what_was_packed(done: PackedFolder) -> None:
    result = done.packed.result
    for repo, entry in zip(done.lock.repos, done.proof.entries, strict=True):
        say(f"{repo.repo_id} {repo.revision} ({repo.commit[:12]})")
        for line in entry.proven:
            say(f"  proven: {line}")
    did = "already packed, hashed again:" if done.packed.was_there else "packed"
    say(f"{did} {result.path}: {size(result.size_bytes)}, {result.ratio:.2f} times smaller")
    if done.base is not None:
        say(describe_base(done.base, result))
    if done.volumes:
        say(f"in {counted(len(done.volumes), 'volume')}, {done.volumes[0].name} to {done.volumes[-1].name}")
    if done.replaced is not None:
        say(describe_replaced(done.replaced))
