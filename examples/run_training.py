"""Run a training script on an installed bundle, with the network shut.

    python examples/run_training.py hf-home demo train.py --epochs 3

The script is any Python program that loads by name: AutoTokenizer.from_pretrained("openai-community/gpt2"). It gets the
offline environment; whatever it tries on the network is refused, counted, and named with its code line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bundler


def main(hf_home: Path, name: str, script: list[str]) -> int:
    """Verify the bundle, run the script on it, and return its exit code; 11 if it tried the network."""
    report = bundler.run_offline(
        [sys.executable, *script],
        names=[name],
        hf_home=hf_home,
        on_note=lambda note: print(note, file=sys.stderr),
    )
    print(report.text(), file=sys.stderr)
    return 11 if report.completed.attempts else report.completed.exit_code


if __name__ == "__main__":
    try:
        code = main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    except bundler.BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
