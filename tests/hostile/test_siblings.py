"""What is nested without end, of another shape, half a character or beyond any number, in whatever is read.

Bundles, locks, manifests, policies, receipts and signatures have tests of their own; these are the others: cards,
indexes of shards, notes of launches, listings of the Hub's client, the log of a home, statements, `hub.yaml`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.errors import BundleError
from bundler.home.common.journal import found_path, read_found
from bundler.home.common.trees import list_present
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.log import LOG_NAME, read_log
from bundler.home.trust.paths import release_path
from bundler.home.trust.release import read_release
from bundler.hub.selection.card import declared_configs, read_card
from bundler.hub.selection.companions import base_model
from bundler.make.proof.headers import index_faults
from bundler.offline.guard.attempts import read_attempts
from bundler.offline.launch.attempts_folder import read_inner, remove_folder
from bundler.serve.sources.settings import HubSettings
from bundler.text.wording import on_screen
from bundler.trust.dsse.sigstore_bundle import SigstoreBundle
from bundler.trust.ssh.allowed_signers import NotAListOfSignersError, read_allowed_signers
from bundler.trust.statement import Statement
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle

VALUES = {
    "nothing": "",
    "null": "null",
    "list": "[1]",
    "object": "{}",
    "number": "3",
    "text": '"x"',
    "half a character": '"\\ud800"',
    "control": '"\\u001b[2J"',
    "bidirectional": '"\\u202e"',
    "2**63": str(2**63),
    "-2**63": str(-(2**63) - 1),
    "infinity": "1e999",
    "digits": "9" * 5000,
    "nested lists": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "not UTF-8": "\udcff",
}
TAGS = ["!!bool x", "!!int ''", "!!float ''", "!!timestamp x", "!!binary x", "!!set {[a]}", "!!omap 1", "&x [*x]"]


def _with(value: str, *keys: str) -> bytes:
    """A document with a value at a key, below others."""
    for key in reversed(keys):
        value = f"{{{json.dumps(key)}: {value}}}"
    return value.encode("utf-8", "surrogateescape")


def _at_every_level(value: str, *keys: str) -> list[bytes]:
    return [_with(value, *keys[:count]) for count in range(len(keys) + 1)]


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_an_index_of_shards_is_one_or_a_fault(tmp_path: Path, value: str) -> None:
    index = tmp_path / "w.safetensors.index.json"
    for content in _at_every_level(value, "weight_map", "a"):
        index.write_bytes(content)
        index_faults(index, {"x": {}})


@pytest.mark.parametrize("value", [*VALUES.values(), *TAGS], ids=[*VALUES, *TAGS])
@pytest.mark.parametrize("key", ["license", "base_model", "configs", "other"])
def test_a_card_says_something_or_nothing(key: str, value: str) -> None:
    for text in (value, f"[{value}]", f"{key}: {value}", f"{key}: [{{config_name: {value}}}]", f"? {value}\n: 1"):
        card = f"---\n{text}\n---\n".encode("utf-8", "surrogateescape")
        assert all(claim.isprintable() for claim in read_card(card).licenses)
        declared_configs(card)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_an_adapter_names_a_repo_or_none(value: str) -> None:
    for content in _at_every_level(value, "base_model_name_or_path"):
        assert base_model(content) in (None, "x")


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("key", ["event", "target", "pid", "argv", "line", "wanted"])
def test_notes_of_a_launch_that_its_program_wrote_are_attempts(tmp_path: Path, key: str, value: str) -> None:
    note = {"event": "connect", "target": "x", "pid": 1, "argv": ["a"], "wanted": None}
    line = {"file": "f", "line": 1, "code": "c"}
    changed = json.dumps({**note, "line": line, key: "HERE"}).replace('"HERE"', value)
    (tmp_path / "\u00b2.jsonl").write_bytes(changed.encode("utf-8", "surrogateescape"))
    for attempt in read_attempts(tmp_path):
        assert attempt.where and isinstance(attempt.pid, int)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("key", ["count", "ended", "denials", "pid", "argv"])
def test_figures_of_an_inner_launch_that_its_program_wrote_are_some(tmp_path: Path, key: str, value: str) -> None:
    inner = tmp_path / "launch-x"
    inner.mkdir()
    denial = {"call": "connect", "target": "x", "pid": 1, "argv": ["a"], "count": 1}
    figures = {"count": 1, "ended": True, "denials": [denial], "pid": 1, "argv": ["a"]}
    for written in ({**figures, key: "HERE"}, {**figures, "denials": [{**denial, key: "HERE"}]}):
        text = json.dumps(written).replace('"HERE"', value)
        (inner / "launch.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        found = read_inner(tmp_path)
        assert found.count >= 0 and all(isinstance(one.target, str) for one in found.denials)


def test_folders_without_end_among_notes_are_passed_over_and_removed(tmp_path: Path) -> None:
    import os

    folder, here = tmp_path / "notes", Path.cwd()
    folder.mkdir()
    os.chdir(folder)
    for _ in range(1500):
        Path("launch-x").mkdir()
        os.chdir("launch-x")
    os.chdir(here)
    assert read_attempts(folder) == []
    assert read_inner(folder).count == 64
    remove_folder(folder)
    assert not folder.exists()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"a.txt": b"a"}), contents=[b"a"])
    install(bundle, tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_home_with_other_words_in_it_is_told_of(home: Path, value: str) -> None:
    [tree] = home.glob("hub/*/trees/*.json")
    for content in _at_every_level(value, "files", "a.txt", "size"):
        tree.write_bytes(content)
        list_present(home, "hub/models--org--m", COMMIT)
        assert not Home(home).bundle("tiny").verify().ok
    log = home / "bundles" / LOG_NAME
    before = len(read_log(home))
    with log.open("ab") as stream:
        stream.writelines(content + b"\n" for content in _at_every_level(value, "at"))
    assert len(read_log(home)) == before
    for content in _at_every_level(value, "looked"):
        found_path(home, "tiny").parent.mkdir(parents=True, exist_ok=True)
        found_path(home, "tiny").write_bytes(content)
        assert read_found(home, "tiny") is None


READERS: dict[str, Callable[[bytes], object]] = {
    "statement": lambda content: Statement.loads(content, source="x"),
    "sigstore bundle": lambda content: SigstoreBundle.loads(content, source="x"),
    "hub.yaml": lambda content: HubSettings.parse(content.decode("utf-8", "surrogateescape"), source="x"),
}
KEYS = {
    "statement": [
        ("_type",),
        ("subject", "name"),
        ("predicate", "sequence"),
        ("predicate", "proof", "versions", "x"),
    ],
    "sigstore bundle": [
        ("verificationMaterial", "publicKey", "hint"),
        ("dsseEnvelope", "signatures"),
        ("mediaType",),
    ],
    "hub.yaml": [("refs", "org/m", "main"), ("gated",), ("tokens", "x")],
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", READERS)
def test_what_is_read_strictly_is_refused_on_a_screen(name: str, value: str) -> None:
    for keys in KEYS[name]:
        for content in _at_every_level(value, *keys):
            try:
                READERS[name](content)
            except BundleError as error:
                shown = on_screen(str(error))
                assert all(line.isprintable() for line in shown.split("\n")) and len(shown) < 12_000


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_release_is_read_or_said_to_be_damaged(tmp_path: Path, value: str) -> None:
    path = release_path(tmp_path, "prod")
    path.parent.mkdir(parents=True)
    for content in _at_every_level(value, "sequence"):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="expected the highest release"):
            read_release(tmp_path, "prod")


@pytest.mark.parametrize("word", ["\ud800", "\x1b[2J", "\u202e", "a@b ssh-ed25519 " + "A" * 9999, 'a "b', "\0"])
def test_a_list_of_signers_names_the_line(word: str) -> None:
    with pytest.raises(NotAListOfSignersError) as caught:
        read_allowed_signers(f"# a\n{word}\n")
    assert [line for line, _ in caught.value.faults] == [2]
