"""Make the running process, and what it starts, an offline launch: for those who cannot change their launch line.

`import bundler; bundler.enforce_offline("NAME")` does what `bundle run` does, as far as a process can do it to itself:
verify, set the environment, install the guard here and, through PYTHONPATH, in every Python child, and have the
kernel refuse the rest.

Rule book:

* the Hugging Face libraries read the environment once, at import. If one was imported before with other settings, the
  program is started again with the right ones (`restart`), or, where that cannot be done, told what to do;
* below Python it takes Landlock, which needs no supervisor. A namespace would part the ranks of a job from each other,
  and a supervised filter wants a launcher above this process. Under `bundle run` something stronger is in force;
* Landlock holds threads that are started from then on. Where others run already it would hold half of the program,
  so it is left out, and a line on stderr and `isolation_in_force` say so.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import Literal

from bundler.errors import OfflineError
from bundler.home.home import Home
from bundler.home.installed import InstalledBundle, View
from bundler.home.launches import note_installed
from bundler.home.stamps.check import ContentCheck
from bundler.home.stamps.verify import Show, verify_for_launch
from bundler.home.trust.policies import check_policies, may_trust_stamps
from bundler.home.view.open import open_view
from bundler.offline.guard import guard
from bundler.offline.kernel import landlock
from bundler.offline.kernel.network_namespace import own_addresses
from bundler.offline.launch.attempts_folder import make_folder, remove_folder
from bundler.offline.launch.writable_overlay import make_overlay
from bundler.offline.restart import restart, why_no_restart
from bundler.offline.variables import (
    ALLOW_NET,
    ATTEMPTS_DIR,
    ISOLATION,
    VERIFIED,
    VERIFIED_HOME,
    Launch,
    offline_environment,
    parse_verified,
)
from bundler.plan.folders import default_hf_home

# Modules that read the environment when they are imported; everything else goes through them.
_READERS = ("huggingface_hub.constants", "datasets.config")
_LIBRARIES = (
    "huggingface_hub",
    "transformers",
    "datasets",
    "accelerate",
    "diffusers",
    "evaluate",
    "peft",
    "sentence_transformers",
)

# Whether this process has put Landlock on itself; there is no way back.
_held = False


def enforce_offline(
    name: str | None = None,
    *,
    hf_home: str | Path | None = None,
    quick: bool = False,
    full: bool = False,
    isolate: Literal["auto", "landlock", "none"] = "auto",
    show: Show | None = None,
) -> list[InstalledBundle]:
    """Verify installed bundles and keep this process and its Python children off the network.

    Call it before any Hugging Face library is imported; else the program is started again. What a launcher has
    verified on this node already (BUNDLE_VERIFIED, as `bundle run` sets it) is not verified again. Without a bundle to
    verify, the environment and the guard are in force all the same.

    Args:
        name: Bundle to verify; by default all that are installed, which may be none.
        hf_home: Cache root; by default as the Hugging Face libraries choose it.
        quick: Compare names, links and sizes only, and hash nothing.
        full: Hash all; by default what was hashed before and has not changed since is not hashed again.
        isolate: What the kernel does. By default Landlock where it can be had, unless a launcher did more; where it
            cannot, a line on stderr says why.
        show: Called for each bundle that is verified; what it returns is held open meanwhile, and the function that
            comes of it told the bytes that were read.

    Returns:
        The bundles, for their `snapshot_path`.

    Raises:
        TypeError: `name` is something else than one name.
        NotInstalledError: There is no bundle `name` in `hf_home`.
        IntegrityError: A bundle is not what its lock says; the faults are named.
        PolicyError: A policy is malformed.
        TrustError: A policy is against a bundle.
        OfflineError: A Hugging Face library was imported before, and went by other settings, and this program cannot
            be started again; or Landlock was asked for by name and cannot be had.
    """
    if not isinstance(name, str | None):
        raise TypeError(f"enforce_offline: expected the name of one bundle, or None for all, found {name!r}")
    check = ContentCheck(kind="quick" if quick else "full" if full else "stamped")
    home = default_hf_home(Path(hf_home) if hf_home is not None else None)
    bundles = _note_while_running(home, _open_bundles(home, name), name)
    view = open_view(home, bundles)
    early = _find_early_imports(view.hub)
    if early:
        _refuse_without_restart(early, name, view.hub)
    else:
        # Before verification, whose threads it would not hold afterwards.
        _hold_below_python(isolate)
    verified = _verify_others(home, bundles, view, check, show)
    _apply(home, view, verified, in_this_process=not early)
    if early:
        restart(f"{', '.join(early)} came before enforce_offline")
    guard.install()
    return bundles


def _say(note: str) -> None:
    sys.stderr.write(f"bundle: {note}\n")


def isolation_in_force() -> str:
    """Return what holds this process below Python: netns, seccomp, landlock or none."""
    return "landlock" if _held else os.environ.get(ISOLATION, "none")


def attempts_folder() -> Path | None:
    """Return where the guards of this launch note what they refuse, or None if nothing is enforced here."""
    folder = os.environ.get(ATTEMPTS_DIR)
    return Path(folder) if folder else None


def _find_early_imports(hub: Path) -> list[str]:
    """Return the libraries that were imported with settings other than the cache `hub`, in the order of imports."""
    if not _find_wrong_settings(hub):
        return []
    return [library for library in sys.modules if library in _LIBRARIES]


def _find_wrong_settings(hub: Path) -> str:
    """Return what is wrong with the settings that the libraries have read, or nothing."""
    loaded = [sys.modules[reader] for reader in _READERS if reader in sys.modules]
    if not all(getattr(module, "HF_HUB_OFFLINE", False) is True for module in loaded):
        return "in online mode"
    caches = {os.path.realpath(cache) for module in loaded if (cache := getattr(module, "HF_HUB_CACHE", None))}
    return "" if caches <= {os.path.realpath(hub)} else f"with the cache {', '.join(sorted(caches))}"


def _refuse_without_restart(early: list[str], name: str | None, hub: Path) -> None:
    obstacle = why_no_restart()
    if obstacle is None:
        return
    call = f'import bundler; bundler.enforce_offline("{name or ""}")'.replace('("")', "()")
    wrong = _find_wrong_settings(hub)
    raise OfflineError(
        f"enforce_offline came after the import of {', '.join(early)}: these libraries read their settings when they "
        f"are imported, and run {wrong} now; expected offline mode with the cache {hub}; the program "
        f"cannot be started again with these settings: {obstacle}",
        hint=f"make `{call}` the first line of the program (of a notebook: the first cell, after a restart of its "
        f"kernel), before every other import, or start it with "
        f"`bundle run{f' --bundle {name}' if name else ''} -- ...`",
    )


def _hold_below_python(isolate: Literal["auto", "landlock", "none"]) -> None:
    global _held
    if isolate == "none" or isolation_in_force() != "none":
        return
    problem = landlock.why_not()
    if problem is None and len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 -- names of no files
        problem = "threads of this process run already, which it would not hold"
    if problem is None:
        landlock.enter()
        _held = True
    elif isolate == "landlock":
        raise OfflineError(
            f"enforce_offline(isolate='landlock'): {problem}",
            hint="call it earlier, or start the program with `bundle run`; isolate='auto' takes what there is",
        )
    else:
        sys.stderr.write(
            f"bundle: isolation none: {problem}; only Python code is guarded, compiled code is not. To have the kernel "
            "refuse connections, start the program with `bundle run`, or call enforce_offline before anything that "
            "starts threads; isolate='none' accepts it\n"
        )


def _verify_others(
    home: Path, bundles: list[InstalledBundle], view: View, check: ContentCheck, show: Show | None
) -> dict[str, str]:
    """Verify what no launcher on this node vouches for; return what is verified then: bundle name -> digest."""
    verified = _read_verified(home)
    for bundle in bundles:
        if verified.get(bundle.name) != bundle.digest:
            trust_home = may_trust_stamps(bundle)
            report = verify_for_launch(bundle, view, check, trust_home=trust_home, show=show, on_note=_say)
            report.raise_if_failed()
            verified[bundle.name] = bundle.digest
    return verified


def _read_verified(home: Path) -> dict[str, str]:
    """Return what a launcher on this node vouches for in `home`: bundle name -> digest."""
    verified_home = os.environ.get(VERIFIED_HOME)
    if verified_home and os.path.realpath(verified_home) != os.path.realpath(home):
        return {}
    return parse_verified(os.environ.get(VERIFIED, ""))


def _apply(home: Path, view: View, verified: dict[str, str], *, in_this_process: bool) -> None:
    allowed = [text for text in os.environ.get(ALLOW_NET, "").split(",") if text]
    allowed += [text for address in own_addresses() if (text := str(address)) not in allowed]
    launch = Launch(
        verified=verified,
        attempts_dir=_choose_attempts_folder() if in_this_process else attempts_folder(),
        allow_net=tuple(allowed),
    )
    environment = offline_environment(
        home,
        hub=view.hub,
        datasets=view.datasets,
        overlay=make_overlay(home, view.datasets, view.files),
        launch=launch,
    )
    for variable in environment.cleared:
        os.environ.pop(variable, None)
    os.environ.update(environment.apply(os.environ))
    os.environ[ISOLATION] = isolation_in_force()


def _open_bundles(home: Path, name: str | None) -> list[InstalledBundle]:
    bundles = [Home(home).bundle(name, parse=False)] if name is not None else Home(home).bundles(parse=False)
    check_policies(bundles)
    return bundles


def _note_while_running(home: Path, bundles: list[InstalledBundle], name: str | None) -> list[InstalledBundle]:
    """Note that this process reads `bundles`, until it ends; return them, or those that are there in their place."""
    if not bundles:
        return bundles
    bundles, note = note_installed(home, bundles, lambda: _open_bundles(home, name))
    if note is not None:
        owner = os.getpid()

        def remove() -> None:
            # A forked child that ends normally runs this too.
            if os.getpid() == owner:
                note.unlink(missing_ok=True)

        atexit.register(remove)
    return bundles


def _choose_attempts_folder() -> Path:
    folder = attempts_folder()
    if folder and folder.is_dir():
        return folder
    made = make_folder()
    owner = os.getpid()

    def remove() -> None:
        # A forked child that ends normally runs this too.
        if os.getpid() == owner:
            remove_folder(made)

    atexit.register(remove)
    return made
