"""What was read of a repo becomes the entry that a person would write, where there is one."""

from __future__ import annotations

import pytest

from bundler.draft.record.entries import make_entry, name_files, widen_entry
from bundler.draft.record.gather import RepoUse
from bundler.hub.selection.files import matches
from bundler.plan.manifest import Entry

COMMIT = "a" * 40
PATHS = [
    "README.md",
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "pytorch_model.bin",
    "modeling_x.py",
    "vae/config.json",
    "vae/model.safetensors",
    "unet/model.safetensors",
]


def read(*files: str, repo_type: str = "model") -> RepoUse:
    return RepoUse(
        repo_type=repo_type,  # type: ignore[arg-type]
        repo_id="o/n",
        revision="main",
        commit=COMMIT,
        files=frozenset(files),
    )


@pytest.mark.parametrize(
    ("files", "kind", "patterns", "permissions"),
    [
        (["config.json", "tokenizer.json"], "tokenizer", None, ""),
        (["config.json", "model.safetensors"], "model", ("config.json", "model.safetensors"), ""),
        (["config.json", *[p for p in PATHS if p.endswith("safetensors")]], "model", None, ""),
        (["vae/config.json", "vae/model.safetensors"], "model", ("vae/config.json", "vae/model.safetensors"), ""),
        (["pytorch_model.bin"], "model", ("pytorch_model.bin",), "allow_pickle"),
        (["modeling_x.py", "tokenizer.json"], "tokenizer", None, "trust_remote_code"),
        (["modeling_x.py", "vae/config.json"], "model", ("modeling_x.py", "vae/config.json"), "trust_remote_code"),
    ],
)
def test_the_default_choice_is_taken_where_it_has_no_weights_besides(
    files: list[str], kind: str, patterns: tuple[str, ...] | None, permissions: str
) -> None:
    entry = make_entry(read(*files), PATHS)
    assert (entry.kind, entry.allow_patterns) == (kind, patterns)
    assert [key for key in ("trust_remote_code", "allow_pickle") if getattr(entry, key)] == permissions.split()


def test_a_config_alone_is_no_model_and_files_of_no_library_are_named() -> None:
    paths = ["config.json", "model.safetensors", "notes.txt"]
    config = make_entry(read("config.json"), paths)
    assert (config.kind, config.allow_patterns) == ("tokenizer", ("config.json",))
    notes = make_entry(read("notes.txt"), paths)
    assert (notes.kind, notes.allow_patterns) == ("model", ("notes.txt",))


def test_a_dataset_without_the_other_files_names_those_that_were_read() -> None:
    paths = ["README.md", "a.csv", "b.csv", ".gitattributes"]
    assert make_entry(read("README.md", "a.csv", "b.csv", repo_type="dataset"), paths).allow_patterns is None
    assert make_entry(read("README.md", "a.csv", repo_type="dataset"), paths).allow_patterns == ("a.csv",)


def test_many_files_share_a_pattern_that_matches_no_other() -> None:
    shards = [f"model-{n:05}-of-00009.safetensors" for n in range(1, 10)]
    folder = [f"data/en/{n}.csv" for n in range(20)]
    paths = [*shards, *folder, "data/de/1.csv", "odd[1].txt", "model-00001-of-00009.bin"]
    named = name_files([*shards, *folder, "odd[1].txt"], paths)
    assert named == ("data/en/", "model-*-of-*.safetensors", "odd[[]1].txt")
    assert {p for p in paths if matches(p, named)} == {*shards, *folder, "odd[1].txt"}


def test_an_entry_of_the_manifest_is_widened_by_no_more_than_was_read() -> None:
    entry = Entry(kind="model", repo_id="o/n", path="models[0]")
    use = read("config.json", "pytorch_model.bin")
    wider = widen_entry(entry, make_entry(use, PATHS), use, PATHS)
    assert wider.allow_pickle
    assert wider.allow_patterns is not None
    assert {"pytorch_model.bin", "model.safetensors", "config.json"} <= {
        path for path in PATHS if matches(path, wider.allow_patterns)
    }
    same = read("config.json", "vae/model.safetensors")
    assert widen_entry(entry, make_entry(same, PATHS), same, PATHS) == entry
