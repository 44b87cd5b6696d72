"""bundler.offline.job_step: what the tasks of a job are told by those who start them."""

from __future__ import annotations

import pytest

from bundler.offline.job_step import JobStep, read_job_step


@pytest.mark.parametrize(
    ("environment", "tasks", "nodes"),
    [
        ({}, 1, 1),
        # A batch script of Slurm is one process.
        ({"SLURM_TASKS_PER_NODE": "4", "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "2"}, 1, 1),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_NODEID": "1", "SLURM_STEP_NUM_NODES": "2"}, 4, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_NODEID": "3", "SLURM_STEP_NUM_NODES": "4"}, 1, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_NODEID": "0", "SLURM_STEP_NUM_NODES": "1"}, 1, 1),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_SIZE": "6"}, 2, 3),
        ({"MPI_LOCALNRANKS": "3"}, 3, 1),
        ({"PALS_LOCAL_RANKID": "0"}, 2, 1),
        ({"PALS_LOCAL_RANKID": "0", "PALS_LOCAL_SIZE": "1"}, 1, 1),
        ({"FLUX_TASK_LOCAL_ID": "0", "FLUX_JOB_SIZE": "8", "FLUX_JOB_NNODES": "2"}, 4, 2),
        ({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}, 2, 2),
        ({"WORLD_SIZE": "4"}, 1, 1),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "two", "SLURM_STEP_TASKS_PER_NODE": "many"}, 1, 1),
    ],
)
def test_tasks_on_this_node_and_nodes_are_read(environment: dict[str, str], tasks: int, nodes: int) -> None:
    assert read_job_step(environment) == JobStep(tasks_on_node=tasks, nodes=nodes)
