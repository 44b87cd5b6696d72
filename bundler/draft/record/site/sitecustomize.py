"""Python imports `sitecustomize` before any user code; found first on PYTHONPATH, this one has the process watched.

Afterwards it steps aside: the user's own `sitecustomize`, if there is one, runs as it would have without us. The watch
is loaded from its file, since this interpreter may be of another environment, without this package. Watching is no
protection: where it cannot begin, the program runs on, and a line on stderr says what will be missing.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 -- pathlib would cost milliseconds


def _watch() -> None:
    from importlib.machinery import SourceFileLoader

    name = "bundler.draft.record.watch.watch"
    loader = SourceFileLoader(name, os.path.join(os.path.dirname(_HERE), "watch", "watch.py"))  # noqa: PTH118, PTH120
    module = type(sys)(name)
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
    _watch()
except Exception as error:
    sys.stderr.write(f"bundle record: what this process loads will be missing, if it is Python's: {error}\n")
if __name__ == "sitecustomize":
    _run_the_users_own()
