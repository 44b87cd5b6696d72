"""The table of surroundings in OFFLINE_MODE.md, row by row: what `auto` takes in each, and that it holds there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.offline.conftest import COUNTING, KINDS, PYTHON, needs_landlock, needs_netns
from tests.support.network.listener import free_port
from tests.support.process import TIMEOUT_SECONDS, script

_TEXT = (Path(__file__).parents[2] / "OFFLINE_MODE.md").read_text(encoding="utf-8")
_ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in _TEXT.partition("<!-- surroundings:")[2].partition("\n\n")[0].splitlines()[3:]
]
# Row -> the kinds that it names, in order.
TABLE = {re.match(r"`([\w-]+)`", row[0])[1]: re.findall(r"`(\w+)`", row[1]) for row in _ROWS}  # type: ignore[index]

_CONTAINER = "bwrap --ro-bind / / --tmpfs /run --dev /dev --proc /proc --unshare-user --bind {0} {0}"
# What a container's profile or a service's SystemCallFilter= may refuse: unshare(2) and seccomp(2).
_PROFILE = """
import ctypes, os, struct, sys
refused = {"x86_64": (272, 317), "aarch64": (97, 277)}[os.uname().machine]
code = [(0x20, 0, 0, 0)]
code += [(0x15, len(refused) - n, 0, number) for n, number in enumerate(refused)]
code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
head = ctypes.create_string_buffer(struct.pack("=H6xQ", len(code), ctypes.addressof(program)))
assert libc.prctl(22, 2, head, 0, 0) == 0, ctypes.get_errno()
os.execvp(sys.argv[1], sys.argv[1:])
"""
# Loopback works, and a connection of compiled code to the outside does not.
_PROGRAM = """
import ctypes, socket, struct
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname(), 10).close()
libc = ctypes.CDLL(None, use_errno=True)
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 80, socket.inet_aton("198.51.100.7"))
assert libc.connect(libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0), address, 16) == -1
"""


def _launch(home: Path, tmp_path: Path, *around: str, env: dict[str, str] | None = None) -> dict[str, object]:
    """Run the program through `bundle run` in surroundings, and return the report."""
    report = tmp_path / "report.json"
    words = [script("bundle"), "run", "--hf-home", home, "--report", report, "--", PYTHON, "-S", "-c", _PROGRAM]
    done = subprocess.run(
        [*around, *words],
        env=env or dict(os.environ),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    value: dict[str, object] = json.loads(report.read_text())
    return value


def _kind(report: dict[str, object]) -> object:
    isolation = report["isolation"]
    assert isinstance(isolation, dict)
    return isolation["kind"]


def _attempts(report: dict[str, object]) -> dict[str, object]:
    attempts = report["attempts"]
    assert isinstance(attempts, dict)
    return attempts


def _needs(*words: str) -> None:
    if not shutil.which(words[0]):
        pytest.skip(f"this machine has no {words[0]}")
    done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{words[0]} does not work here: {done.stderr.strip()[-200:]}")


def _first(row: str) -> str:
    """Return the first of the kinds of a row that this machine has at all."""
    return next(kind for kind in TABLE[row] if kind in KINDS)


@needs_netns
def test_a_shell_and_a_service_with_hardly_a_variable_get_a_namespace(home: Path, tmp_path: Path) -> None:
    assert TABLE["shell"] == TABLE["service"] == ["netns"]
    assert _kind(_launch(home, tmp_path)) == "netns"
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    assert _kind(_launch(home, tmp_path, env=bare)) == "netns"


# The first task listens on a port that it writes down, the second one finds it there.
_MEETING = """
import os, pathlib, socket, sys, time
note = pathlib.Path(sys.argv[1])
if os.environ.get("SLURM_PROCID", os.environ.get("OMPI_COMM_WORLD_RANK")) == "0":
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    note.with_suffix(".new").write_text(str(listener.getsockname()[1]))
    note.with_suffix(".new").rename(note)
    listener.accept()
else:
    while not note.exists():
        time.sleep(0.05)
    socket.create_connection(("127.0.0.1", int(note.read_text())), 60)
    print("met")
