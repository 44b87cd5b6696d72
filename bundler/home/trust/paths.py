"""Where a home keeps signatures, and the highest release of each name."""

from __future__ import annotations

from pathlib import Path

from bundler.home.generation import generation_path
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.trust.paths import SIGNATURE_SUFFIX

RELEASES_FOLDER = f"{BUNDLES_FOLDER}/releases"


def kept_signature_path(hf_home: Path, name: str, digest: str) -> Path:
    """Return where the signature of a generation stands: beside its receipt."""
    return generation_path(hf_home, name, digest).with_suffix(SIGNATURE_SUFFIX)


def release_path(hf_home: Path, name: str) -> Path:
    """Return where the highest release of a name is remembered."""
    return hf_home / RELEASES_FOLDER / f"{name}.json"
