"""`bundle run`."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.bundle_arguments import OutputFile
from bundler.cli.networks import NetworkInReach
from bundler.console.options import hf_home_option, jobs_option
from bundler.console.output import progress_bar, say
from bundler.files.paths import check_writable
from bundler.plan.layout import default_hf_home
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.home.installed import InstalledBundle
    from bundler.offline.kernel.isolation import Requested
    from bundler.offline.launch.report import VerifiedBundle


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--bundle",
    "names",
    multiple=True,
    metavar="NAME",
    help="Bundle to verify; repeatable. Default: all installed.",
)
@hf_home_option
@click.option("--quick", is_flag=True, help="Compare names, links and sizes before the start, hash nothing.")
@click.option(
    "--isolate",
    type=click.Choice(["auto", "netns", "seccomp", "landlock", "none"]),
    default="auto",
    show_default=True,
    help="What the kernel does; auto is the strongest that works here and lets --allow-net through.",
)
@click.option(
    "--allow-net",
    "allow_net",
    multiple=True,
    type=NetworkInReach(),
    help="Network that stays in reach besides this machine, for jobs of several nodes; repeatable.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="End with exit code 11 if anything was seen to try the network. Under landlock and none the kernel counts "
    "nothing: attempts of compiled code are not seen.",
)
@click.option("--report", "report_path", type=OutputFile(), help="Write the report as JSON.")
@jobs_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
@click.pass_context
def run(
    ctx: click.Context,
    names: tuple[str, ...],
    hf_home: Path | None,
    quick: bool,
    isolate: Requested,
    allow_net: tuple[str, ...],
    strict: bool,
    report_path: Path | None,
    jobs: int | None,
    command: tuple[str, ...],
) -> None:
    """Verify installed bundles, then run CMD on them with the network shut.

    CMD gets the offline environment; every Python process below it gets a guard that refuses connections, and the
    kernel refuses those of all other programs where it can. Signals and the exit code are passed on. A report on
    stderr ends the run.

    \b
    Examples:
      bundle run -- python train.py
      bundle run --bundle demo --strict -- torchrun --nproc-per-node 2 train.py
      bundle run --allow-net 10.0.0.0/8 -- torchrun --nnodes 4 --rdzv-backend c10d --rdzv-endpoint 10.0.0.1 train.py
    """
    from bundler.home.home import Home
    from bundler.offline.kernel.isolation import choose
    from bundler.offline.kernel.networks import whole_internets
    from bundler.offline.launch.forked import aside
    from bundler.offline.launch.launch import launch
    from bundler.offline.launch.report import LaunchReport
    from bundler.offline.launch.spawn import CommandNotFoundError
    from bundler.offline.launch.writable_overlay import stand_ins_for
    from bundler.offline.variables import Launch, offline_environment

    home = default_hf_home(hf_home)
    bundles = [Home(home).bundle(name) for name in dict.fromkeys(names)] or Home(home).bundles()
    if not bundles:
        raise _none_installed(home)
    # All before hashing gigabytes, or a night's work, for nothing.
    if report_path:
        check_writable(report_path.absolute().parent)
    if shutil.which(command[0]) is None and not Path(command[0]).exists():
        raise CommandNotFoundError(f"{command[0]}: command not found")
    isolation = choose(isolate, allow_net)
    for network in whole_internets(isolation.reach.networks):
        say(f"warning: --allow-net {network} lets every connection through: nothing of it is refused or counted")
    verified = aside(lambda: tuple(_verified(bundle, quick=quick, jobs=jobs) for bundle in bundles))
    say(f"isolation {isolation.kind}: {isolation.detail}")
    environment = offline_environment(
        home, stand_ins=stand_ins_for(home), launch=Launch(verified={b.name: b.digest for b in verified})
    )
    completed = launch(command, env=environment.apply(os.environ), isolation=isolation)
    report = LaunchReport(hf_home=home, bundles=verified, command=command, completed=completed)
    say(report.text())
    if report_path:
        report.write(report_path)
    if strict and completed.attempts:
        seen = counted(completed.attempts, "attempt")
        say(f"error: {seen} at the network under --strict; CMD gave {completed.exit_code}")
        ctx.exit(11)
    ctx.exit(completed.exit_code)


def _none_installed(home: Path) -> Exception:
    from bundler.errors import NotInstalledError

    return NotInstalledError(
        f"no bundle is installed in {home}",
        hint="install one with `bundle install FILE`, or name another cache with --hf-home",
    )


def _verified(bundle: InstalledBundle, *, quick: bool, jobs: int | None) -> VerifiedBundle:
    from bundler.offline.launch.report import VerifiedBundle

    begun = time.monotonic()
    total = sum(blob.size_bytes for blob in bundle.layout.blobs)
    with progress_bar(f"verifying {bundle.name}", total) as (advance, _):
        report = bundle.verify(quick=quick, jobs=jobs, progress=advance)
    report.raise_if_failed()
    what = "names and sizes" if quick else size(report.size_bytes)
    files, seconds = counted(report.files, "file"), time.monotonic() - begun
    say(f"verified {bundle.name} {bundle.digest}: {files}, {what}, {seconds:.1f} s")
    return VerifiedBundle(
        name=bundle.name, digest=bundle.digest, files=report.files, size_bytes=report.size_bytes, quick=quick
    )
