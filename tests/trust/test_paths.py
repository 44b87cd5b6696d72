"""Where the signature of a bundle stands: beside it, by its own name or by that of its volumes."""

from __future__ import annotations

from pathlib import Path

from bundler.make.split import split_bundle
from bundler.trust.paths import signature_path
from tests.support.bundles import locked_repo, tiny_bundle


def test_volumes_have_one_signature_and_a_bundle_that_is_named_as_one_its_own(tmp_path: Path) -> None:
    content = {"w": bytes(range(256)) * 64}
    packed = tiny_bundle(tmp_path, locked_repo("org/m", content), contents=content.values())
    one_piece = packed.rename(tmp_path / "model.2024")
    assert signature_path(one_piece) == tmp_path / "model.2024.sig"
    volumes = split_bundle(one_piece, 9_000, tmp_path / "cut.tar.zst").volumes
    for place in (volumes[0], volumes, tmp_path / "cut.tar.zst"):
        assert signature_path(place) == tmp_path / "cut.tar.zst.sig"
    # Of what is not there yet, or is no bundle's any more, the name is all that there is.
    assert signature_path(tmp_path / "none.tar.zst.001") == tmp_path / "none.tar.zst.sig"
