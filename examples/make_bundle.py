"""Make a bundle from a manifest, where there is a network.

    python examples/make_bundle.py manifests/demo.yaml demo.tar.zst

HF_ENDPOINT, HF_TOKEN and proxies are honoured as huggingface_hub honours them. What was downloaded stays in the store
(BUNDLE_CACHE), so that a second run only hashes it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bundler


class Printer(bundler.Observer):
    """Prints what begins, and what a person should know."""

    def begin(self, stage: str, text: str, size_bytes: int = 0) -> None:
        """Print that a stage begins."""
        print(f"{stage}: {text}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Print something unusual that was dealt with."""
        print(f"note: {text}", file=sys.stderr)

    def warn(self, text: str) -> None:
        """Print what the bundle will lack."""
        print(f"warning: {text}", file=sys.stderr)


def main(manifest: Path, out: Path) -> None:
    """Make the bundle, and print what was proven of it and its digest."""
    made = bundler.make_bundle(manifest, out, observer=Printer())
    for entry in made.proof.entries:
        for line in entry.proven:
            print(f"{entry.repo_id}: {line}")
    print(f"{made.path} {made.digest}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except bundler.BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
