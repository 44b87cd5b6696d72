"""Two network namespaces joined by a cable, as two nodes of a cluster: each starts its rank through `bundle run`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.infini_llama.cli.test_cli import train_arguments
from tests.infini_llama.train import in_turn
from tests.infini_llama.train.test_distribution import OPTIONS, alone, assert_same_run, text  # noqa: F401  (fixtures)
from tests.infini_llama.train.test_run import CONFIG
from tests.offline.conftest import needs_seccomp
from tests.offline.kernel.test_nodes import nodes  # noqa: F401  (a fixture)
from tests.support.process import TIMEOUT_SECONDS, script

KINDS = {"ddp": "DistributedDataParallel", "fsdp2": "FSDPInfiniLlamaForCausalLM"}


@needs_seccomp
def test_two_nodes_that_reach_each_other_and_nobody_else_have_the_losses_of_one_process(
    request: pytest.FixtureRequest, gpt2_home: Path, tmp_path: Path
) -> None:
    names: list[str] = request.getfixturevalue("nodes")
    straight: Path = request.getfixturevalue("alone")
    config = tmp_path / "train.yaml"
    config.write_text(CONFIG)
    commands = []
    for kind in KINDS:
        overrides = (*OPTIONS, "training.batch_size=1", f"training.distributed={kind}")
        more = ["--json", *(word for override in overrides for word in ("--set", override))]
        arguments = train_arguments(config, request.getfixturevalue("text"), gpt2_home, tmp_path / kind, *more)
        commands.append([str(word) for word in arguments])
    launches = []
    for rank, node in enumerate(names):
        words: list[object] = ["ip", "netns", "exec", node, script("bundle"), "run", "--hf-home", gpt2_home]
        words += ["--isolate", "seccomp", "--allow-net", "10.77.0.0/24", "--strict", "--"]
        words += [script("torchrun"), "--nnodes", "2", "--node-rank", rank, "--nproc-per-node", "1"]
        words += ["--master-addr", "10.77.0.1", "--master-port", "29511", "-m", in_turn.__name__]
        words.append(json.dumps(commands))
        environment = os.environ | {"GLOO_SOCKET_IFNAME": f"node{rank}", "OMP_NUM_THREADS": "1"}
        launches.append(
            subprocess.Popen(
                list(map(str, words)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    ends = [launch.communicate(timeout=TIMEOUT_SECONDS) for launch in launches]
    assert [launch.returncode for launch in launches] == [0, 0], "\n".join(err for _, err in ends)
    # Global rank 0 alone has something to say, and so one of the nodes is silent.
    first, second = (out for out, _ in ends)
    assert second == ""
    for (kind, wrapper), line in zip(KINDS.items(), first.splitlines(), strict=True):
        summary = json.loads(line)
        assert (summary["world_size"], summary["wrapper"]) == (2, wrapper)
        assert (summary["isolation"], summary["network_attempts"]) == ("seccomp", 0)
        assert_same_run(tmp_path / kind, straight)
