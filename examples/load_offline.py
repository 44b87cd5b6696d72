"""Install a bundle, verify it, and load its tokenizers from the verified folders, without a network.

    python examples/load_offline.py demo.tar.zst hf-home

`enforce_offline` comes before the import of transformers, which reads its settings when it is imported.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bundler


def main(bundle_file: Path, hf_home: Path) -> None:
    """Install, verify, and encode a sentence with each tokenizer."""
    bundler.verify_files(bundle_file).raise_if_failed()
    installed = bundler.install(bundle_file, hf_home).bundle
    print(f"installed {installed.name} {installed.digest}")

    # Verifies what is installed, and shuts the network for this process and its children.
    bundler.enforce_offline(installed.name, hf_home=hf_home)

    from transformers import AutoTokenizer

    for repo in installed.lock.repos:
        if repo.kind == "tokenizer":
            folder = installed.snapshot_path(repo.repo_id)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            # By name too, as code that knows nothing of bundles does.
            assert AutoTokenizer.from_pretrained(repo.repo_id).get_vocab() == tokenizer.get_vocab()
            print(f"{repo.repo_id}: {tokenizer('Attention with a memory.')['input_ids']}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except bundler.BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
