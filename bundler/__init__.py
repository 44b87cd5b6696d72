"""Bundle Hugging Face repositories online, install and use them where there is no network.

Where there is a network:

    import bundler
    made = bundler.make_bundle(Path("demo.yaml"), Path("demo.tar.zst"))

Where there is none:

    bundler.verify_files(Path("demo.tar.zst")).raise_if_failed()
    bundler.install(Path("demo.tar.zst"), Path("/scratch/hf"))
    bundle = bundler.Home(Path("/scratch/hf")).bundle("demo")
    AutoTokenizer.from_pretrained(bundle.snapshot_path("openai-community/gpt2"))

and in a program that loads by name, `bundler.enforce_offline()` as its first line, or `bundler.run_offline` around it.

The names of `__all__` are the public interface; other modules may change. Importing this package imports nothing
heavy and touches no environment variable: each name is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bundler.errors import BundleError
    from bundler.home.home import Home
    from bundler.home.installation.install import install
    from bundler.home.installed import InstalledBundle
    from bundler.make.bundle import Made, make_bundle
    from bundler.make.lock import lock_manifest
    from bundler.make.observer import Observer
    from bundler.offline.enforce import enforce_offline
    from bundler.offline.run import run_offline
    from bundler.plan.lock import Lock
    from bundler.plan.manifest import Manifest
    from bundler.remote.address import Address
    from bundler.transfer.pull import pull
    from bundler.transfer.push import push
    from bundler.verify.files import verify_files

__version__ = "0.1.0"

__all__ = [
    "Address",
    "BundleError",
    "Home",
    "InstalledBundle",
    "Lock",
    "Made",
    "Manifest",
    "Observer",
    "__version__",
    "enforce_offline",
    "install",
    "lock_manifest",
    "make_bundle",
    "pull",
    "push",
    "run_offline",
    "verify_files",
]

# public name -> the module that defines it
_MODULES = {
    "Address": "bundler.remote.address",
    "BundleError": "bundler.errors",
    "Home": "bundler.home.home",
    "InstalledBundle": "bundler.home.installed",
    "Lock": "bundler.plan.lock",
    "Made": "bundler.make.bundle",
    "Manifest": "bundler.plan.manifest",
    "Observer": "bundler.make.observer",
    "enforce_offline": "bundler.offline.enforce",
    "install": "bundler.home.installation.install",
    "lock_manifest": "bundler.make.lock",
    "make_bundle": "bundler.make.bundle",
    "pull": "bundler.transfer.pull",
    "push": "bundler.transfer.push",
    "run_offline": "bundler.offline.run",
    "verify_files": "bundler.verify.files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
