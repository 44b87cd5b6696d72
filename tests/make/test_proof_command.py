"""The user's own command as a proof: it runs on what the bundle will hold, held as the proof of an entry is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import ProofError, UsageError
from bundler.make.fetch import fetch
from bundler.make.proof.command import CommandProof, list_program_files, prove_command
from bundler.make.proof.process.confinement import SandboxChoice
from bundler.make.store import Store
from bundler.offline.sandbox.limits import Limits
from bundler.offline.sandbox.sandbox import choose_sandbox
from bundler.plan.lock import Lock
from tests.support.hub import RunningHub
from tests.support.remote import lock_of, locked, write_repo

PYTHON = shlex.quote(sys.executable)
KINDS = [kind for kind in ("namespaces", "landlock") if choose_sandbox((kind,)).kind == kind]  # type: ignore[comparison-overlap]

pytestmark = pytest.mark.skipif(not KINDS, reason="this kernel has no sandbox")

LOADS = """
import os, sys
from pathlib import Path
from huggingface_hub import hf_hub_download

print(Path(hf_hub_download("org/plain", "config.json")).read_text())
import beside
os.makedirs("out"), Path("out/weights").write_text("new")
assert beside.DATA == "data" and "SECRET" not in os.environ and not os.listdir(os.path.expanduser("~"))
"""
ASKS = """
from huggingface_hub import hf_hub_download
hf_hub_download("org/other", "config.json")
"""
READS = "cat $HF_HOME/hub/*/snapshots/*/config.json"
HIDES = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80))
except OSError:
    pass
"""


@pytest.fixture(scope="module")
def cargo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lock, Store]]:
    root = tmp_path_factory.mktemp("hub")
    write_repo(root / "org" / "plain", {"config.json": b'{"of": "the bundle"}'})
    store = Store(tmp_path_factory.mktemp("store"))
    with RunningHub(root) as hub:
        repo = locked(hub.endpoint, "org/plain", kind="tokenizer")
        yield fetch(lock_of(repo), store, endpoint=hub.endpoint).lock, store


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    write_repo(
        folder,
        {
            "loads.py": LOADS.encode(),
            "asks.py": ASKS.encode(),
            "hides.py": HIDES.encode(),
            "beside.py": b"from pathlib import Path\nDATA = Path('data/x.txt').read_text()\n",
            "data/x.txt": b"data",
        },
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SECRET", "secret")
    return folder


def prove(
    cargo: tuple[Lock, Store], command: str, *, sandbox: SandboxChoice = "auto", seconds: float = 60
) -> CommandProof:
    return prove_command(command, *cargo, sandbox=sandbox, limits=Limits(step_seconds=seconds))


def refuse(
    cargo: tuple[Lock, Store], command: str, *, sandbox: SandboxChoice = "auto", seconds: float = 60
) -> ProofError:
    with pytest.raises(ProofError) as caught:
        prove(cargo, command, sandbox=sandbox, seconds=seconds)
    assert list((cargo[1].root / "work").iterdir()) == []
    return caught.value


@pytest.mark.parametrize("sandbox", KINDS)
def test_a_program_runs_in_its_folder_and_changes_nothing_there(
    cargo: tuple[Lock, Store], project: Path, sandbox: SandboxChoice
) -> None:
    before = sorted(project.rglob("*"))
    command = f"{PYTHON} loads.py > log && grep -q 'of.*the bundle' log && test -f out/weights"
    proven = prove(cargo, command, sandbox=sandbox)
    assert (proven.command, proven.read_files) == (command, True)
    assert sorted(project.rglob("*")) == before
    error = refuse(cargo, "echo changed > data/x.txt", sandbox=sandbox)
    assert "ended with exit code" in error.message and (project / "data/x.txt").read_text() == "data"


@pytest.mark.skipif("namespaces" not in KINDS, reason="Landlock refuses sockets of this kind")
def test_worker_processes_find_room_for_the_names_of_their_sockets(
    cargo: tuple[Lock, Store], project: Path
) -> None:
    (project / "workers.py").write_text(
        "from multiprocessing.connection import Listener as L\nL(family='AF_UNIX')\n"
    )
    assert prove(cargo, f"{READS} && {PYTHON} workers.py", sandbox="namespaces").seconds > 0


@pytest.mark.parametrize("sandbox", KINDS)
def test_of_a_home_it_reads_nothing_whose_name_begins_with_a_dot(
    cargo: tuple[Lock, Store], project: Path, monkeypatch: pytest.MonkeyPatch, sandbox: SandboxChoice
) -> None:
    write_repo(project, {".ssh/id": b"key"})
    monkeypatch.setenv("HOME", str(project))
    command = f"{READS} && cat data/x.txt {project}/beside.py && test ! -e .ssh && ! cat {project}/.ssh/id"
    assert prove(cargo, command, sandbox=sandbox).command == command


def test_what_is_not_in_the_bundle_is_named_with_the_line_to_add(cargo: tuple[Lock, Store], project: Path) -> None:
    text = refuse(cargo, f"{PYTHON} asks.py").message
    assert f"`{PYTHON} asks.py` does not run offline: it ended with exit code 1\n" in text
    assert "  not found: file config.json of model org/other is not in the bundle\n" in text
    assert "  what to change: have `- repo_id: org/other` under models" in text
    assert "the end of its output:" in text and str(cargo[1].root) not in text.partition("the end of")[0]


def test_an_attempt_that_the_program_hides_fails_the_proof(cargo: tuple[Lock, Store], project: Path) -> None:
    text = refuse(cargo, f"{PYTHON} hides.py").message
    assert f"`{PYTHON} hides.py` does not run offline: it made 1 attempt at the network\n" in text
    assert "  refused: 1 x 192.0.2.1:80, by " in text and "hides.py:4" in text


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("kill -9 $$; echo alive", 137),
        (f"exec {PYTHON} -c 'import os, signal; os.kill(os.getpid(), signal.SIGTERM); print(1)'", 143),
    ],
)
def test_a_program_that_ends_by_a_signal_of_its_own_is_not_proven(
    cargo: tuple[Lock, Store], project: Path, command: str, code: int
) -> None:
    assert f"it ended with exit code {code}" in refuse(cargo, command).message


