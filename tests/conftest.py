"""What every test gets: an environment of its own, and a Hub for those that ask for it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from bundler.files.parallel import available_cores
from bundler.format.codec.words import Way, compiled_way, numpy_way
from demo.hub import CPYTHON_DOCS, GPT2, MINILM, assemble
from tests.support.hub import RunningHub
from tests.support.remote import write_repo

pytest_plugins = ["tests.support.messages"]

# No test depends on how long something takes: by default one fails whose example takes 0.2 s, as on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# The outside world as the Hugging Face libraries and our own code see it.
_FOREIGN = re.compile(
    r"(HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|DATASETS|BUNDLE)_.*|.*_PROXY|DO_NOT_TRACK|DISABLE_TELEMETRY", re.I
)

# A shell without job control starts what it puts in the background with SIGINT ignored, and children inherit that:
# a test that interrupts its child would wait for ever. With a handler here, children start with the default.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Markers of tests that are left out unless an option of this name asks for them.
_ASKED_FOR = ("programs", "benchmarks")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make test-programs` and `make test-benchmarks` run."""
    for marker in _ASKED_FOR:
        parser.addoption(f"--{marker}", action="store_true", help=f"run the tests that are marked `{marker}`, too")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return what `-n auto` means: a worker more than there are cores, since tests wait for servers and disks, too."""
    return available_cores() + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is asked for by an option, unless it is."""
    markers = [marker for marker in _ASKED_FOR if not config.getoption(f"--{marker}")]
    left_out = {item for item in items if any(map(item.get_closest_marker, markers))}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """Put back what a test, or a library that it imports, changes of the environment: the next one shall not see it."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def isolated_environment(
    _environment_as_it_was: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
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
        # It hashes a repo when it is first asked for, which on a busy machine takes longer than a client waits.
        for path in (f"models/{GPT2}", f"models/{MINILM}", f"datasets/{CPYTHON_DOCS}"):
            assert hub.ask("GET", f"/api/{path}/revision/main").status == 200
        yield hub


@pytest.fixture
def demo_hub(_demo_server: RunningHub) -> Iterator[RunningHub]:
    """A running Hub with the demo's content and an empty log; one server for all tests, so it hashes once."""
    _demo_server.clear()
    yield _demo_server
    _demo_server.release()


# A space that is no metric: its proof opens the snapshot, and imports no library, which takes most of other proofs.
PLAIN = "version: 1\nname: small\nspaces:\n  - repo_id: org/small\n"


@pytest.fixture
def plain_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables for commands that fetch `PLAIN`, which stands in small.yaml of `tmp_path`."""
    (tmp_path / "small.yaml").write_text(PLAIN)
    files = {"README.md": b"ready\n" * 50_000, "noise.dat": os.urandom(1_000_000)}
    for name in ("small", "other"):
        write_repo(tmp_path / "hub" / "spaces" / "org" / name, files)
    with RunningHub(tmp_path / "hub") as hub:
        yield {**os.environ, **hub.environment(tmp_path / "hf"), "BUNDLE_CACHE": str(tmp_path / "cache")}


@pytest.fixture(scope="module", params=["numpy", "compiled"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """The code that takes words apart during the test: one after the other, where both are there."""
    way = numpy_way() if request.param == "numpy" else compiled_way()
    if way is None:
        pytest.skip("bundler/format/codec/_words.c is not built: no C compiler when this was installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bundler.format.codec.codecs.chosen_way", lambda: way)
        yield way
