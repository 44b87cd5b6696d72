"""`bundle scan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.bundle_arguments import OutputFile
from bundler.cli.draft_report import describe_written, say_written
from bundler.console.options import json_option
from bundler.console.output import print_json, say
from bundler.console.paths import GivenPath
from bundler.text.wording import and_more, counted

if TYPE_CHECKING:
    from bundler.draft.scan.scan import Scanned


@click.command()
@click.argument("paths", nargs=-1, required=True, type=GivenPath(), metavar="PATH...")
@click.option(
    "-o",
    "--output",
    "manifest_path",
    metavar="MANIFEST",
    type=OutputFile(),
    help="Add the entries to this manifest, which keeps its comments; it need not be there.  [default: print them]",
)
@click.option("--name", metavar="NAME", help="Name of the bundle in a new manifest.")
@json_option
def scan(paths: tuple[Path, ...], manifest_path: Path | None, name: str | None, as_json: bool) -> None:
    """Read Python source for what it loads from the Hub and other hosts, without running it.

    Files, folders and notebooks. What the source does not tell is listed with its line: names from the command
    line, in a loop, from another file. `bundle record` sees what is loaded.

    \b
    Examples:
      bundle scan train.py
      bundle scan src/ -o train.yaml && bundle lock train.yaml
    """
    from bundler.draft.manifest_text import new_manifest
    from bundler.draft.scan.scan import scan as scan_paths
    from bundler.draft.write import add_entries

    found = scan_paths(paths)
    written = None
    has_any = bool(found.entries or found.web_files)
    if has_any and manifest_path:
        comment = "Written by `bundle scan` from source code; edit it as you like."
        written = add_entries(manifest_path, found.entries, files=found.web_files, name=name, comment=comment)
    if as_json:
        print_json({**_as_json(found), "written": written and describe_written(written)})
    elif has_any and not manifest_path:
        click.echo(new_manifest(name or "bundle", found.entries, files=found.web_files), nl=False)
    _say_found(found)
    if written:
        say_written(written, f"bundle lock {manifest_path}")


def _say_found(found: Scanned) -> None:
    say(
        f"{counted(found.files, 'file')} read: {counted(len(found.entries), 'repo')} found"
        + (f" and {counted(len(found.web_files), 'file')} of other hosts" if found.web_files else "")
    )
    for one in found.found:
        if one.origin:
            say(f"note: {one.where}: {one.name} is {one.origin}; another may be given when it runs")
    if found.unknown:
        say("what the source does not tell, or no manifest can say:")
        lines = [f"{one.where}: {f'{one.call}: ' if one.call else ''}{one.why}" for one in found.unknown]
        for line in and_more(lines, more="more; --json lists all"):
            say(f"  {line}")


def _as_json(found: Scanned) -> dict[str, object]:
    return {
        "files": found.files,
        "repos": [
            {"kind": entry.kind, "repo_id": entry.repo_id, "revision": entry.revision} for entry in found.entries
        ],
        "web_files": [{"url": entry.url, "into": entry.into} for entry in found.web_files],
        "found": [
            {"repo_id": one.name, "where": one.where, "call": one.call, "origin": one.origin}
            for one in found.found
        ],
        "unknown": [{"where": one.where, "call": one.call, "why": one.why} for one in found.unknown],
    }
