"""`bundle inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bundler.console.options import json_option
from bundler.console.output import print_json
from bundler.console.paths import GivenPlace
from bundler.remote.address import Place
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.format.summary import BundleSummary
    from bundler.plan.lock import LockedRepo


@click.command()
@click.argument("bundle", nargs=-1, required=True, type=GivenPlace())
@click.option("--files", "show_files", is_flag=True, help="List every file too.")
@click.option("--lock", "show_lock", is_flag=True, help="Print the lock inside, as it is, and nothing else.")
@json_option
def inspect(bundle: tuple[Place, ...], show_files: bool, show_lock: bool, as_json: bool) -> None:
    """Show what BUNDLE, a file, an address or volumes, holds. Only its index and its lock are read, whatever its size.

    \b
    Example:
      bundle inspect demo.tar.zst --files
    """
    from bundler.format.find import find_bundle
    from bundler.format.reader import BundleReader
    from bundler.format.summary import summarize

    with BundleReader(find_bundle(bundle)) as reader:
        if show_lock:
            click.echo(reader.lock.dumps(), nl=False)
            return
        summary = summarize(reader)
    if as_json:
        print_json(_summary_json(summary, show_files=show_files))
    else:
        _print_summary(summary, show_files=show_files)


def _print_summary(summary: BundleSummary, *, show_files: bool) -> None:
    chunks = ", ".join(f"{count} {name}" for name, count in summary.chunks.items())
    content = size(summary.content_bytes)
    click.echo(f"{summary.lock.name}  {summary.digest}")
    click.echo(f"{size(summary.size_bytes)} for {content} of files, ratio {summary.ratio:.3f}, chunks: {chunks}")
    if volumes := summary.volumes:
        click.echo(f"in {counted(len(volumes), 'volume')}, {volumes[0].name} to {volumes[-1].name}")
    if (base := summary.base) is not None:
        omitted = f"{summary.omitted_files} contents omitted"
        click.echo(f"delta of {base.name} {base.digest or '(by its lock)'}: {omitted}")
        click.echo(f"installs {summary.whole_digest}")
    for command in summary.lock.proven_by:
        click.echo(f"proven without a network by: {command}")
    for repo in summary.lock.repos:
        also = f"  also as {', '.join(repo.aliases)}" if repo.aliases else ""
        prepared = f", {len(repo.prepared)} prepared" if repo.prepared else ""
        click.echo(
            f"{repo.kind:9}  {repo.repo_id}  {repo.revision} = {repo.commit[:12]}  "
            f"{counted(len(repo.files), 'file')}{prepared}, {size(repo.size_bytes)}{also}"
        )
        if repo.origin is not None:
            click.echo(f"           for {repo.origin.into}, from {repo.origin.url}  sha256 {repo.origin.sha256}")
        if repo.card is not None and repo.card.licenses:
            click.echo(f"           its card says: {', '.join(repo.card.licenses)}")
        if show_files:
            for file in repo.files:
                click.echo(f"           {file.size_bytes:>14,}  {file.path}")


def _summary_json(summary: BundleSummary, *, show_files: bool) -> dict[str, Any]:
    base = summary.base
    return {
        "name": summary.lock.name,
        "digest": summary.digest,
        "whole_digest": summary.whole_digest,
        "bundle_bytes": summary.size_bytes,
        "tar_bytes": summary.tar_bytes,
        "volumes": [str(path) for path in summary.volumes],
        "base": base and {"name": base.name, "digest": base.digest, "omitted_files": summary.omitted_files},
        "chunks": dict(sorted(summary.chunks.items())),
        "proven_by": list(summary.lock.proven_by),
        "repos": [_repo_json(repo, show_files=show_files) for repo in summary.lock.repos],
    }


def _repo_json(repo: LockedRepo, *, show_files: bool) -> dict[str, Any]:
    return {
        "kind": repo.kind,
        "repo_id": repo.repo_id,
        "revision": repo.revision,
        "commit": repo.commit,
        "aliases": list(repo.aliases),
        "licenses": None if repo.card is None else list(repo.card.licenses),
        "files": len(repo.files),
        "size_bytes": repo.size_bytes,
        "prepared_files": len(repo.prepared),
        "prepared_bytes": sum(item.size_bytes for item in repo.prepared),
        "url": repo.origin.url if repo.origin else None,
        **({"listing": [file.path for file in repo.files]} if show_files else {}),
    }
