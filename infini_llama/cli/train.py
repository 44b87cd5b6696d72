"""`infini-llama train`: read the configuration, shut the network, find the starting point, train, print a summary."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.console.paths import GivenPath
from bundler.errors import STOPPED_BY_SIGNAL
from bundler.offline.enforce import attempts_folder, isolation_in_force
from bundler.offline.guard.attempts import read_attempts
from bundler.text.wording import counted
from infini_llama.cli.raw_data import check_sources, raw_data_option
from infini_llama.cli.tokenizer_source import (
    check_tokenizer_source,
    prepare_network,
    tokenizer_source_options,
)
from infini_llama.progress import say
from infini_llama.run_folder import checkpoints
from infini_llama.run_folder.lock import LOCK_NAME, run_lock
from infini_llama.run_folder.stopped import remove_stop_note
from infini_llama.settings.sections import TOKENS_FOLDER, Settings, load

if TYPE_CHECKING:
    from bundler.home.installed import InstalledBundle
    from infini_llama.train.run import Summary


@click.command("train")
@tokenizer_source_options
@click.option(
    "--tokenizer-fallback",
    type=click.Choice(["none", "byte"]),
    help="Without a bundle, if the tokenizer is not available: stop, or train on built-in bytes.",
)
@click.option(
    "--config",
    "config_path",
    required=True,
    type=GivenPath(exists=True, dir_okay=False),
    help="Training configuration (YAML).",
)
@raw_data_option(required=False)
@click.option(
    "--output-dir",
    required=True,
    type=GivenPath(file_okay=False),
    help="Where checkpoints go; must be empty or new, unless --resume.",
)
@click.option(
    "--start-from",
    type=GivenPath(exists=True, file_okay=False),
    help="Start with the model in this folder, from `infini-llama convert` or a training, instead of a new one.",
)
@click.option(
    "--quick", is_flag=True, help="Check only names, links and sizes of the bundle's files; hash nothing."
)
@click.option(
    "--resume", is_flag=True, help="Continue from the last complete checkpoint in --output-dir, if there is one."
)
@click.option("--accept-other-bundle", is_flag=True, help="Continue from a checkpoint of another bundle.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key: training.steps=100.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    bundle: str | None,
    offline_mode: bool,
    online: bool,
    tokenizer_fallback: str | None,
    config_path: Path,
    raw_data: str | None,
    output_dir: Path,
    hf_home: Path | None,
    start_from: Path | None,
    quick: bool,
    resume: bool,
    accept_other_bundle: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train on raw text: from a verified --bundle, else from the local cache with --offline-mode, else --online.

    \b
    Example:
      infini-llama train --bundle demo --config demo/train.yaml --raw-data corpus/ --output-dir run
      torchrun --nproc-per-node 8 -m infini_llama train --bundle demo ...
    """
    check_tokenizer_source(bundle, offline_mode=offline_mode, online=online)
    if quick and bundle is None:
        raise click.UsageError("--quick is about verifying the bundle: add --bundle NAME")
    is_first_rank = os.environ.get("RANK", "0") == "0"
    with contextlib.ExitStack() as held:
        is_locked = resume and is_first_rank and output_dir.is_dir()
        if is_locked:
            _begin_again(output_dir, held)
        chosen = [f"tokenizer_fallback={tokenizer_fallback}"] if tokenizer_fallback else []
        resolved = load(config_path, [*overrides, *chosen])
        check_sources(raw_data, resolved)
        resume_from = find_starting_point(output_dir, resume=resume)
        installed = prepare_network(bundle, hf_home, online=online, quick=quick)
        say(f"isolation below Python: {isolation_in_force()}")
        if is_first_rank and not is_locked:
            held.enter_context(run_lock(output_dir))
            # Verifying takes minutes: another run may have begun and ended in the folder meanwhile.
            resume_from = find_starting_point(output_dir, resume=resume)

        summary = _train(
            resolved,
            installed,
            raw_data=raw_data,
            output_dir=output_dir,
            resume_from=resume_from,
            online=online,
            accept_other_bundle=accept_other_bundle,
            start_from=start_from,
        )
    if is_first_rank:
        show(summary, network_attempts(), as_json=as_json)
    if summary.stopped_by is not None:
        sys.exit(STOPPED_BY_SIGNAL)


