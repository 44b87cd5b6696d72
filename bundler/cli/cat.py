"""`bundle cat`."""

from __future__ import annotations

import sys

import click

from bundler.console.options import jobs_option
from bundler.console.paths import GivenPlace
from bundler.errors import UsageError
from bundler.remote.address import Place


@click.command()
@click.argument("bundle", type=GivenPlace())
@click.argument("repo")
@click.argument("file", metavar="FILE[:TENSOR]")
@jobs_option
def cat(bundle: Place, repo: str, file: str, jobs: int | None) -> None:
    """Write one file of REPO in BUNDLE, or the raw bytes of one tensor of it, to stdout, verified.

    BUNDLE is a file, its address, or a volume with the others beside it. Little more than what is written is read of
    it. A damaged chunk ends it with exit code 6 before a byte of that chunk is written.

    \b
    Examples:
      bundle cat demo.tar.zst openai-community/gpt2 config.json
      bundle cat https://files.example.org/demo.tar.zst gpt2 model.safetensors:wte.weight > wte.bin
    """
    from bundler.files.parallel import available_cores
    from bundler.format.find import find_bundle
    from bundler.format.reader import BundleReader
    from bundler.transfer.cat import find_extract, read_extract

    if sys.stdout.isatty() and ":" in file:
        raise UsageError("refusing to write a tensor to a terminal", hint="send it to a file: > tensor.bin")
    with BundleReader(find_bundle([bundle])) as reader:
        for piece in read_extract(reader, find_extract(reader, repo, file), jobs=jobs or available_cores()):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
