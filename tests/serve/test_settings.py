"""`hub.yaml`."""

from __future__ import annotations

import pytest

from bundler.errors import ManifestError
from bundler.serve.source import RepoKey
from bundler.serve.sources.settings import HubSettings, InvalidHubSettingsError
from tests.support.messages import Told


def test_settings_are_read() -> None:
    settings = HubSettings.parse(
        """\
version: 1
renames:
  gpt2: openai-community/gpt2
  datasets/wikitext: datasets/Salesforce/wikitext
gated:
  org/secret: [one, two]
  org/closed: []
tags:
  org/model: {"1.0": main, v2: dev}
branches:
  org/model: {dev: _branches/dev}
""",
        source="hub.yaml",
    )
    model = RepoKey("model", "org/model")
    assert settings == HubSettings(
        renames={
            RepoKey("model", "gpt2"): RepoKey("model", "openai-community/gpt2"),
            RepoKey("dataset", "wikitext"): RepoKey("dataset", "Salesforce/wikitext"),
        },
        gated={
            RepoKey("model", "org/secret"): frozenset({"one", "two"}),
            RepoKey("model", "org/closed"): frozenset(),
        },
        tags={model: {"1.0": "main", "v2": "dev"}},
        branches={model: {"dev": "_branches/dev"}},
    )


def test_every_fault_is_named_with_its_place(told: Told) -> None:
    with pytest.raises(InvalidHubSettingsError) as caught:
        HubSettings.parse(
            """\
version: 2
rename: {}
renames:
  a/b/c: org/model
  old: datasets/org/new
  older: old
gated:
  org/secret: hf_token
  1.0: [token]
tags:
  org/model: {v1: dev, "a/../b": main, 1.0: main}
branches:
  org/model: {main: x, other: ../outside}
""",
            source="hub.yaml",
        )
    assert [(fault.path, fault.line) for fault in caught.value.faults] == [
        ("version", 1),
        ("rename", 2),
        ("renames.a/b/c", 4),
        ("renames.old", 5),
        ("renames.older", 6),
        ("gated.org/secret", 8),
        ("gated", 9),
        ("tags.org/model", 11),
        ("tags.org/model.a/../b", 11),
        ("tags.org/model.v1", 11),
        ("branches.org/model.other", 13),
        ("branches.org/model.main", 13),
    ]
    assert caught.value.exit_code == 3
    told("serve", "a hub.yaml with a fault in each place", caught.value)


@pytest.mark.parametrize("text", ["renames: [", "- a\n", "a: !!python/name:os.system\n", ""])
def test_what_is_no_mapping_is_refused(text: str, told: Told) -> None:
    with pytest.raises(ManifestError) as caught:
        HubSettings.parse(text, source="hub.yaml")
    assert caught.value.exit_code == 3
    told("serve", f"a hub.yaml of {text!r}", caught.value)
