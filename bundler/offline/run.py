"""Verify installed bundles, then run a command on them with the network shut: all of `bundle run` but its words.

Rule book:

* what can be told before gigabytes are hashed, or a night's work is done, is told there: no bundle, no such command,
  an isolation that cannot be had;
* what was hashed before and has not changed is not hashed again (`bundler.home.stamps`), unless all is asked for;
* verification happens in a forked child (`bundler.offline.launch.forked`): a launcher has no threads. Isolations are
  tried meanwhile;
* the command gets the offline environment, without secrets of services that it cannot reach, and the isolation that was
  chosen; what it did is reported at its end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import NotInstalledError
from bundler.home.home import Home
from bundler.home.installed import InstalledBundle, View
from bundler.home.launches import LAUNCHES_FOLDER, note_installed
from bundler.home.stamps.check import CHECK_STAMPS, ContentCheck
from bundler.home.stamps.verify import Show, verify_for_launch
from bundler.home.trust.policies import check_policies, may_trust_stamps
from bundler.home.uses import note_use
from bundler.home.view.open import open_view
from bundler.offline.job_step import read_job_step
from bundler.offline.kernel.enforcement import prepare
from bundler.offline.kernel.isolation import Isolation, Requested, choose
from bundler.offline.kernel.networks import only_loopback, whole_internets
from bundler.offline.launch.forked import fork_work
from bundler.offline.launch.launch import launch
from bundler.offline.launch.report import LaunchReport, VerifiedBundle
from bundler.offline.launch.spawn import CommandNotFoundError
from bundler.offline.launch.writable_overlay import make_overlay
from bundler.offline.secrets import find_secrets, find_token_files
from bundler.offline.variables import Launch, OfflineEnvironment, offline_environment
from bundler.plan.folders import default_hf_home
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.home.provision.provide import Provision

_NOT_NOTED = "note: {folder} cannot be written: `bundle prune` and `bundle remove` will not know of this launch"
_OTHER_NODES = (
    "note: this job step runs on {nodes} nodes, and the others are out of reach: "
    "`--allow-net NETWORK` lets through the network that they share"
)
_ALL_THROUGH = "warning: --allow-net {network} lets every connection through: nothing of it is refused or counted"
# Where `hf auth login` leaves tokens, whatever cache is used.
_USUAL_HOME = Path("~/.cache/huggingface")


def run_offline(
    command: Sequence[str],
    *,
    names: Sequence[str] = (),
    provision: Provision | None = None,
    hf_home: Path | None = None,
    policy: Path | None = None,
    check: ContentCheck = CHECK_STAMPS,
    isolate: Requested = "auto",
    allow_net: Sequence[str] = (),
    expect: Sequence[str] = (),
    pass_env: Sequence[str] = (),
    jobs: int | None = None,
    show: Show | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> LaunchReport:
    """Verify installed bundles, then run a command on them with the network shut; to be called in the main thread.

    The command has this process's standard streams and process group, and signals are passed on to it.

    Args:
        command: Command and arguments.
        names: The bundles to verify; default all that are installed, or those of `provision` alone.
        provision: Bundles to run on besides, in just these generations; what is not installed is installed first.
        hf_home: The cache root; default HF_HOME, else ``~/.cache/huggingface``.
        policy: A policy that must hold besides the machine's; default that of BUNDLE_POLICY.
        check: How closely content is looked at.
        isolate: What the kernel does, as `choose` takes it.
        allow_net: Networks that stay in reach besides this machine, as CIDR.
        expect: Targets, as HOST:PORT, whose refusal `--strict` lets pass: probes that a program is known to make.
        pass_env: Variables with secrets that the command gets all the same (`bundler.offline.secrets`).
        jobs: Cores to keep busy while verifying; default all.
        show: Draws how far the verification of a bundle is.
        on_note: Told of what was verified, what is in force, and what a person should know, in a line each.

    Returns:
        What was verified, in force and seen, and the command's exit code.

    Raises:
        NotInstalledError: No bundle is installed, or none of that name.
        ConflictError: The bundles need one name to be two things.
        IntegrityError: A bundle does not verify: the command was not started.
        OfflineError: The isolation that was asked for cannot be had.
        TrustError: A policy is against a bundle: the command was not started.
        CommandNotFoundError: There is no such command; CommandNotExecutableError, if it cannot be executed.
    """
    home = Home(default_hf_home(hf_home))
    provide = (
        partial(provision.provide, home.path, policy=policy, jobs=jobs, on_note=on_note) if provision else list
    )
    open_bundles = partial(_open_bundles, home, names, provide, command, policy)
    bundles = open_bundles()
    with contextlib.ExitStack() as ending:
        # Before the first byte is verified, so that nobody prunes what is being read.
        bundles, note = note_installed(home.path, bundles, open_bundles)
        if note is not None:
            ending.callback(_delete, note)
        else:
            on_note(_NOT_NOTED.format(folder=home.path / LAUNCHES_FOLDER))
        for bundle in bundles:
            note_use(bundle)
        view = open_view(home.path, bundles)
        with fork_work(
            lambda: tuple(_verify(bundle, view, check, policy, jobs, show, on_note) for bundle in bundles)
        ) as verifying:
            # Meanwhile; if it cannot be had, that ends the verification.
            isolation = _choose(isolate, allow_net, expect, on_note)
            prepare(isolation)
            verified = verifying.wait()
        on_note(f"isolation {isolation.kind}: {isolation.detail}")
        environment = _make_environment(home.path, view, verified).apply(os.environ)
        hidden, files = _hide_secrets(environment, home.path, pass_env, on_note)
        completed = launch(command, env=environment, isolation=isolation, hidden=files)
    return LaunchReport(
        hf_home=home.path,
        bundles=verified,
        command=command,
        completed=completed,
        expected=tuple(expect),
        hidden=hidden,
    )


def _delete(note: Path) -> None:
    with contextlib.suppress(OSError):
        note.unlink()


def _hide_secrets(
    environment: dict[str, str], home: Path, pass_env: Sequence[str], on_note: Callable[[str], None]
) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Take secrets out of an environment, but for those that are to pass; return what is hidden: names, and files."""
    for name in find_secrets(environment, {"HF_TOKEN"}):
        del environment[name]
    # The library reads this file in place of that of the cache, and finds it empty.
    environment["HF_TOKEN_PATH"] = os.devnull
    for name in pass_env:
        if find_secrets({name} & os.environ.keys()):
            environment[name] = os.environ[name]
        else:
            on_note(f"note: --pass-env {name}: there is no such variable, or it is none of those that are hidden")
    # Of an outer launch's stand-ins nothing is hidden.
    secrets = find_secrets(os.environ, pass_env)
    hidden = tuple(name for name in secrets if environment.get(name) != os.environ[name])
    if {"HF_TOKEN", "HF_TOKEN_PATH"}.isdisjoint(pass_env):
        return hidden, find_token_files((home, default_hf_home(None), _USUAL_HOME.expanduser()))
    if "HF_TOKEN_PATH" not in pass_env:
        del environment["HF_TOKEN_PATH"]
    return hidden, ()