def _begin_again(output_dir: Path, held: contextlib.ExitStack) -> None:
    """Lock a folder, and remove the note of a stop from it.

    Do this before anything can fail: a job script that finds the note would start a failing run again and again. And
    under the lock: the note may be that of a run that is just ending.
    """
    held.enter_context(run_lock(output_dir))
    remove_stop_note(output_dir)


def _train(settings: Settings, bundle: InstalledBundle | None, **options: Any) -> Summary:
    # Some libraries print to stdout (transformers does, offline); a script must find only the summary there.
    with contextlib.redirect_stdout(sys.stderr):
        from infini_llama.train import distribution
        from infini_llama.train import run as training

        summary = training.train(settings, bundle, **options)
        distribution.destroy_process_group()
    return summary


def find_starting_point(output_dir: Path, *, resume: bool) -> Path | None:
    """Return the checkpoint to continue from; None to start a new run.

    Raises:
        click.UsageError: The folder is not empty and `resume` is false; or it has checkpoints, but none is complete.
    """
    if resume:
        latest = checkpoints.find_latest(output_dir)
        newer = checkpoints.find_damaged(output_dir, since=latest)
        names = ", ".join(path.name for path in newer)
        if newer and latest is None:
            raise click.UsageError(
                f"--resume: no checkpoint in {output_dir} is complete ({names}); to start a new run name another "
                "--output-dir, or move them away"
            )
        if newer:
            say(f"note: {names} is not complete any more, and is skipped")
        return latest
    # A run that was killed before its first checkpoint leaves an incoming folder, which is of no use, and tokens, which
    # any run may use.
    spare = {checkpoints.INCOMING, TOKENS_FOLDER, LOCK_NAME}
    if output_dir.is_dir() and any(path.name not in spare for path in output_dir.iterdir()):
        raise click.UsageError(
            f"--output-dir {output_dir} is not empty; add --resume to continue the run in it, or name another folder"
        )
    return None


def network_attempts() -> int | None:
    """Return how many network attempts the guards of this launch have refused; None if there is no guard."""
    folder = attempts_folder()
    return None if folder is None else len(read_attempts(folder))


def show(summary: Summary, attempts: int | None, *, as_json: bool) -> None:
    """Print the summary of the run."""
    values = {**dataclasses.asdict(summary), "isolation": isolation_in_force(), "network_attempts": attempts}
    if as_json:
        click.echo(json.dumps(values))
        return
    click.echo(f"first loss   {summary.first_loss:.4f}")
    click.echo(f"last loss    {summary.last_loss:.4f}")
    # Tokens are those of the whole run, seconds those of this process.
    took = (
        f" in {summary.seconds:.0f} s" if summary.resumed_from is None else f"; {summary.seconds:.0f} s of it now"
    )
    click.echo(f"steps        {summary.steps} ({summary.tokens:,} tokens{took})")
    left_out = [
        f"{counted(count, noun)} {what}"
        for count, noun, what in (
            (summary.bad_records, "bad record", "left out"),
            (summary.files_left_out, "file", "not read"),
        )
        if count
    ]
    click.echo(f"documents    {', '.join([f'{summary.documents:,}', *left_out])}")
    click.echo(f"parameters   {summary.parameters:,}")
    if summary.stopped_by:
        click.echo(f"stopped by   {summary.stopped_by}; continue with --resume")
    click.echo(f"checkpoint   {summary.checkpoint}")
    click.echo(f"tokenizer    {summary.tokenizer_origin}")
    click.echo(f"bundle       {f'{summary.bundle} {summary.bundle_digest}' if summary.bundle else 'none'}")
    click.echo(f"processes    {summary.world_size}, {summary.wrapper}")
    click.echo(f"isolation    {isolation_in_force()}")
    if attempts is not None:
        click.echo(f"network      {counted(attempts, 'attempt')}")
