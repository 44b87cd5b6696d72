"""How many threads to use where the user names no number."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return the cores that this process may run on: what `taskset`, a cgroup's cpuset or Slurm left it."""
    return len(os.sched_getaffinity(0))
