"""A delta installs wherever its contents are: in a generation that is kept for a rollback too."""

from __future__ import annotations

from pathlib import Path

from bundler.home.installation.install import install
from bundler.make.delta import Base
from bundler.make.pack import pack
from tests.support.bundles import OTHER_COMMIT, blob_store, lock_of, locked_repo, tiny_bundle

ARROW = "default/0.0.0/h/d.arrow"


def test_a_delta_finds_content_in_a_generation_that_is_not_the_current_one(tmp_path: Path) -> None:
    home, contents = tmp_path / "home", [b"weights", b"d", b"arrow"]
    data = locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared={ARROW: b"arrow"})
    first = tiny_bundle(tmp_path / "1", locked_repo("org/m", {"w": b"weights"}), data, contents=contents)
    install(first, home)
    install(tiny_bundle(tmp_path / "2", locked_repo("org/n", {"n": b"n"}), contents=[b"n"]), home)
    # The repo was renamed: its content is wanted under another name.
    third = lock_of(locked_repo("org/new", {"w": b"weights"}, commit=OTHER_COMMIT), data)
    delta = tmp_path / "third.delta.tar.zst"
    pack(third, blob_store(tmp_path / "store", contents), delta, base=Base.open(first))
    assert install(delta, home).bundle.verify().ok
