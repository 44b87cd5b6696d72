"""Kill a process with SIGKILL at every file system step of publishing a checkpoint (see `tests.support.killing`)."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from infini_llama.run_folder.checkpoints import clear_incoming, find_latest, is_complete, list_checkpoints
from tests.infini_llama.run_folder.test_checkpoints import published
from tests.support.killing import in_child

WEIGHTS = b"w" * 100_000


def main(scratch: Path) -> None:
    """Publish a first checkpoint, a second that replaces it, and one in place of a damaged one of the same step."""
    seen: dict[str, set[int]] = {}
    steps = 0
    for case, step in (("first", 1), ("next", 2), ("again", 1)):
        at, seen[case] = 0, set()
        while True:
            output_dir = scratch / "run"
            shutil.rmtree(output_dir, ignore_errors=True)
            output_dir.mkdir(parents=True)
            if case != "first":
                old = published(output_dir, 1)
            if case == "again":
                (old / "model.safetensors").write_bytes(b"cut")

            def work(step: int = step, output_dir: Path = output_dir) -> None:
                clear_incoming(output_dir)
                published(output_dir, step, keep=1, content=WEIGHTS)

            if in_child(work, kill_at=at) == 0:
                break
            found = find_latest(output_dir)
            assert found is not None or case != "next", (
                f"step {at}: the old checkpoint is gone, the new one not there"
            )
            seen[case].add(0 if found is None else int(found.name.partition("-")[2]))
            if found is not None and found.name == f"checkpoint-{step}":
                assert (found / "model.safetensors").read_bytes() == WEIGHTS
            in_child(work, kill_at=None)
            assert [path.name for path in list_checkpoints(output_dir)] == [f"checkpoint-{step}"]
            assert is_complete(output_dir / f"checkpoint-{step}")
            at += 1
        steps += at
    print(json.dumps({"steps": steps, "seen": {case: sorted(found) for case, found in seen.items()}}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
