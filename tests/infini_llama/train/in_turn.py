"""A rank that torchrun starts, and that runs several commands in turn: it imports torch once for all.

torchrun … -m tests.infini_llama.train.in_turn '[["train", …], ["train", …]]'
"""

from __future__ import annotations

import contextlib
import json
import os
import sys


def main(commands: list[list[str]]) -> int:
    """Run commands, each in a process group of its own; return the exit code of the first that fails, or 0."""
    # Some libraries print when they are imported, and stdout is for the summaries.
    with contextlib.redirect_stdout(sys.stderr):
        from tests.infini_llama.forks import fork_command

    for number, words in enumerate(commands, start=1):
        # torchrun's own store knows the group of one command.
        port = str(int(os.environ["MASTER_PORT"]) + number)
        with fork_command(words, {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": port}) as fork:
            end = fork.end()
        sys.stdout.write(end.stdout)
        sys.stderr.write(end.stderr)
        if end.returncode:
            return end.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
