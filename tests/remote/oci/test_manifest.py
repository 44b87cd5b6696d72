"""What a registry says is read as what it should be, or refused without being repeated at length."""

from __future__ import annotations

import json

import pytest

from bundler.errors import FormatError
from bundler.remote.oci.manifest import Manifest
from bundler.remote.oci.types import BUNDLE_DIGEST

LONG = "\n\x1b[31mrun this\n" * 1000
DIGEST = f"sha256:{'a' * 64}"


def manifest(**value: object) -> Manifest:
    return Manifest.parse(json.dumps(value).encode(), DIGEST, "oci://host/a:1")


@pytest.mark.parametrize("digest", [LONG, "sha256:a", 7, ["x"]])
def test_a_bundle_digest_that_is_none_is_refused_in_a_line(digest: object) -> None:
    with pytest.raises(FormatError) as caught:
        manifest(annotations={BUNDLE_DIGEST: digest}).find_bundle_digest("oci://host/a:1")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_a_bundle_digest_is_what_is_said_of_it() -> None:
    assert manifest(annotations={BUNDLE_DIGEST: DIGEST}).find_bundle_digest("a") == DIGEST
    assert manifest(annotations={}).find_bundle_digest("a") is None


def test_the_types_of_layers_that_are_no_bundle_are_told_in_a_line() -> None:
    layers = [{"mediaType": LONG, "digest": DIGEST, "size": 1}] * 2
    with pytest.raises(FormatError) as caught:
        manifest(layers=layers).find_bundle("oci://host/a:1")
    assert "\n" not in caught.value.message
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 500
