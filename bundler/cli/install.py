"""`bundle install`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.parity_options import repair_options
from bundler.cli.standard_pipes import standard_input
from bundler.cli.trust_options import policy_option, signature_option
from bundler.console.options import hf_home_option, jobs_option, json_option, warn_of_other_caches
from bundler.console.output import print_json, progress_bar, say
from bundler.console.paths import GivenPlace
from bundler.plan.folders import default_hf_home
from bundler.remote.address import Place
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.home.installation.result import InstallResult


@click.command()
@click.argument("bundle", nargs=-1, type=GivenPlace())
@click.option(
    "--only",
    multiple=True,
    metavar="REPO_ID",
    help="Install this repo (id or alias) and read no other; may be given again. What is installed stays.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be written and the room it needs, write nothing.")
@click.option(
    "--group",
    metavar="NAME",
    help="Let this group read what is installed, whatever the umask; the folders of HF_HOME get the setgid bit.",
)
@signature_option
@policy_option
@click.option(
    "--allow-rollback", is_flag=True, help="Take a bundle that is older than what was installed under its name."
)
@repair_options
@hf_home_option
@jobs_option
@json_option
@click.pass_context
def install(
    ctx: click.Context,
    bundle: tuple[Place, ...],
    only: tuple[str, ...],
    dry_run: bool,
    group: str | None,
    signature: Path | None,
    policy: Path | None,
    allow_rollback: bool,
    parity: tuple[Path, ...] | None,
    hf_home: Path | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Verify BUNDLE and unpack it into HF_HOME.

    BUNDLE is a file; or volumes, of which the first, or the name without a number, stands for all; or an address, of
    which nothing is stored but what is installed; or - for a pipe.
    Without BUNDLE, takes the one in this folder. Nothing becomes visible before every byte is verified; a run that
    was interrupted is finished by the next one. A signature beside it must be right, and the policies of this machine
    must hold: else nothing of it is left here. What is damaged or missing is rebuilt from parity (`bundle parity`) that
    is beside it, and named.

    \b
    Examples:
      bundle install demo.tar.zst --hf-home /scratch/hf --dry-run
      bundle install /media/disk/demo.tar.zst.001 --only openai-community/gpt2
      bundle install demo.tar.zst --group ml --hf-home /shared/hf
      bundle install https://files.example.org/demo.tar.zst --only openai-community/gpt2
      ssh gateway cat demo.tar.zst | bundle install -
    """
    from bundler.format.find import find_bundle
    from bundler.home.installation.install import install as install_bundle

    if dry_run:
        from bundler.cli.install_plan import report_plan

        report_plan(ctx, bundle, only, default_hf_home(hf_home), jobs, parity, as_json=as_json)
        return
    source = standard_input() if bundle == (Path("-"),) else find_bundle(bundle)
    target = default_hf_home(hf_home)
    warn_of_other_caches(target)
    with progress_bar("installing") as (advance, set_total):
        result = install_bundle(
            source,
            target,
            only=only,
            group=group,
            signature=signature,
            policy=policy,
            allow_rollback=allow_rollback,
            parity=parity,
            jobs=jobs,
            on_total=set_total,
            progress=advance,
            on_note=lambda text: say(f"note: {text}"),
        )
    _say_result(result, target)
    if as_json:
        print_json(_result_json(result, target))


def _say_result(result: InstallResult, target: Path) -> None:
    for path, old, new in result.moved_refs:
        say(f"note: {path} named commit {old[:12]} before, now {new[:12]}")
    for path, place in result.set_aside:
        say(f"note: {path} is of no bundle: moved to {place}")
    installed = result.bundle
    for held in result.held:
        say(
            f"note: {held.what} stays {held.value} for programs that are started without `bundle run`, as bundle "
            f"{held.bundle} needs it; `bundle run --bundle {installed.name}` shows {held.wanted}"
        )
    verified = f"{counted(result.files, 'file')}, {size(result.size_bytes)} verified"
    if result.was_complete:
        say(f"nothing to do: {installed.name} is installed in {target}: {verified}\n{installed.digest}")
    else:
        written = f"{result.written_files} written ({size(result.written_bytes)})"
        say(f"installed {installed.name} in {target}: {verified}, {written}\n{installed.digest}")
    if result.replaced:
        say(
            f"replaces {result.replaced}, which stays for jobs that use it and for `bundle rollback {installed.name}`; "
            f"`bundle prune {installed.name}` deletes it"
        )
    if not result.symlinks:
        say("note: without symlinks bundles have no views of their own here: an upgrade is seen by jobs that run")
    for closed in result.closed:
        say(f"warning: {closed}")
    if installed.left_out:
        say(f"left out: {', '.join(installed.left_out)}")


def _result_json(result: InstallResult, target: Path) -> dict[str, Any]:
    return {
        "name": result.bundle.name,
        "digest": result.bundle.digest,
        "hf_home": str(target),
        "files": result.files,
        "size_bytes": result.size_bytes,
        "written_files": result.written_files,
        "written_bytes": result.written_bytes,
        "symlinks": result.symlinks,
        "replaced": result.replaced,
        "has_view": result.has_view,
        "moved_refs": [{"path": path, "before": old, "after": new} for path, old, new in result.moved_refs],
        "held": [asdict(held) for held in result.held],
        "left_out": list(result.bundle.left_out),
        "set_aside": [{"path": path, "moved_to": place} for path, place in result.set_aside],
        "closed": [asdict(closed) for closed in result.closed],
        "rebuilt": list(result.rebuilt),
    }
