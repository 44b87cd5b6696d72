"""Jobs of several processes and of several nodes under the filter: they reduce, and reach nobody else."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.offline.conftest import OUTSIDE, PYTHON, BundleRun, needs_seccomp
from tests.support.process import TIMEOUT_SECONDS, script

pytestmark = needs_seccomp

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

ALL_REDUCE = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
x = torch.full((1000,), float(dist.get_rank() + 1))
dist.all_reduce(x)
# One write: torchrun starts its ranks with `python -u`, where print() writes the line and its end apart.
os.write(1, b"sum %d\\n" % int(x[0]))
dist.destroy_process_group()
"""


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize("isolate", ["seccomp", "landlock"])
def test_ranks_of_one_node_reduce_over_loopback_with_no_attempt(
    bundle_run: BundleRun, tmp_path: Path, isolate: str
) -> None:
    program = tmp_path / "reduce.py"
    program.write_text(ALL_REDUCE)
    options = ("--isolate", isolate, "--allow-net", "127.0.0.0/8", "--strict")
    ran = bundle_run(script("torchrun"), "--nproc-per-node", "2", program, options=options)
    assert (ran.code, ran.out) == (0, "sum 3\nsum 3\n"), ran.err


def test_launches_of_a_job_step_on_one_node_find_each_other(home: Path, tmp_path: Path) -> None:
    """As `mpirun -n 2 bundle run -- ...` and `srun` with two tasks a node start them, with no option."""
    port = tmp_path / "port"
    listen = f"""
import os, socket
server = socket.create_server(("127.0.0.1", 0))
open("{port}.part", "w").write(str(server.getsockname()[1]))
os.rename("{port}.part", "{port}")
print(server.accept()[0].recv(9).decode())
"""
    tell = f"""
import os, socket
while not os.path.exists("{port}"): pass
socket.create_connection(("127.0.0.1", int(open("{port}").read()))).sendall(b"found")
"""
    environment = {**os.environ, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    words = [script("bundle"), "run", "--hf-home", home, "--strict", "--", PYTHON, "-c"]
    first, second = (
        subprocess.Popen([*words, code], env=environment, stdout=subprocess.PIPE, text=True)
        for code in (listen, tell)
    )
    assert first.communicate(timeout=TIMEOUT_SECONDS)[0] == "found\n"
    second.communicate(timeout=TIMEOUT_SECONDS)
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_step_on_several_nodes_is_told_that_the_others_are_out_of_reach(bundle_run: BundleRun) -> None:
    step = {"SLURM_STEP_NUM_NODES": "3", "SLURM_STEP_TASKS_PER_NODE": "1(x3)", "SLURM_NODEID": "0"}
    note = "note: this job step runs on 3 nodes, and the others are out of reach: `--allow-net NETWORK`"
    assert note in bundle_run("true", env=step).err
    assert note not in bundle_run("true", env=step, options=("--allow-net", "10.0.0.0/8")).err


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """Two network namespaces joined by a cable: 10.77.0.1 and 10.77.0.2, which know each other as node-0 and node-1."""
    if os.getuid() != 0 or not shutil.which("ip"):
        pytest.skip("two nodes take root and ip(8)")
    names = [f"bundle-{os.getpid()}-{side}" for side in "ab"]
    # ip-netns(8) puts these in place of /etc/hosts.
    places = [Path("/etc/netns", name) for name in names]
    made = not places[0].parent.exists()
    try:
        try:
            for name in names:
                _ip("netns", "add", name)
            _ip(
                "link",
                "add",
                "node0",
                "netns",
                names[0],
                "type",
                "veth",
                "peer",
                "name",
                "node1",
                "netns",
                names[1],
            )
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces joined by veth: {error.stderr}")
        for rank, name in enumerate(names):
            _ip("-n", name, "address", "add", f"10.77.0.{rank + 1}/24", "dev", f"node{rank}")
            _ip("-n", name, "link", "set", f"node{rank}", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            places[rank].mkdir(parents=True)
            (places[rank] / "hosts").write_text("127.0.0.1 localhost\n10.77.0.1 node-0\n10.77.0.2 node-1\n")
        yield names
    finally:
        for name, place in zip(names, places, strict=True):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            shutil.rmtree(place, ignore_errors=True)
        if made and places[0].parent.exists():
            with contextlib.suppress(OSError):  # Another node pair of a test beside this one may stand there.
                places[0].parent.rmdir()


def reduce_on_both(
    nodes: list[str], home: Path, tmp_path: Path, *, master: str, network: str, options: Sequence[str], job: str
) -> list[tuple[int, str, dict[str, Any]]]:
    """Run one rank on each node through `bundle run`; returns exit code, output and the report's attempts of each."""
    program = tmp_path / "reduce.py"
    program.write_text(ALL_REDUCE)
    launches = []
    for rank, node in enumerate(nodes):
        words: list[str | Path] = ["ip", "netns", "exec", node, script("bundle"), "run", "--hf-home", home]
        words += ["--isolate", "seccomp", "--allow-net", network, "--report", tmp_path / f"{rank}.json", *options]
        words += ["--", "sh", "-c", job, "sh", script("torchrun"), "--nnodes", "2", "--node-rank", str(rank)]
        words += ["--nproc-per-node", "1", "--master-addr", master, "--master-port", "29511", program]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": f"node{rank}"}
        launches.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [launch.communicate(timeout=TIMEOUT_SECONDS)[0] for launch in launches]
    reports = [json.loads((tmp_path / f"{rank}.json").read_text())["attempts"] for rank in range(2)]
    return [(launch.returncode, out, seen) for launch, out, seen in zip(launches, outputs, reports, strict=True)]


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize("master", ["10.77.0.1", "node-0"])
def test_two_nodes_that_know_each_other_reduce_with_no_attempt(
    nodes: list[str], home: Path, tmp_path: Path, master: str
) -> None:
    # By name from /etc/hosts; of addresses, torch asks for the names.
    ends = reduce_on_both(
        nodes, home, tmp_path, master=master, network="10.77.0.0/24", options=["--strict"], job='exec "$@"'
    )
    assert [(code, out, seen["total"]) for code, out, seen in ends] == [(0, "sum 3\n", 0)] * 2


@pytest.mark.slow
@needs_torch
def test_two_nodes_reach_each_other_and_nobody_else(nodes: list[str], home: Path, tmp_path: Path) -> None:
    job = f'"$@"; curl --silent http://{OUTSIDE}/; true'
    # Too large a network to name each of its addresses; those of the nodes are in /etc/hosts.
    ends = reduce_on_both(nodes, home, tmp_path, master="10.77.0.1", network="10.0.0.0/8", options=[], job=job)
    assert [(code, out) for code, out, _ in ends] == [(0, "sum 3\n")] * 2
    for _, _, seen in ends:
        assert {denial["target"] for denial in seen["kernel_refused"]} == {f"{OUTSIDE}:80"}