@pytest.mark.parametrize("command", [READS, "cp $HF_HOME/hub/*/blobs/* .", f"({READS}) & wait"])
def test_a_command_that_reads_a_file_of_the_bundle_proves_something(
    cargo: tuple[Lock, Store], project: Path, command: str
) -> None:
    assert prove(cargo, command).read_files is True


@pytest.mark.parametrize(
    "command",
    [
        "/bin/true",
        "exit 0",
        "ls -lR $HF_HOME > names && test -f $(echo $HF_HOME/hub/*/snapshots/*/config.json)",
        f"{PYTHON} -c 'import beside'",
    ],
)
def test_a_command_that_could_not_have_failed_is_no_proof(
    cargo: tuple[Lock, Store], project: Path, command: str
) -> None:
    assert refuse(cargo, command).message.startswith(f"`{command}` proves nothing: ")


def test_a_command_has_the_time_of_a_proof(cargo: tuple[Lock, Store], project: Path) -> None:
    error = refuse(cargo, "sleep 60", seconds=0.3)
    assert "it was ended: it took more than 0.005 minutes" in error.message
    assert error.hint is not None and "--proof-timeout" in error.hint


def test_a_home_is_shown_without_names_that_begin_with_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repo(tmp_path, {".ssh/id": b"key", "train.py": b""})
    assert [path.name for path in list_program_files(tmp_path)] == [".ssh", "train.py"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [path.name for path in list_program_files(tmp_path)] == ["train.py"]
    with pytest.raises(UsageError, match="has the home"):
        list_program_files(tmp_path.parent)
