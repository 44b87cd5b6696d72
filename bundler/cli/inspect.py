"""`bundle inspect`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from bundler.cli.bundle_arguments import bundle_place
from bundler.console.options import json_option
from bundler.console.output import print_json
from bundler.console.paths import GivenPath
from bundler.text.wording import counted, size


@click.command()
@click.argument("bundle", nargs=-1, required=True, type=GivenPath())
@click.option("--files", "show_files", is_flag=True, help="List every file too.")
@click.option("--lock", "show_lock", is_flag=True, help="Print the lock inside, as it is, and nothing else.")
@json_option
def inspect(bundle: tuple[Path, ...], show_files: bool, show_lock: bool, as_json: bool) -> None:
    """Show what BUNDLE, a file or volumes, holds. Only its index and its lock are read, whatever its size.

    \b
    Example:
      bundle inspect demo.tar.zst --files
    """
    from bundler.format.codec.codecs import codec_numbered
    from bundler.format.reader import BundleReader

    with BundleReader(bundle_place(bundle)) as reader:
        lock = reader.lock
        if show_lock:
            click.echo(lock.dumps(), nl=False)
            return
        codecs = Counter(codec_numbered(chunk.codec).name for chunk in reader.index.chunks)
        content = sum(repo.size_bytes for repo in lock.repos)
        base = reader.index.base
        value = {
            "name": lock.name,
            "digest": reader.digest,
            "size_bytes": reader.size_bytes,
            "tar_bytes": reader.index.tar_bytes,
            "volumes": [str(path) for path in reader.volumes],
            "base": base
            and {"name": base.name, "digest": base.digest, "omitted_files": len(reader.omitted or ())},
            "chunks": dict(sorted(codecs.items())),
            "repos": [
                {
                    "kind": repo.kind,
                    "repo_id": repo.repo_id,
                    "revision": repo.revision,
                    "commit": repo.commit,
                    "aliases": list(repo.aliases),
                    "files": len(repo.files),
                    "bytes": repo.size_bytes,
                    "prepared_files": len(repo.prepared),
                    "prepared_bytes": sum(item.size_bytes for item in repo.prepared),
                    **({"listing": [file.path for file in repo.files]} if show_files else {}),
                }
                for repo in lock.repos
            ],
        }
    if as_json:
        print_json(value)
        return
    ratio = reader.size_bytes / max(reader.index.tar_bytes, 1)
    chunks = ", ".join(f"{count} {name}" for name, count in codecs.items())
    click.echo(f"{lock.name}  {reader.digest}")
    click.echo(f"{size(reader.size_bytes)} for {size(content)} of files, ratio {ratio:.3f}, chunks: {chunks}")
    if reader.volumes:
        click.echo(
            f"in {counted(len(reader.volumes), 'volume')}, {reader.volumes[0].name} to {reader.volumes[-1].name}"
        )
    if base is not None:
        click.echo(
            f"delta of {base.name} {base.digest or '(by its lock)'}: {len(reader.omitted or ())} contents omitted"
        )
    for repo in lock.repos:
        also = f"  also as {', '.join(repo.aliases)}" if repo.aliases else ""
        prepared = f", {len(repo.prepared)} prepared" if repo.prepared else ""
        click.echo(
            f"{repo.kind:9}  {repo.repo_id}  {repo.revision} = {repo.commit[:12]}  "
            f"{counted(len(repo.files), 'file')}{prepared}, {size(repo.size_bytes)}{also}"
        )
        if show_files:
            for file in repo.files:
                click.echo(f"           {file.size_bytes:>14,}  {file.path}")
