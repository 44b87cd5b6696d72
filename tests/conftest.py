"""What every test gets: an environment of its own, and the demo's Hub for those that ask for it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.hub import assemble
from tests.support.hub import RunningHub

pytest_plugins = ["tests.support.messages"]

# The outside world as the Hugging Face libraries and our own code see it.
_FOREIGN = re.compile(
    r"(HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|DATASETS|BUNDLE)_.*|.*_PROXY|DO_NOT_TRACK|DISABLE_TELEMETRY", re.I
)

# A shell without job control starts what it puts in the background with SIGINT ignored, and children inherit that:
# a test that interrupts its child would wait for ever. With a handler here, children start with the default.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test, and its child processes, an empty home and no settings or proxies of the outside.

    The home is not in `tmp_path`, so that a test may compare everything below that.
    """
    for name in list(os.environ):
        if _FOREIGN.fullmatch(name):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    # Otherwise the `hf` command asks PyPI for its latest version.
    monkeypatch.setenv("HF_HUB_DISABLE_UPDATE_CHECK", "1")
    return home


@pytest.fixture(scope="session")
def demo_hub_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's folder of plain repos, to be read only; parallel workers share one."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo-hub"
    assemble(directory)
    return directory


@pytest.fixture(scope="session")
def _demo_server(demo_hub_dir: Path) -> Iterator[RunningHub]:
    with RunningHub(demo_hub_dir) as hub:
        yield hub


@pytest.fixture
def demo_hub(_demo_server: RunningHub) -> Iterator[RunningHub]:
    """A running Hub with the demo's content and an empty log; one server for all tests, so it hashes once."""
    _demo_server.clear()
    yield _demo_server
    _demo_server.release()
