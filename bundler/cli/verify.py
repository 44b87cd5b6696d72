"""`bundle verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.bundle_arguments import is_file_name
from bundler.cli.trust_options import judgement_json, policy_option, say_refusals, signature_option
from bundler.console.options import hf_home_option, jobs_option, json_option, warn_of_other_caches
from bundler.console.output import print_json, progress_bar, say
from bundler.console.paths import GivenPath
from bundler.errors import FormatError, TrustError
from bundler.plan.folders import default_hf_home
from bundler.remote.address import Place, parse_place
from bundler.text.wording import and_more, counted, size

if TYPE_CHECKING:
    from bundler.trust.judge import Judgement
    from bundler.trust.policy import Policy
    from bundler.verify.report import Report


@click.command()
@click.argument("bundle", nargs=-1)
@click.option(
    "--all", "everything", is_flag=True, help="All generations of all installed bundles; takes no BUNDLE."
)
@signature_option
@policy_option
@hf_home_option
@click.option(
    "--base",
    metavar="OLD",
    type=GivenPath(),
    help="The bundle that a delta was made against: content stored as differences from it is then checked too.",
)
@click.option("--quick", is_flag=True, help="Installed bundle: compare names, links and sizes, hash nothing.")
@click.option("--quiet", is_flag=True, help="Say nothing on stderr unless something is wrong, as cron wants it.")
@jobs_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    bundle: tuple[str, ...],
    everything: bool,
    signature: Path | None,
    policy: Path | None,
    hf_home: Path | None,
    base: Path | None,
    quick: bool,
    quiet: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Check BUNDLE, a bundle file, its address, or the name of an installed bundle, and report all that is wrong.

    What has a slash or ends in .zst, or exists as a file, is taken for a file. One volume is checked alone, so that
    each disk can be checked where it is; all volumes, or their name without a number, are checked as the bundle that
    they are. Ends with exit code 6 if anything is missing, extra or changed, and with 20 if its signature is wrong or a
    policy is against it.

    \b
    Examples:
      bundle verify demo.tar.zst
      bundle verify /media/disk2/demo.tar.zst.002
      bundle verify demo --quick
      bundle verify --all --quiet
    """
    from bundler.trust.policy import load_policies

    if everything == bool(bundle):
        raise click.UsageError("expected a BUNDLE, or --all")
    is_file = not everything and (len(bundle) > 1 or is_file_name(bundle[0]))
    if quick and is_file:
        raise click.UsageError("--quick is for an installed bundle; a bundle file is always read whole")
    if base and not is_file:
        raise click.UsageError("--base is for a bundle file; an installed bundle has all of its content")
    if signature and not is_file:
        raise click.UsageError("--signature is for a bundle file; an installed bundle has its own")
    policies = load_policies(policy)
    if everything:
        home = default_hf_home(hf_home)
        ctx.exit(_verify_home(home, policies, quick=quick, quiet=quiet, jobs=jobs, as_json=as_json))
    if is_file:
        places = [parse_place(word) for word in bundle]
        report, judgement = _verify_files(places, base, jobs, signature, policies)
    else:
        report, judgement = _verify_installed(bundle[0], hf_home, policies, quick=quick, jobs=jobs)
    _say_report(report, judgement, quiet=quiet)
    if as_json:
        print_json(_report_json(report, judgement))
    ctx.exit(6 if not report.ok else 0 if judgement.ok else TrustError.exit_code)


def _say_report(report: Report, judgement: Judgement, *, quiet: bool) -> None:
    if quiet and report.ok and judgement.ok:
        return
    say_refusals(judgement)
    for line in and_more([str(fault) for fault in report.faults], more="more faults, which --json lists"):
        say(line)
    how = "names and sizes of" if report.quick else f"{size(report.size_bytes)} in"
    outcome = "ok" if report.ok else f"FAILED, {counted(len(report.faults), 'fault')}"
    say(f"{report.subject}: {outcome}; checked {how} {counted(report.files, 'file')}\n{report.digest}")
    if report.undecoded_files:
        say(
            f"note: {counted(report.undecoded_files, 'file')} more checked as stored only: differences from content "
            "that is not in it; --base BUNDLE checks what they stand for, and an installation does"
        )
    if report.hint and not report.ok:
        say(f"hint: {report.hint}")


