"""Configurations that a dataset's card lists, and what is said of others, before anything is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import ManifestError
from bundler.hub.connection.client import HubClient
from bundler.hub.selection.card import declared_configs, read_card, unknown_configs
from bundler.hub.selection.resolve import resolve
from bundler.plan.lock import Card
from bundler.plan.manifest import Entry, Manifest
from tests.support.hub import RunningHub
from tests.support.messages import Told
from tests.support.remote import write_repo

CARD = b"""---
license: mit
configs:
- config_name: wikitext-2-v1
  data_files: [{split: train, path: two.jsonl}]
- config_name: wikitext-103-v1
  data_files: [{split: train, path: many.jsonl}]
---
# Text
"""


def entry(*configs: str) -> Entry:
    return Entry(kind="dataset", repo_id="org/text", configs=configs, path="datasets[0]")


def test_the_names_are_those_of_the_card() -> None:
    assert declared_configs(CARD) == ("wikitext-2-v1", "wikitext-103-v1")
    assert unknown_configs(entry("wikitext-103-v1", "wikitext-2-v1"), CARD) == []


def test_an_unknown_name_is_told_with_close_ones() -> None:
    assert unknown_configs(entry("wikitext-2-v1", "wikitext-2"), CARD) == [
        "datasets[0].configs: org/text has no configuration 'wikitext-2'; its card lists wikitext-2-v1, wikitext-103-v1"
    ]


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"# no metadata\n",
        b"---\nlicense: mit\n---\n",
        b"---\nconfigs: [unfinished\n---\n",
        b"---\nconfigs: some\n---\n",
        b"---\nconfigs: [1, {other: x}]\n---\n",
        b"---\nconfigs:\n- config_name: a\n",
        b"\xff\xfe",
        b"---\n" + b"[" * 100_000 + b"\n---\n",
    ],
    ids=lambda card: card[:20].decode("latin-1"),
)
def test_a_card_that_lists_none_forbids_none(card: bytes) -> None:
    assert unknown_configs(entry("anything"), card) == []


@pytest.mark.parametrize(("extra", "refused"), [("", True), ("    ignore_patterns: [README.md]\n", False)])
def test_a_lock_is_refused_for_a_configuration_that_the_card_does_not_list(
    tmp_path: Path, extra: str, refused: bool, told: Told
) -> None:
    files = {"README.md": CARD, "two.jsonl": b"{}\n", "many.jsonl": b"{}\n"}
    write_repo(tmp_path / "datasets" / "org" / "text", files)
    manifest = Manifest.parse(
        f"version: 1\nname: m\ndatasets:\n  - repo_id: org/text\n    configs: [wikitext-2]\n{extra}"
    )
    with RunningHub(tmp_path) as hub:
        client = HubClient(endpoint=hub.endpoint)
        if not refused:
            assert resolve(manifest, client).lock.repos[0].configs == ("wikitext-2",)
            return
        with pytest.raises(ManifestError) as caught:
            resolve(manifest, client)
        assert caught.value.exit_code == 3
        told("resolve", "a configuration that the card does not list", caught.value, endpoint=hub.endpoint)
        # Before anything but the card was downloaded.
        assert [r.path.split("/")[-1] for r in hub.asked("GET") if "/resolve/" in r.path] == ["README.md"]


@pytest.mark.parametrize(
    ("metadata", "licenses"),
    [
        (b"license: Apache-2.0", ("apache-2.0",)),
        (b"license: [mit, cc-by-4.0, mit]", ("cc-by-4.0", "mit")),
        (b"license: other\nlicense_name: MIT", ("LicenseRef-MIT",)),
        (b"license: other\nlicense_name: my own: terms", ()),
        (b"license: other\nlicense_name: 'my own: terms'", ("LicenseRef-my-own-terms",)),
        (b"license: other", ("other",)),
        (b"license: {name: mit}", ()),
        (b"license: [3, null, '', ' mit ']", ("mit",)),
        # A lock could not hold these, or a terminal would obey them.
        (b'license: ["\\ud800", "\\e[2J", "\\u202e"]', ()),
        (b"license: " + b"x" * 201, ()),
        (b"tags: [a]", ()),
        (b"[", ()),
    ],
)
def test_licences_are_the_words_of_the_card(metadata: bytes, licenses: tuple[str, ...]) -> None:
    assert read_card(b"---\n" + metadata + b"\n---\n# Text\n").licenses == licenses


def test_base_models_and_datasets_are_the_words_of_the_card() -> None:
    card = read_card(b"---\nbase_model: org/base\ndatasets:\n- org/b\n- org/a\n---\n")
    assert card == Card(base_models=("org/base",), datasets=("org/a", "org/b"))
    assert read_card(b"") == read_card(b"# No metadata") == Card()


def _name_nine(number: int) -> str:
    return f"*a{number}, " * 9


@pytest.mark.parametrize(
    "metadata",
    [
        "\n".join(["a0: &a0 {k: v}", *(f"a{n}: &a{n} {{<<: [{_name_nine(n - 1)}]}}" for n in range(1, 20))]),
        "x: " + "[" * 400_000,
        "x: " + "[" * 200_000 + "]" * 200_000,
    ],
    ids=["merges of merges", "open brackets", "nested brackets"],
)
def test_metadata_that_would_take_for_ever_states_nothing(metadata: str) -> None:
    assert read_card(f"---\nlicense: mit\n{metadata}\n---\n".encode()) == Card()
