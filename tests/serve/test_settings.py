"""`hub.yaml`."""

from __future__ import annotations

import pytest

from bundler.errors import ManifestError
from bundler.serve.source import RepoKey
from bundler.serve.sources.settings import HubSettings


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
    with pytest.raises(ManifestError) as caught:
        HubSettings.parse(
            """\
version: 2
rename: {}
renames:
  a/b/c: org/model
  old: datasets/org/new
gated:
  org/secret: hf_token
tags:
  org/model: {v1: dev, "a/../b": main}
branches:
  org/model: {main: x, other: ../outside}
""",
            source="hub.yaml",
        )
    for fault in [
        "rename: unknown key",
        "version: expected 1",
        "renames.a/b/c: expected a repo",
        "renames.old: a model cannot become a dataset",
        "gated.org/secret: expected a list",
        "tags.org/model.v1: no branch 'dev'",
        "tags.org/model.a/../b: expected the name",
        "branches.org/model.main: the repo's own folder is main",
        "branches.org/model.other: '../outside'",
    ]:
        assert fault in str(caught.value)


@pytest.mark.parametrize("text", ["renames: [", "- a\n", "a: !!python/name:os.system\n", ""])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=r"^hub\.yaml"):
        HubSettings.parse(text, source="hub.yaml")
