"""`bundle verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cache import default_hf_home
from bundler.cli.output import hf_home_option, jobs_option, json_option, print_json, progress_bar, say, size

if TYPE_CHECKING:
    from bundler.verify.report import Report


@click.command()
@click.argument("bundle")
@hf_home_option
@click.option("--quick", is_flag=True, help="Installed bundle: compare names, links and sizes, hash nothing.")
@jobs_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context, bundle: str, hf_home: Path | None, quick: bool, jobs: int | None, as_json: bool
) -> None:
    """Check BUNDLE, a bundle file or the name of an installed bundle, and report all that is wrong at once.

    What has a slash or ends in .zst, or exists as a file, is taken for a file. Ends with exit code 6 if anything
    is missing, extra or changed.

    \b
    Examples:
      bundle verify demo.tar.zst
      bundle verify demo --quick
    """
    report = _verify(bundle, hf_home, quick=quick, jobs=jobs)
    for fault in report.faults:
        say(str(fault))
    how = "names and sizes of" if report.quick else f"{size(report.size_bytes)} in"
    outcome = "ok" if report.ok else f"FAILED, {len(report.faults)} fault(s)"
    say(f"{report.subject}: {outcome}; checked {how} {report.files} files\n{report.digest}")
    if as_json:
        print_json(
            {
                "subject": report.subject,
                "digest": report.digest,
                "ok": report.ok,
                "quick": report.quick,
                "files": report.files,
                "bytes": report.size_bytes,
                "faults": [
                    {"kind": fault.kind, "path": fault.path, "detail": fault.detail} for fault in report.faults
                ],
            }
        )
    ctx.exit(0 if report.ok else 6)


def _verify(bundle: str, hf_home: Path | None, *, quick: bool, jobs: int | None) -> Report:
    from bundler.cores import available_cores

    if "/" in bundle or bundle.endswith(".zst") or Path(bundle).is_file():
        if quick:
            raise click.UsageError("--quick is for an installed bundle; a bundle file is always read whole")
        from bundler.format.reader import BundleReader
        from bundler.verify.bundle_file import verify_bundle

        with (
            BundleReader(Path(bundle)) as reader,
            progress_bar(f"verifying {Path(bundle).name}", reader.index.tar_bytes) as (advance, _),
        ):
            return verify_bundle(reader, jobs=jobs or available_cores(), progress=advance)
    from bundler.installed import InstalledBundle

    installed = InstalledBundle.open(bundle, default_hf_home(hf_home))
    total = sum(blob.size_bytes for blob in installed.layout.blobs)
    with progress_bar(f"verifying {bundle}", total) as (advance, _):
        return installed.verify(quick=quick, jobs=jobs, progress=advance)