def _open_bundles(
    home: Home,
    names: Sequence[str],
    provide: Callable[[], list[InstalledBundle]],
    command: Sequence[str],
    policy: Path | None,
) -> list[InstalledBundle]:
    is_command = shutil.which(command[0]) is not None or Path(command[0]).exists()
    # Nothing is installed for a command that is not there.
    provided = provide() if is_command else []
    bundles = [*provided, *(home.bundle(name, parse=False) for name in dict.fromkeys(names))]
    bundles = bundles or home.bundles(parse=False)
    if not bundles:
        raise NotInstalledError(
            f"no bundle is installed in {home.path}",
            hint="install one with `bundle install FILE`, or name another cache with --hf-home",
        )
    if not is_command:
        raise CommandNotFoundError(f"{command[0]}: command not found")
    check_policies(bundles, policy)
    return bundles


def _choose(
    isolate: Requested, allow_net: Sequence[str], expect: Sequence[str], on_note: Callable[[str], None]
) -> Isolation:
    step = read_job_step(os.environ)
    isolation = choose(isolate, allow_net, tasks_on_node=step.tasks_on_node, names_targets=bool(expect))
    if step.nodes > 1 and only_loopback(isolation.reach.networks) and not isolation.inherited:
        on_note(_OTHER_NODES.format(nodes=step.nodes))
    for network in whole_internets(isolation.reach.networks):
        on_note(_ALL_THROUGH.format(network=network))
    return isolation


def _make_environment(home: Path, view: View, verified: Sequence[VerifiedBundle]) -> OfflineEnvironment:
    return offline_environment(
        home,
        hub=view.hub,
        datasets=view.datasets,
        overlay=make_overlay(home, view.datasets, view.files),
        launch=Launch(verified={bundle.name: bundle.digest for bundle in verified}),
    )


def _verify(
    bundle: InstalledBundle,
    view: View,
    check: ContentCheck,
    policy: Path | None,
    jobs: int | None,
    show: Show | None,
    on_note: Callable[[str], None],
) -> VerifiedBundle:
    begun = time.monotonic()
    report = verify_for_launch(
        bundle,
        view,
        check,
        trust_home=may_trust_stamps(bundle, policy),
        jobs=jobs,
        show=show,
        on_note=on_note,
    )
    report.raise_if_failed()
    what = "names and sizes" if check.kind == "quick" else f"{size(report.size_bytes)} hashed"
    if report.stamped_files:
        what += f", {size(report.stamped_bytes)} not changed since they were"
    files, seconds = counted(report.files, "file"), time.monotonic() - begun
    on_note(f"verified {bundle.name} {bundle.digest}: {files}, {what}, {seconds:.1f} s")
    return VerifiedBundle(
        name=bundle.name,
        digest=bundle.digest,
        files=report.files,
        size_bytes=report.size_bytes,
        quick=report.quick,
        stamped_bytes=report.stamped_bytes,
    )