"""


def _meet(home: Path, tmp_path: Path, *around: str) -> None:
    """Have two tasks of one job step meet on loopback, each in a launch of its own."""
    words = [*around, script("bundle"), "run", "--hf-home", home, "--strict", "--", PYTHON, "-S", "-c", _MEETING]
    done = subprocess.run(
        [*words, tmp_path / "port"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_SECONDS,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "met"), done.stderr
    assert done.stderr.count(f"isolation {_first('job-step')}") == 2


def test_tasks_of_a_real_mpirun_share_their_loopback(home: Path, tmp_path: Path) -> None:
    around = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"]
    _needs(*around)
    _meet(home, tmp_path, *around)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of this machine: munged, slurmctld and slurmd, with all that they write in the test's folder."""
    tools = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "sinfo")
    if not all(map(shutil.which, tools)) or os.getuid() != 0:
        pytest.skip("a cluster of this machine takes root and Debian's slurm-wlm and munge")
    folder, host = tmp_path / "slurm", socket.gethostname().partition(".")[0]
    folder.mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o400)
    ports = free_port(), free_port()
    (folder / "slurm.conf").write_text(
        textwrap.dedent(f"""
            ClusterName=test
            SlurmctldHost={host}(127.0.0.1)
            SlurmctldPort={ports[0]}
            SlurmdPort={ports[1]}
            SlurmUser=root
            AuthInfo=socket={folder}/munge
            CredType=cred/munge
            ProctrackType=proctrack/linuxproc
            TaskPlugin=task/none
            SelectType=select/linear
            MpiDefault=none
            StateSaveLocation={folder}
            SlurmdSpoolDir={folder}
            SlurmctldPidFile={folder}/slurmctld.pid
            SlurmdPidFile={folder}/slurmd.pid
            NodeName={host} NodeAddr=127.0.0.1 CPUs=2
            PartitionName=all Nodes=ALL Default=YES
        """)
    )
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    munged = ["munged", "--foreground", "--force", f"--key-file={folder}/key", f"--socket={folder}/munge"]
    munged += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/seed"]
    daemons = []
    try:
        for words in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (folder / f"{words[0]}.out").open("wb") as out:
                daemons.append(subprocess.Popen(words, stdout=out, stderr=out))
            time.sleep(0.2)
        deadline = time.monotonic() + 60
        while "idle" not in subprocess.run(["sinfo", "-h"], capture_output=True, text=True).stdout:
            if time.monotonic() > deadline:
                pytest.skip(f"Slurm does not start here: {(folder / 'slurmctld.out').read_text()[-300:]}")
            time.sleep(0.2)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_a_real_slurm_runs_tasks_that_meet_and_a_batch_script_in_a_namespace(home: Path, tmp_path: Path) -> None:
    _meet(home, tmp_path, "srun", "--ntasks", "2", "--overcommit")
    job = tmp_path / "job.sh"
    job.write_text(f"#!/bin/sh\n{script('bundle')} run --hf-home {home} -- true\n")
    out = tmp_path / "job.out"
    # A job of two tasks: its batch script is one process all the same.
    words = ["sbatch", "--wait", "--ntasks", "2", "--overcommit", f"--output={out}", job]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert done.returncode == 0, (done.stderr, out.read_text())
    assert f"isolation {_first('shell')}" in out.read_text()


_UNIT = """
[Unit]
DefaultDependencies=no
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
Environment=HOME={folder}
{settings}
ExecStart={command}
StandardError=file:{folder}/unit.err
"""
# As process 1, in namespaces of its own, with this unit and no other.
_BOOT = """
mount -t tmpfs tmpfs /run && mount --bind {units} /etc/systemd/system &&
exec env -i container=test PATH=/usr/bin:/bin {systemd} --unit=launch.service --log-target=null --show-status=no
"""
_SYSTEMD = "/lib/systemd/systemd"


def _boot(tmp_path: Path, settings: str, command: str) -> str:
    """Run a command as a unit of a systemd that is process 1 of its namespaces, and return what it said on stderr."""
    units = tmp_path / "units"
    units.mkdir(exist_ok=True)
    (units / "launch.service").write_text(_UNIT.format(folder=tmp_path, settings=settings, command=command))
    boot = _BOOT.format(units=units, systemd=_SYSTEMD)
    namespaces = [
        "--pid",
        "--mount",
        "--cgroup",
        "--net",
        "--ipc",
        "--uts",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ]
    # Whoever ends `unshare` ends all in there. One that hangs has said what it has said.
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["unshare", *namespaces, "sh", "-c", boot], capture_output=True, timeout=60)
    said = tmp_path / "unit.err"
    return said.read_text() if said.exists() else ""


