"""Make the running process, and what it starts, an offline launch: for those who cannot change their launch line.

`import bundler; bundler.enforce_offline("NAME")` must come before any Hugging Face import, since these libraries read
the environment once, at import. It does what `bundle run` does inside Python: verify, set the environment, install
the guard here and, through PYTHONPATH, in every Python child. What the kernel refuses under `bundle run` is not
refused here: a process with threads cannot enter a namespace, and ranks of one job must reach each other.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.cache import default_hf_home
from bundler.errors import OfflineError
from bundler.offline import guard
from bundler.offline.environment import (
    ALLOW_NET,
    ATTEMPTS_DIR,
    VERIFIED,
    VERIFIED_HOME,
    Launch,
    offline_environment,
    parse_verified,
)
from bundler.offline.network_namespace import own_addresses
from bundler.offline.stand_ins import stand_ins_for

if TYPE_CHECKING:
    from bundler.installed import InstalledBundle

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


def enforce_offline(
    name: str | None = None, *, hf_home: str | Path | None = None, quick: bool = False
) -> list[InstalledBundle]:
    """Verify installed bundles and keep this process and its Python children off the network.

    Call it before any Hugging Face library is imported. What a launcher has verified on this node already
    (BUNDLE_VERIFIED, as `bundle run` sets it) is not verified again. Without a bundle to verify, the environment and
    the guard are in force all the same.

    Args:
        name: Bundle to verify; by default all that are installed, which may be none.
        hf_home: Cache root; by default as the Hugging Face libraries choose it.
        quick: Compare names, links and sizes only, and hash nothing.

    Returns:
        The bundles, for their `snapshot_path`.

    Raises:
        NotInstalledError: There is no bundle `name` in `hf_home`.
        IntegrityError: A bundle is not what its lock says; the faults are named.
        OfflineError: A Hugging Face library was imported before, and went by other settings.
    """
    from bundler.installed import InstalledBundle, installed_bundles

    home = default_hf_home(Path(hf_home) if hf_home is not None else None)
    _refuse_early_imports(name, home)
    bundles = [InstalledBundle.open(name, home)] if name is not None else installed_bundles(home)
    verified = _verified_before(home)
    for bundle in bundles:
        if verified.get(bundle.name) != bundle.digest:
            bundle.verify(quick=quick).raise_if_failed()
            verified[bundle.name] = bundle.digest
    _apply(home, verified)
    guard.install()
    return bundles


def attempts_folder() -> Path | None:
    """Return where the guards of this launch note what they refuse, or None if nothing is enforced here."""
    folder = os.environ.get(ATTEMPTS_DIR)
    return Path(folder) if folder else None


def _refuse_early_imports(name: str | None, home: Path) -> None:
    loaded = [sys.modules[reader] for reader in _READERS if reader in sys.modules]
    offline = all(getattr(module, "HF_HUB_OFFLINE", False) is True for module in loaded)
    caches = {os.path.realpath(cache) for module in loaded if (cache := getattr(module, "HF_HUB_CACHE", None))}
    if offline and caches <= {os.path.realpath(home / "hub")}:
        return
    # In the order of their imports.
    early = [library for library in sys.modules if library in _LIBRARIES]
    found = f"with the cache {', '.join(sorted(caches))}" if offline else "in online mode"
    call = f'import bundler; bundler.enforce_offline("{name or ""}")'.replace('("")', "()")
    raise OfflineError(
        f"enforce_offline came after the import of {', '.join(early)}: these libraries read their settings when they "
        f"are imported, and run {found} now; expected offline mode with the cache {home / 'hub'}",
        hint=f"make `{call}` the first line of the program, before every other import, or start it with "
        f"`bundle run{f' --bundle {name}' if name else ''} -- ...`",
    )


def _verified_before(home: Path) -> dict[str, str]:
    """Return what a launcher on this node vouches for in `home`: bundle name -> digest."""
    verified_home = os.environ.get(VERIFIED_HOME)
    if verified_home and os.path.realpath(verified_home) != os.path.realpath(home):
        return {}
    return parse_verified(os.environ.get(VERIFIED, ""))


def _apply(home: Path, verified: dict[str, str]) -> None:
    allowed = [text for text in os.environ.get(ALLOW_NET, "").split(",") if text]
    allowed += [text for address in own_addresses() if (text := str(address)) not in allowed]
    launch = Launch(verified=verified, attempts_dir=_noted_in(), allow_net=tuple(allowed))
    environment = offline_environment(home, stand_ins=stand_ins_for(home), launch=launch)
    for variable in environment.cleared:
        os.environ.pop(variable, None)
    os.environ.update(environment.apply(os.environ))


def _noted_in() -> Path:
    folder = attempts_folder()
    if folder and folder.is_dir():
        return folder
    made = Path(tempfile.mkdtemp(prefix="bundle-attempts-"))
    owner = os.getpid()

    def remove() -> None:
        # A forked child that ends normally runs this too.
        if os.getpid() == owner:
            shutil.rmtree(made, ignore_errors=True)

    atexit.register(remove)
    return made
