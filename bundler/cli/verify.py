"""`bundle verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.bundle_arguments import is_file_name
from bundler.console.options import hf_home_option, jobs_option, json_option, warn_of_other_caches
from bundler.console.output import print_json, progress_bar, say
from bundler.plan.layout import default_hf_home
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.verify.report import Report


@click.command()
@click.argument("bundle", nargs=-1)
@click.option(
    "--all", "everything", is_flag=True, help="All generations of all installed bundles; takes no BUNDLE."
)
@hf_home_option
@click.option("--quick", is_flag=True, help="Installed bundle: compare names, links and sizes, hash nothing.")
@click.option("--quiet", is_flag=True, help="Say nothing on stderr unless something is wrong, as cron wants it.")
@jobs_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    bundle: tuple[str, ...],
    everything: bool,
    hf_home: Path | None,
    quick: bool,
    quiet: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Check BUNDLE, a bundle file or the name of an installed bundle, and report all that is wrong at once.

    What has a slash or ends in .zst, or exists as a file, is taken for a file. One volume is checked alone, so that
    each disk can be checked where it is; all volumes, or their name without a number, are checked as the bundle that
    they are. Ends with exit code 6 if anything is missing, extra or changed.

    \b
    Examples:
      bundle verify demo.tar.zst
      bundle verify /media/disk2/demo.tar.zst.002
      bundle verify demo --quick
      bundle verify --all --quiet
    """
    if everything == bool(bundle):
        raise click.UsageError("expected a BUNDLE, or --all")
    if everything:
        ctx.exit(_verify_home(default_hf_home(hf_home), quick=quick, quiet=quiet, jobs=jobs, as_json=as_json))
    report = _verify(bundle, hf_home, quick=quick, jobs=jobs)
    _say_report(report, quiet=quiet)
    if as_json:
        print_json(_report_json(report))
    ctx.exit(0 if report.ok else 6)


def _say_report(report: Report, *, quiet: bool) -> None:
    if quiet and report.ok:
        return
    for fault in report.faults:
        say(str(fault))
    how = "names and sizes of" if report.quick else f"{size(report.size_bytes)} in"
    outcome = "ok" if report.ok else f"FAILED, {counted(len(report.faults), 'fault')}"
    say(f"{report.subject}: {outcome}; checked {how} {counted(report.files, 'file')}\n{report.digest}")
    if report.hint and not report.ok:
        say(f"hint: {report.hint}")


def _report_json(report: Report) -> dict[str, Any]:
    return {
        "subject": report.subject,
        "digest": report.digest,
        "ok": report.ok,
        "quick": report.quick,
        "files": report.files,
        "hashed_bytes": report.size_bytes,
        "faults": [{"kind": fault.kind, "path": fault.path, "detail": fault.detail} for fault in report.faults],
    }


def _verify_home(hf_home: Path, *, quick: bool, quiet: bool, jobs: int | None, as_json: bool) -> int:
    from bundler.home.generations.verify_all import verify_all
    from bundler.home.home import Home

    found = verify_all(Home(hf_home), quick=quick, jobs=jobs)
    for _, report in found.reports:
        _say_report(report, quiet=quiet)
    for error in found.errors:
        say(f"error: {error}")
    if as_json:
        print_json(
            {
                "hf_home": str(hf_home),
                "ok": found.exit_code == 0,
                "reports": [
                    {"name": one.bundle.name, "is_current": one.is_current, **_report_json(report)}
                    for one, report in found.reports
                ],
                "errors": [{"exit_code": error.exit_code, "message": error.message} for error in found.errors],
            }
        )
    return found.exit_code


def _verify(bundle: tuple[str, ...], hf_home: Path | None, *, quick: bool, jobs: int | None) -> Report:
    if len(bundle) > 1 or is_file_name(bundle[0]):
        if quick:
            raise click.UsageError("--quick is for an installed bundle; a bundle file is always read whole")
        return _verify_files([Path(word) for word in bundle], jobs)
    from bundler.home.home import Home

    home = default_hf_home(hf_home)
    warn_of_other_caches(home)
    installed = Home(home).bundle(bundle[0])
    total = sum(blob.size_bytes for blob in installed.layout.blobs)
    with progress_bar(f"verifying {bundle[0]}", total) as (advance, _):
        return installed.verify(quick=quick, jobs=jobs, progress=advance)


def _verify_files(paths: list[Path], jobs: int | None) -> Report:
    from bundler.verify.files import verify_files

    with progress_bar(f"verifying {paths[0].name}") as (advance, set_total):
        return verify_files(
            paths, jobs=jobs, on_total=set_total, progress=advance, on_note=lambda text: say(f"note: {text}")
        )
