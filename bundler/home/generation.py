"""Generations: each bundle that was installed under a name, by its digest, until it is pruned.

    bundles/NAME.json                       the receipt of the current generation: the pointer
    bundles/generations/NAME/DIGEST.json    the receipt of each generation, the current one's too
    bundles/views/NAME/DIGEST/hub/…         its view: refs, snapshots, markers, aliases (`bundler.home.view`)

DIGEST is the first half of the bundle's digest, in hex. A generation is written before the pointer is, and the pointer
moves by one rename. What a generation needs is kept while its receipt is there, whatever the pointer says: a job that
runs on it goes on reading, and a rollback has all that it needs.
"""

from __future__ import annotations

from pathlib import Path

from bundler.errors import NotInstalledError
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.names import is_bundle_name

GENERATIONS_FOLDER = f"{BUNDLES_FOLDER}/generations"
VIEWS_FOLDER = f"{BUNDLES_FOLDER}/views"
# 128 bits: nobody finds a second digest that begins like a given one.
_DIGITS = 32


def short_digest(digest: str) -> str:
    """Return what files and folders of a generation are called: the first half of its digest."""
    return digest.removeprefix("sha256:")[:_DIGITS]


def generation_path(hf_home: Path, name: str, digest: str) -> Path:
    """Return where the receipt of a generation stands."""
    return hf_home / GENERATIONS_FOLDER / name / f"{short_digest(digest)}.json"


def view_path(hf_home: Path, name: str, digest: str) -> Path:
    """Return the root of the view of a generation: a folder like an HF_HOME."""
    return hf_home / VIEWS_FOLDER / name / short_digest(digest)


def stamps_path(hf_home: Path, name: str, digest: str) -> Path:
    """Return where the home's stamps of a generation stand (`bundler.home.stamps`): beside its receipt."""
    return generation_path(hf_home, name, digest).with_suffix(".stamps")


def used_path(hf_home: Path, name: str, digest: str) -> Path:
    """Return the file whose time says when a generation was last launched (`bundler.home.uses`)."""
    return generation_path(hf_home, name, digest).with_suffix(".used")


def check_name(name: str) -> None:
    """Refuse a name that no bundle has.

    Raises:
        NotInstalledError: It has other characters than names of bundles.
    """
    if not is_bundle_name(name):
        raise NotInstalledError(f"{name!r} is no bundle name: expected lower-case letters, digits, '.', '_', '-'")
