"""The old way to start a training: `python run_direct_training.py [--offline-mode] --raw-data PATH --config-file FILE`.

Only the words of the old command are translated here; everything else is passed on to `infini-llama train`, which does
the work and explains its options with `--help`:

    --config-file FILE    is  --config FILE
    no --output-dir       is  --output-dir runs/NAME, after the configuration FILE
    --offline-mode        the network is shut before any library is imported; add --bundle NAME to have it all verified
    neither of these two  is  --online: the Hub may be asked, and a proxy that stands in the way is named at once

It runs under torchrun as it stands: `torchrun --nproc-per-node 8 run_direct_training.py --offline-mode ...`.

It is for clones: in a wheel there is `infini-llama` alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

try:
    from infini_llama.cli import main
except ModuleNotFoundError as error:
    sys.stderr.write(
        f"error: {sys.executable} lacks the package {error.name}\n"
        "hint: pip install -c constraints.txt '.[train]' in this folder, or use a Python that has it\n"
    )
    # A package is missing, as in bundler.errors, which may be out of reach here.
    sys.exit(13)


def translate(words: list[str]) -> list[str]:
    """Return the old command's words as those of `infini-llama train`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-file", "--config", dest="config")
    parser.add_argument("--output-dir")
    parser.add_argument("--offline-mode", action="store_true")
    parser.add_argument("--bundle")
    known, others = parser.parse_known_args(words)
    result = ["train"]
    if known.config is not None:
        result += ["--config", known.config]
        result += ["--output-dir", known.output_dir or str(Path("runs") / Path(known.config).stem)]
    elif known.output_dir is not None:
        result += ["--output-dir", known.output_dir]
    if known.bundle is not None:
        result += ["--bundle", known.bundle]
    if known.offline_mode:
        result.append("--offline-mode")
    elif known.bundle is None and "--online" not in others:
        result.append("--online")
    return [*result, *others]


if __name__ == "__main__":
    main(translate(sys.argv[1:]), prog_name="run_direct_training.py")
