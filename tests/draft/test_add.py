"""`bundle init` and `bundle add`, and what `bundle fetch` says to who names a repo."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.plan.manifest import Entry, Manifest
from tests.serve.conftest import write_tree
from tests.support.hub import RunningHub
from tests.support.process import run, script


def bundle(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def entry(path: Path) -> Entry:
    (found,) = Manifest.load(path).entries
    return found


def test_a_manifest_is_begun_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "Mine v2.yaml"
    assert bundle("init", "-o", path).exit_code == 0
    begun = path.read_text()
    assert Manifest.parse(begun, may_be_empty=True).name == "mine-v2"
    words = ["gpt2", "-o", path, "--as", "tokenizer", "--alias", "openai-gpt2", "--revision", "v1"]
    added = bundle("add", *words)
    assert added.exit_code == 0, added.output
    assert path.read_text().startswith(begun)
    assert (entry(path).kind, entry(path).revision, entry(path).aliases) == ("tokenizer", "v1", ("openai-gpt2",))
    assert "has all of it" in bundle("add", *words).stderr


def test_a_name_that_no_bundle_can_have_is_refused_and_one_like_a_number_is_not(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert bundle("init", "-o", path, "--name", "No Name").exit_code == 3
    assert not path.exists()
    assert bundle("init", "-o", path, "--name", "1.0").exit_code == 0
    assert bundle("add", "org/a", "-o", path, "--as", "model").exit_code == 0
    assert Manifest.load(path).name == "1.0"


def test_a_manifest_that_is_there_is_not_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("kept")
    assert bundle("init", "-o", path).exit_code == 2
    assert path.read_text() == "kept"


def test_a_dataset_is_added_as_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    words = ["--as", "dataset", "--config", "en", "--config", "de", "--include", "data/"]
    assert bundle("add", "org/data", "-o", path, *words).exit_code == 0
    assert (entry(path).configs, entry(path).allow_patterns) == (("en", "de"), ("data/",))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["https://huggingface.co/org/a", "--as", "model"], 2),
        (["org/a", "org/b", "--as", "model", "--alias", "x"], 2),
        (["org/a", "--as", "model", "--revision", "1234abcd"], 3),
        (["org/a", "--as", "model", "--config", "en"], 3),
        (["org/a", "--as", "model", "--name", "No Name"], 3),
    ],
)
def test_what_no_manifest_can_have_is_refused_and_nothing_is_written(
    tmp_path: Path, words: list[str], code: int
) -> None:
    path = tmp_path / "mine.yaml"
    done = bundle("add", *words, "-o", path)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    assert not path.exists()


def test_the_hub_says_what_a_name_is(tmp_path: Path) -> None:
    repos = write_tree(
        tmp_path / "repos",
        {
            "org/model/config.json": b"{}",
            "org/model/model.safetensors": b"\2\0\0\0\0\0\0\0{}",
            "org/words/tokenizer.json": b"{}",
            "datasets/org/data/a.csv": b"x\n1\n",
            "org/twice/config.json": b"{}",
            "datasets/org/twice/a.csv": b"x\n1\n",
            "hub.yaml": b"version: 1\nrenames: {old: org/model}\n",
        },
    )
    path = tmp_path / "mine.yaml"
    with RunningHub(repos) as hub:
        env = hub.environment(tmp_path / "hf")

        def add(*words: str) -> int:
            return run([script("bundle"), "add", *words, "-o", path], env=env, check=False).returncode

        assert add("old", "org/words", "org/data") == 0
        assert {(e.kind, e.repo_id, e.aliases) for e in Manifest.load(path).entries} == {
            ("model", "org/model", ("old",)),
            ("tokenizer", "org/words", ()),
            ("dataset", "org/data", ()),
        }
        before = path.read_text()
        assert add("org/twice") == 2
        assert add("org/absent") == 5
        assert path.read_text() == before


def test_who_fetches_a_name_is_told_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = bundle("fetch", "openai-community/gpt2")
    assert done.exit_code == 3
    assert "bundle add openai-community/gpt2 -o gpt2.yaml && bundle fetch gpt2.yaml" in done.stderr
    (tmp_path / "train.yaml").touch()
    assert "train.yaml" in bundle("fetch", "train.yml").stderr


def test_an_address_is_added_under_files(tmp_path: Path) -> None:
    path, url = tmp_path / "mine.yaml", "https://example.org/m/weights.pth"
    words = ["org/a", url, "-o", path, "--as", "model", "--into", "torch_hub"]
    added = bundle("add", *words)
    assert added.exit_code == 0, added.output
    manifest = Manifest.load(path)
    assert [(one.url, one.into) for one in manifest.files] == [(url, "torch_hub")]
    assert [one.repo_id for one in manifest.entries] == ["org/a"]
    before = path.read_text()
    assert "has all of it" in bundle("add", *words).stderr and path.read_text() == before
    for wrong in (
        ["http://example.org/x.bin"],
        ["https://example.org/"],
        ["https://me:secret@example.org/x.bin"],
        ["org/b", "--as", "model", "--into", "tiktoken"],
    ):
        assert bundle("add", *wrong, "-o", path).exit_code == 2
    assert path.read_text() == before
