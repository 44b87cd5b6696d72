"""`bundle verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.bundle_arguments import is_file_name
from bundler.cli.trust_options import judgement_json, policy_option, say_refusals, signature_option
from bundler.console.options import hf_home_option, jobs_option, json_option, warn_of_other_caches
from bundler.console.output import print_json, progress_bar, say
from bundler.plan.layout import default_hf_home
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.trust.judge import Judgement
    from bundler.trust.policy import Policy
    from bundler.verify.report import Report


@click.command()
@click.argument("bundle", nargs=-1, required=True)
@signature_option
@policy_option
@hf_home_option
@click.option("--quick", is_flag=True, help="Installed bundle: compare names, links and sizes, hash nothing.")
@jobs_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    bundle: tuple[str, ...],
    signature: Path | None,
    policy: Path | None,
    hf_home: Path | None,
    quick: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Check BUNDLE, a bundle file or the name of an installed bundle, and report all that is wrong at once.

    What has a slash or ends in .zst, or exists as a file, is taken for a file. One volume is checked alone, so that
    each disk can be checked where it is; all volumes, or their name without a number, are checked as the bundle that
    they are. Ends with exit code 6 if anything is missing, extra or changed, and with 20 if its signature is wrong or a
    policy is against it.

    \b
    Examples:
      bundle verify demo.tar.zst
      bundle verify /media/disk2/demo.tar.zst.002
      bundle verify demo --quick
    """
    from bundler.trust.policy import load_policies

    policies = load_policies(policy)
    if len(bundle) > 1 or is_file_name(bundle[0]):
        if quick:
            raise click.UsageError("--quick is for an installed bundle; a bundle file is always read whole")
        report, judgement = _verify_files([Path(word) for word in bundle], jobs, signature, policies)
    elif signature:
        raise click.UsageError("--signature is for a bundle file; an installed bundle has its own")
    else:
        report, judgement = _verify_installed(bundle[0], hf_home, policies, quick=quick, jobs=jobs)
    say_refusals(judgement)
    for fault in report.faults:
        say(str(fault))
    how = "names and sizes of" if report.quick else f"{size(report.size_bytes)} in"
    outcome = "ok" if report.ok else f"FAILED, {counted(len(report.faults), 'fault')}"
    say(f"{report.subject}: {outcome}; checked {how} {counted(report.files, 'file')}\n{report.digest}")
    if report.hint and not report.ok:
        say(f"hint: {report.hint}")
    if as_json:
        print_json(
            {
                "subject": report.subject,
                "digest": report.digest,
                "ok": report.ok,
                "quick": report.quick,
                **judgement_json(judgement),
                "files": report.files,
                "hashed_bytes": report.size_bytes,
                "faults": [
                    {"kind": fault.kind, "path": fault.path, "detail": fault.detail} for fault in report.faults
                ],
            }
        )
    ctx.exit(6 if not report.ok else 0 if judgement.ok else 20)


def _verify_installed(
    name: str, hf_home: Path | None, policies: tuple[Policy, ...], *, quick: bool, jobs: int | None
) -> tuple[Report, Judgement]:
    from bundler.home.home import Home
    from bundler.home.trust.kept import judge_installed

    home = default_hf_home(hf_home)
    warn_of_other_caches(home)
    installed = Home(home).bundle(name)
    total = sum(blob.size_bytes for blob in installed.layout.blobs)
    with progress_bar(f"verifying {name}", total) as (advance, _):
        report = installed.verify(quick=quick, jobs=jobs, progress=advance)
    return report, judge_installed(installed, policies)


def _verify_files(
    paths: list[Path], jobs: int | None, signature: Path | None, policies: tuple[Policy, ...]
) -> tuple[Report, Judgement]:
    from bundler.trust.check_file import judge_file
    from bundler.verify.files import verify_files

    place = paths if len(paths) > 1 else paths[0]
    with progress_bar(f"verifying {paths[0].name}") as (advance, set_total):
        report = verify_files(
            paths, jobs=jobs, on_total=set_total, progress=advance, on_note=lambda text: say(f"note: {text}")
        )
    return report, judge_file(place, policies, signature=signature)