def _report_json(report: Report, judgement: Judgement) -> dict[str, Any]:
    return {
        "subject": report.subject,
        "digest": report.digest,
        "ok": report.ok,
        "quick": report.quick,
        **judgement_json(judgement),
        "files": report.files,
        "hashed_bytes": report.size_bytes,
        "undecoded_files": report.undecoded_files,
        "faults": [{"kind": fault.kind, "path": fault.path, "detail": fault.detail} for fault in report.faults],
    }


def _verify_home(
    hf_home: Path, policies: tuple[Policy, ...], *, quick: bool, quiet: bool, jobs: int | None, as_json: bool
) -> int:
    from bundler.home.generations.verify_all import verify_all
    from bundler.home.home import Home
    from bundler.home.trust.kept import judge_installed

    found = verify_all(Home(hf_home), quick=quick, jobs=jobs, on_note=say)
    rows = [(one, report, judge_installed(one.bundle, policies)) for one, report in found.reports]
    for _, report, judgement in rows:
        _say_report(report, judgement, quiet=quiet)
    for error in found.errors:
        say(f"error: {error}")
    exit_code = found.exit_code or (0 if all(row[2].ok for row in rows) else TrustError.exit_code)
    if as_json:
        print_json(
            {
                "hf_home": str(hf_home),
                "ok": exit_code == 0,
                "reports": [
                    {"name": one.bundle.name, "is_current": one.is_current, **_report_json(report, judgement)}
                    for one, report, judgement in rows
                ],
                "errors": [{"exit_code": error.exit_code, "message": error.message} for error in found.errors],
            }
        )
    return exit_code


def _verify_installed(
    name: str, hf_home: Path | None, policies: tuple[Policy, ...], *, quick: bool, jobs: int | None
) -> tuple[Report, Judgement]:
    from bundler.home.generations.verify_all import verify_current
    from bundler.home.home import Home
    from bundler.home.trust.kept import judge_installed

    home = Home(default_hf_home(hf_home))
    warn_of_other_caches(home.path)
    with progress_bar(f"verifying {name}") as (advance, set_total):
        installed, report = verify_current(
            home, name, quick=quick, jobs=jobs, on_total=set_total, progress=advance, on_note=say
        )
    return report, judge_installed(installed, policies)


def _verify_files(
    places: list[Place], base: Path | None, jobs: int | None, signature: Path | None, policies: tuple[Policy, ...]
) -> tuple[Report, Judgement]:
    from bundler.format.find import find_bundle
    from bundler.trust.check_file import judge_file
    from bundler.verify.files import verify_files

    # A folder is refused here, whatever bundle is in it.
    place = find_bundle(places) if len(places) > 1 else places[0]
    try:
        with progress_bar(f"verifying {places[0].name}") as (advance, set_total):
            report = verify_files(
                place,
                base=base,
                jobs=jobs,
                on_total=set_total,
                progress=advance,
                on_note=lambda text: say(f"note: {text}"),
            )
    except FormatError:
        _say_parity(places)
        raise
    if not report.ok:
        _say_parity(places)
    return report, judge_file(place, policies, signature=signature)


def _say_parity(places: list[Place]) -> None:
    """Say of what is damaged that there is parity of it, if there is."""
    from bundler.format.storage.volume_names import volume_base
    from bundler.parity.names import find_parity

    paths = [place for place in places if isinstance(place, Path)]
    bases = {path: volume_base(path) or path for path in paths}
    if any(find_parity(base, [path.absolute().parent]) for path, base in bases.items()):
        say("note: there is parity of it: `bundle install` rebuilds what is damaged, `bundle repair` the files")
