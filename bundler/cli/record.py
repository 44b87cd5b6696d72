"""`bundle record`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.bundle_arguments import OutputFile
from bundler.cli.manifest_options import manifest_option, name_option
from bundler.cli.observer import ConsoleObserver
from bundler.console.output import say
from bundler.files.access import check_writable
from bundler.files.atomic import atomic_write
from bundler.text.wording import and_more, counted

if TYPE_CHECKING:
    from bundler.draft.record.record import Recorded


@click.command(context_settings={"allow_interspersed_args": False})
@manifest_option("The manifest to write. One that is there is added to, and keeps its comments.")
@name_option
@click.option("--prove", is_flag=True, help="Have each `bundle fetch` of MANIFEST run CMD again, as a proof.")
@click.option("--report", "report_path", type=OutputFile(), help="Write what was found as JSON.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
@click.pass_context
def record(
    ctx: click.Context,
    manifest_path: Path,
    name: str | None,
    prove: bool,
    report_path: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run CMD online, as it is, and write the manifest and the lock of all that it loads from the Hub.

    All its processes are watched. What is in the cache already is not downloaded again, and is recorded all the same.
    The lock is pinned at the commits that were used. Signals and the exit code are passed on; a program that fails is
    recorded as far as it came. A report on stderr ends the run, with every other host that was asked.

    \b
    Examples:
      bundle record -- python train.py
      bundle record -o train.yaml -- torchrun --nproc-per-node 2 train.py
      bundle fetch train.yaml
    """
    from bundler.draft.record.record import record as record_command

    if report_path:
        check_writable(report_path.absolute().parent)
    with ConsoleObserver() as observer:
        found = record_command(command, manifest_path, name=name, prove=prove, observer=observer)
    _say_report(found)
    if report_path:
        atomic_write(report_path, (json.dumps(_as_json(found), indent=2, ensure_ascii=False) + "\n").encode())
    ctx.exit(found.exit_code)


def _say_report(found: Recorded) -> None:
    say(
        f"record: CMD ended with {found.exit_code}"
        + (", and what it loaded is recorded" if found.exit_code else "")
    )
    for repo in found.repos:
        names = f", also as {', '.join(repo.aliases)}" if repo.aliases else ""
        say(
            f"  {repo.status:<9} {repo.kind} {repo.repo_id} {repo.revision}: {repo.commit[:12]}, "
            f"{counted(len(repo.files), 'file')} read{names}"
        )
    for url in found.urls:
        say(f"  file      {url.url}, read by {url.library} in {url.where}")
    hosts = [f"{use.target}, by {use.where}{f' `{use.code}`' if use.code else ''}" for use in found.hosts]
    if hosts:
        say("  other hosts, which an offline launch does not reach:")
        for line in and_more(hosts, more="more; --report FILE lists all"):
            say(f"    {line}")
    for text in found.warnings:
        say(f"warning: {text}")
    for text in found.unseen:
        say(f"note: {text}")
    if found.manifest:
        say(f"{found.manifest} and {found.lock}: written; next: bundle fetch {found.manifest}")
    else:
        say("nothing of the Hub was loaded, and nothing is written")


def _as_json(found: Recorded) -> dict[str, object]:
    return {
        "exit_code": found.exit_code,
        "manifest": str(found.manifest) if found.manifest else None,
        "lock": str(found.lock) if found.lock else None,
        "repos": [{**vars(repo)} for repo in found.repos],
        "hosts": [
            {"host": use.host, "port": use.port, "where": use.where, "code": use.code} for use in found.hosts
        ],
        "urls": [{**vars(use)} for use in found.urls],
        "warnings": list(found.warnings),
        "unseen": list(found.unseen),
    }
