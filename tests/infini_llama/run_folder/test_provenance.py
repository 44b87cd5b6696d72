from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infini_llama.errors import ConfigError
from infini_llama.run_folder.provenance import check_provenance
from tests.infini_llama.run_folder.test_checkpoints import PROVENANCE, published

SETTINGS = {"seed": 0, "model": {"hidden_size": 16}, "training": {"steps": 6, "batch_size": 2}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return published(tmp_path, 1, provenance=replace(PROVENANCE, settings=SETTINGS, data={"sha256": "4"}))


NOW = replace(PROVENANCE, settings=SETTINGS, data={"sha256": "4"})


def test_nothing_is_said_of_what_is_the_same(checkpoint: Path) -> None:
    assert check_provenance(checkpoint, NOW) == []


def test_another_bundle_is_refused_unless_it_is_accepted(checkpoint: Path) -> None:
    other = replace(NOW, bundle_digest="sha256:9")
    with pytest.raises(ConfigError, match=r"trained from the bundle tiny \(sha256:1\), and now .* \(sha256:9\)"):
        check_provenance(checkpoint, other)
    assert check_provenance(checkpoint, other, accept_other_bundle=True) == [
        "bundle digest was 'sha256:1' and is 'sha256:9'"
    ]


def test_no_bundle_where_there_was_one_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="and now there is no bundle"):
        check_provenance(checkpoint, replace(NOW, bundle="", bundle_digest=""))


def test_another_model_is_refused_and_each_key_named(checkpoint: Path) -> None:
    settings = SETTINGS | {"model": {"hidden_size": 32, "segment_length": 8}}
    with pytest.raises(ConfigError) as refusal:
        check_provenance(checkpoint, replace(NOW, settings=settings), accept_other_bundle=True)
    assert "model.hidden_size was 16 and is 32; model.segment_length was None and is 8" in refusal.value.message


def test_what_else_differs_is_named(checkpoint: Path) -> None:
    settings = SETTINGS | {"training": {"steps": 12, "batch_size": 2}}
    now = replace(NOW, settings=settings, data={"sha256": "5"}, world_size=2, versions={"torch": "3"})
    assert check_provenance(checkpoint, now) == [
        "training.steps was 6 and is 12",
        "processes was 1 and is 2",
        "text was '4' and is '5'",
        "torch was None and is '3'",
    ]
