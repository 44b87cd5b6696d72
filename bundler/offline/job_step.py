"""Which launches beside this one are one job with it, as workload managers and launchers of MPI jobs tell their tasks.

``srun --ntasks-per-node 4 bundle run -- python train.py`` makes four launches on a node, whose programs look for each
other on loopback. `choose` must know, or each would get a loopback of its own and wait for the others in vain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Tasks of this job on this node: Open MPI, MPICH's hydra, MVAPICH, IBM's jsrun, PALS, torchrun.
_LOCAL_SIZES = (
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALNRANKS",
    "PMI_LOCAL_SIZE",
    "MV2_COMM_WORLD_LOCAL_SIZE",
    "JSM_NAMESPACE_LOCAL_SIZE",
    "PALS_LOCAL_SIZE",
    "LOCAL_WORLD_SIZE",
)
# Tells a task its place on the node, and no task how many there are.
_LOCAL_PLACE_ONLY = "PALS_LOCAL_RANKID"
_MANY = 2


@dataclass(frozen=True, kw_only=True)
class JobStep:
    """What this launch is one of.

    Attributes:
        tasks_on_node: Launches on this node, this one among them; 2 stands for more than one of unknown number.
        nodes: Nodes on which there are some.
    """

    tasks_on_node: int = 1
    nodes: int = 1


def read_job_step(environment: Mapping[str, str]) -> JobStep:
    """Read the variables that Slurm, Flux, PALS, launchers of MPI, and torchrun set for a task."""
    tasks = max((_number(environment.get(name)) for name in _LOCAL_SIZES), default=1)
    if "PALS_LOCAL_SIZE" not in environment and _LOCAL_PLACE_ONLY in environment:
        tasks = max(tasks, _MANY)
    nodes = max(_number(environment.get(name)) for name in ("SLURM_STEP_NUM_NODES", "FLUX_JOB_NNODES"))
    # Of the step, not of the job: a batch script is one process, however many tasks its job may have.
    tasks = max(
        tasks, _slurm_tasks(environment.get("SLURM_STEP_TASKS_PER_NODE", ""), environment.get("SLURM_NODEID"))
    )
    if "FLUX_TASK_LOCAL_ID" in environment:
        tasks = max(tasks, -(-_number(environment.get("FLUX_JOB_SIZE")) // nodes))
    # Others than torchrun mean by WORLD_SIZE what they like.
    torchrun = environment.get("WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environment else None
    world = _number(environment.get("OMPI_COMM_WORLD_SIZE") or torchrun)
    return JobStep(tasks_on_node=tasks, nodes=max(nodes, -(-world // tasks)))


def _slurm_tasks(text: str, node: str | None) -> int:
    """Return the tasks on this node from Slurm's ``2(x3),1``: two on each of three nodes, then one."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    place = int(node) if node and node.isdigit() else 0
    return counts[place] if place < len(counts) else max(counts, default=1)


def _number(text: str | None) -> int:
    return max(int(text), 1) if text and text.isdigit() else 1