@pytest.mark.parametrize(
    ("settings", "row"),
    [("", "service"), ("RestrictNamespaces=yes", "no-namespaces")],
    ids=["plain", "restricted"],
)
def test_a_unit_of_a_real_systemd(home: Path, tmp_path: Path, settings: str, row: str) -> None:
    if not Path(_SYSTEMD).exists() or os.getuid() != 0:
        pytest.skip("a systemd as process 1 of its own namespaces takes root and Debian's systemd")
    if _boot(tmp_path, "", "/bin/sh -c 'echo started >&2'") != "started\n":
        pytest.skip("systemd does not start in namespaces of its own here")
    report, program = tmp_path / "report.json", tmp_path / "program.py"
    program.write_text(_PROGRAM)
    words = [script("bundle"), "run", "--hf-home", home, "--report", report, "--", PYTHON, "-S", program]
    said = _boot(tmp_path, settings, " ".join(map(str, words)))
    assert report.exists(), said
    launched = json.loads(report.read_text())
    assert launched["exit_code"] == 0, said
    assert _kind(launched) == _first(row)
    assert _attempts(launched)["kernel"] == (1 if _first(row) in COUNTING else None)


def test_a_container_of_a_real_podman_gets_a_namespace(home: Path, tmp_path: Path) -> None:
    # The whole machine as its root, read-only under an overlay; as many files and processes as are allowed here.
    limits = [f"--ulimit={name}=1000:1000" for name in ("nofile", "nproc")]
    around = ["podman", "--cgroup-manager=cgroupfs", "run", "--rm", "--runtime=runc", "--network=none", *limits]
    around += [f"--volume={tmp_path}:{tmp_path}", f"--env=TMPDIR={tmp_path}", "--rootfs", "/:O"]
    _needs(*around)
    report = _launch(home, tmp_path, *around)
    assert _kind(report) == _first("container") == "netns"
    assert _attempts(report)["kernel"] == 1


def test_a_container_of_a_real_charliecloud_gets_a_namespace(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An image of empty folders and this machine's links, with its folders bound over them; Charliecloud binds the rest.
    image, around = tmp_path / "image", ["ch-run"]
    for place in Path("/").iterdir():
        if place.is_symlink():
            image.mkdir(exist_ok=True)
            (image / place.name).symlink_to(place.readlink())
        elif place.is_dir():
            (image / place.name).mkdir(parents=True)
            if place.name not in ("dev", "proc", "sys", "tmp", "home", "run"):
                around.append(f"--bind={place}:{place}")
    # It binds these by itself, before the folders that it is told to.
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        (image / "etc" / name).touch()
    monkeypatch.setenv("USER", "somebody")
    around += [str(image), "--"]
    _needs(*around)
    report = _launch(home, tmp_path, *around)
    assert _kind(report) == _first("container") == "netns"
    assert _attempts(report)["kernel"] == 1


def test_a_container_that_may_make_namespaces_gets_one(home: Path, tmp_path: Path) -> None:
    around = _CONTAINER.format(tmp_path).split()
    _needs(*around)
    report = _launch(home, tmp_path, *around, "env", f"TMPDIR={tmp_path}")
    assert _kind(report) == _first("container") == "netns"
    assert _attempts(report)["kernel"] == 1


def test_a_container_that_may_not_gets_a_filter(home: Path, tmp_path: Path) -> None:
    around = [*_CONTAINER.format(tmp_path).split(), "--disable-userns", "--cap-drop", "ALL"]
    _needs(*around)
    report = _launch(home, tmp_path, *around, "env", f"TMPDIR={tmp_path}")
    assert _kind(report) == _first("no-namespaces")
    assert _attempts(report)["kernel"] == (1 if "seccomp" in KINDS else None)


@needs_landlock
def test_where_neither_can_be_had_landlock_is_left_and_counts_nothing(home: Path, tmp_path: Path) -> None:
    report = _launch(home, tmp_path, PYTHON, "-S", "-c", _PROFILE)
    assert _kind(report) == TABLE["no-filter"][0] == "landlock"
    assert _attempts(report)["kernel"] is None


@pytest.mark.slow
def test_gvisor_gives_a_namespace_and_nobody_claims_to_have_counted(home: Path, tmp_path: Path) -> None:
    around = ["runsc", "--network=none", "do", "--force-overlay=false"]
    _needs(*around)
    report = _launch(home, tmp_path, *around)
    assert _kind(report) == TABLE["gvisor"][0] == "netns"
    assert _attempts(report)["kernel"] is None
