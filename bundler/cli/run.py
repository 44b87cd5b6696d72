"""`bundle run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.bundle_arguments import OutputFile
from bundler.cli.content_options import content_options
from bundler.cli.networks import NetworkInReach, Target
from bundler.cli.provision_options import provision_options
from bundler.cli.replaced import say_replaced_file
from bundler.cli.trust_options import policy_option
from bundler.console.loading import load_without_collection
from bundler.console.options import hf_home_option, jobs_option
from bundler.console.output import progress_bar, say
from bundler.files.access import check_writable

if TYPE_CHECKING:
    from bundler.home.installed import InstalledBundle
    from bundler.home.provision.provide import Provision
    from bundler.home.stamps.check import ContentCheck
    from bundler.offline.kernel.isolation import Requested


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--bundle",
    "names",
    multiple=True,
    metavar="NAME",
    help="Bundle to verify; repeatable. Default: all installed.",
)
@provision_options
@hf_home_option
@policy_option
@content_options
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
    "--pass-env",
    multiple=True,
    metavar="NAME",
    help="Variable with a secret, such as WANDB_API_KEY, that CMD gets all the same; repeatable.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="End with exit code 11 if anything tried the network, or if that cannot be known. Under landlock and none the "
    "kernel counts nothing: attempts of compiled code are not seen.",
)
@click.option(
    "--expect",
    "expect",
    multiple=True,
    type=Target(),
    help="Target that CMD is known to try and --strict lets pass; refused all the same. Repeatable.",
)
@click.option("--report", "report_path", type=OutputFile(), help="Write the report as JSON.")
@jobs_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
@click.pass_context
def run(
    ctx: click.Context,
    names: tuple[str, ...],
    provision: Provision | None,
    hf_home: Path | None,
    policy: Path | None,
    check: ContentCheck,
    isolate: Requested,
    allow_net: tuple[str, ...],
    pass_env: tuple[str, ...],
    strict: bool,
    expect: tuple[str, ...],
    report_path: Path | None,
    jobs: int | None,
    command: tuple[str, ...],
) -> None:
    """Verify installed bundles, then run CMD on them with the network shut.

    CMD gets the offline environment, without tokens of the Hub, clouds, GitHub and trackers; every Python process below
    it gets a guard that refuses connections, and the kernel refuses those of all other programs where it can. Signals
    and the exit code are passed on. A report on stderr ends the run.

    \b
    Examples:
      bundle run -- python train.py
      bundle run --bundle demo --strict -- torchrun --nproc-per-node 2 train.py
      bundle run --from oci://registry.example.org/models/demo:1 --hf-home /local/hf -- python train.py
      bundle run --allow-net 10.0.0.0/8 -- torchrun --nnodes 4 --rdzv-backend c10d --rdzv-endpoint 10.0.0.1 train.py
    """
    with load_without_collection():
        from bundler.offline.run import run_offline

    if report_path:
        check_writable(report_path.absolute().parent)
    report = run_offline(
        command,
        names=names,
        provision=provision,
        hf_home=hf_home,
        policy=policy,
        check=check,
        isolate=isolate,
        allow_net=allow_net,
        expect=expect,
        pass_env=pass_env,
        jobs=jobs,
        show=_show,
        on_note=say,
    )
    say(report.text())
    if report_path:
        say_replaced_file(report_path)
        report.write(report_path)
    completed = report.completed
    if strict:
        say(f"  --strict   speaks for {report.speaks_for}")
        if failure := report.strict_failure():
            say(f"error: {failure} under --strict; CMD gave {completed.exit_code}")
            ctx.exit(11)
    ctx.exit(completed.exit_code)


@contextmanager
def _show(bundle: InstalledBundle) -> Iterator[Callable[[int], None]]:
    total = sum(blob.size_bytes for blob in bundle.layout.blobs)
    with progress_bar(f"verifying {bundle.name}", total) as (advance, _):
        yield advance
