"""`hub.yaml`."""

from __future__ import annotations

import pytest

from bundler.errors import ManifestError
from bundler.serve.source import RepoKey
from bundler.serve.sources.settings import HubSettings, InvalidHubSettingsError
from bundler.text.fault import Fault


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


def test_every_fault_is_named_with_its_place() -> None:
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
    assert caught.value.faults == (
        Fault("version", 1, "expected 1, the only version this program reads, found a number (2)"),
        Fault("rename", 2, "unknown key; did you mean renames?"),
        Fault("renames.a/b/c", 4, "expected a repo such as org/name or datasets/org/name, found 'a/b/c'"),
        Fault("renames.old", 5, "a model cannot become a dataset"),
        Fault("renames.older", 6, "old is itself an old name; give the last one"),
        Fault("gated.org/secret", 8, 'expected a list, found text; write ["hf_token"]'),
        Fault("gated", 9, "expected a key that is text, found '1.0'; quote it"),
        Fault("tags.org/model", 11, "expected a key that is text, found '1.0'; quote it"),
        Fault("tags.org/model.a/../b", 11, "expected the name of a branch or tag, found 'a/../b'"),
        Fault("tags.org/model.v1", 11, "no branch 'dev' of this repo"),
        Fault(
            "branches.org/model.other",
            13,
            "'../outside' has an empty, '.' or '..' segment; expected a relative path such as 'a/b.json'",
        ),
        Fault("branches.org/model.main", 13, "the repo's own folder is main"),
    )
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("text", ["renames: [", "- a\n", "a: !!python/name:os.system\n", ""])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=r"^hub\.yaml"):
        HubSettings.parse(text, source="hub.yaml")
