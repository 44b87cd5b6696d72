"""Python imports `sitecustomize` before any user code; found first on PYTHONPATH, this one installs the guard.

Afterwards it steps aside: the user's own `sitecustomize`, if there is one, runs as it would have without us.
Interpreters started with -S, -I or -E never come here; the environment variables and the kernel still hold them.

It runs at the start of every Python process below a launch, so it imports nothing that Python has not loaded yet.
The guard is loaded from its file, since this interpreter may be of another environment, without this package.
"""

import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 -- pathlib would cost milliseconds


def _install_guard() -> None:
    # Under its real name, so that a program which imports the package meets this very module and its state.
    name = "bundler.offline.guard.guard"
    loader = SourceFileLoader(name, os.path.join(os.path.dirname(_HERE), "guard", "guard.py"))  # noqa: PTH118, PTH120
    module = type(sys)(name)
    module.__spec__ = ModuleSpec(name, loader, origin=loader.path)
    module.__file__ = loader.path
    sys.modules[name] = module
    loader.exec_module(module)
    module.install()


def _run_the_users_own() -> None:
    sys.path[:] = [path for path in sys.path if path != _HERE]
    sys.path_importer_cache.pop(_HERE, None)
    del sys.modules["sitecustomize"]
    try:
        __import__("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = _THIS


_THIS = sys.modules[__name__]
try:
    _install_guard()
except BaseException as error:
    # `site` would print this and go on without a guard.
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()
    os._exit(11)
if __name__ == "sitecustomize":
    _run_the_users_own()
