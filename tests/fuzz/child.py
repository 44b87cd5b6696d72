"""Fuzzes one target in this process, until it has found something or its time is over.

    python -m tests.fuzz.child TARGET CORPUS_FOLDER [OPTIONS OF LIBFUZZER]

Instead of a folder a file may be given: it is run once, to see again what was found.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bundler"]):
    from tests.fuzz.known import make_target

# Beyond what the interpreter and the modules take before the first input.
MOST_MIB = 300
MOST_SECONDS = 5


def main() -> None:
    """Run the target that the command line names."""
    name, corpus, *options = sys.argv[1:]
    # In memory: emptying a file takes milliseconds on some disks.
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=place) as temporary:
        folder = Path(temporary)
        target = make_target(name, folder)
        base_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"base_rss_mb: {base_mib}", file=sys.stderr, flush=True)
        limits = [f"-rss_limit_mb={base_mib + MOST_MIB}", f"-timeout={MOST_SECONDS}", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], corpus, *limits, *options], lambda data: target(data, folder))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
