"""The manifest: what is accepted, what each fault is told as, and that the JSON Schema agrees."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from bundler.errors import ManifestError
from bundler.plan.manifest import Entry, InvalidManifestError, Manifest, manifest_schema
from bundler.text.fault import Fault

MANIFESTS = Path(__file__).parents[2] / "manifests"
HEAD = "version: 1\nname: demo\n"


def faults(text: str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidManifestError) as caught:
        Manifest.parse(text, source="m.yaml")
    return [(fault.path, fault.message) for fault in caught.value.faults]


def only_fault(text: str) -> tuple[str, str]:
    (fault,) = faults(text)
    return fault


def model(lines: str) -> str:
    """Return a manifest with one model entry of these keys, one a line."""
    body = "\n    ".join(lines.strip().splitlines())
    return f"{HEAD}models:\n  - {body}\n"


def test_an_entry_says_only_its_repo_id_and_gets_the_defaults() -> None:
    manifest = Manifest.parse(f"{HEAD}models: [{{repo_id: org/name}}]")
    entry = Entry(kind="model", repo_id="org/name", path="models[0]")
    assert manifest == Manifest(name="demo", entries=(entry,))
    assert (entry.revision, entry.aliases, entry.allow_patterns, entry.ignore_patterns) == ("main", (), None, ())
    assert not (entry.trust_remote_code or entry.allow_pickle or entry.configs)


def test_every_key_is_read() -> None:
    manifest = Manifest.parse(
        """
        version: 1
        name: all.keys_1-0
        tokenizers:
          - repo_id: openai-community/gpt2
            revision: "1.0"
            aliases: [gpt2, old/gpt2]
            trust_remote_code: true
        models:
          - repo_id: org/name
            revision: refs/pr/3
            allow_patterns: ["*.json", "sub/"]
            ignore_patterns: ["*.md"]
            trust_remote_code: false
            allow_pickle: true
        datasets:
          - repo_id: org/data
            configs: [default, wikitext-2-raw-v1]
            data_files: [a.jsonl, [b.jsonl, "c*"], {train: d.jsonl, test: [e.jsonl, f/]}]
        """
    )
    assert manifest.entries == (
        Entry(
            kind="tokenizer",
            repo_id="openai-community/gpt2",
            revision="1.0",
            aliases=("gpt2", "old/gpt2"),
            trust_remote_code=True,
            path="tokenizers[0]",
        ),
        Entry(
            kind="model",
            repo_id="org/name",
            revision="refs/pr/3",
            allow_patterns=("*.json", "sub/"),
            ignore_patterns=("*.md",),
            allow_pickle=True,
            path="models[0]",
        ),
        Entry(
            kind="dataset",
            repo_id="org/data",
            configs=("default", "wikitext-2-raw-v1"),
            data_files=(
                '"a.jsonl"',
                '["b.jsonl", "c*"]',
                '{"train": "d.jsonl", "test": ["e.jsonl", "f/"]}',
            ),
            path="datasets[0]",
        ),
    )


def test_all_faults_are_named_at_once_in_the_order_of_the_file() -> None:
    text = """\
version: 1
name: My Bundle
tokenizers:
  - repo_id: a/b
    revison: main
models:
  - revision: 1.0
  - repo_id: c/d
    trust_remote_code: yes
"""
    with pytest.raises(InvalidManifestError) as caught:
        Manifest.parse(text, source="m.yaml")
    assert [(f.path, f.line) for f in caught.value.faults] == [
        ("name", 2),
        ("tokenizers[0].revison", 5),
        ("models[0].repo_id", 7),
        ("models[0].revision", 7),
        ("models[1].trust_remote_code", 9),
    ]
    message = str(caught.value)
    assert message.startswith("m.yaml: 5 faults\n")
    assert "\n  tokenizers[0].revison (line 5): unknown key; did you mean revision?\n" in message
    assert caught.value.exit_code == 3


def test_faults_of_every_kind_in_one_file_are_named_together() -> None:
    text = """\
version: 1
name: Bad Name!
name: again
extra: 1
models:
  - repo_id: https://huggingface.co/org/m
    revision: ABCDEF1
    aliases: one
    alias: [x]
    repo_id: org/m
    trust_remote_code: yes please
    allow_pickle: 1
    allow_patterns: ["!x", /abs, 5]
  - just text
  - revision: main
  - repo_id: org/a
    aliases: [org/b]
  - repo_id: org/b
  - repo_id: org/b
  - repo_id: no
tokenizers: text
datasets:
  - repo_id: org/d
    configs: [a/b]
    data_files: {x: 1}
    trust_remote_code: true
    1: 2
models:
  - repo_id: org/c
"""
    with pytest.raises(InvalidManifestError) as caught:
        Manifest.parse(text)
    assert [(f.line, f.path) for f in caught.value.faults] == [
        (2, "name"),
        (3, "name"),
        (4, "extra"),
        (6, "models[0].repo_id"),
        (8, "models[0].aliases"),
        (9, "models[0].alias"),
        (10, "models[0].repo_id"),
        (11, "models[0].trust_remote_code"),
        (12, "models[0].allow_pickle"),
        (13, "models[0].allow_patterns[0]"),
        (13, "models[0].allow_patterns[1]"),
        (13, "models[0].allow_patterns[2]"),
        (14, "models[1]"),
        (15, "models[2].repo_id"),
        (17, "models[3].aliases[0]"),
        (19, "models[5].repo_id"),
        (20, "models[6].repo_id"),
        (21, "tokenizers"),
        (24, "datasets[0].configs[0]"),
        (25, "datasets[0].data_files"),
        (26, "datasets[0].trust_remote_code"),
        (27, "datasets[0]"),
        (28, "models"),
    ]


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        pytest.param("name: x\nmodels: [{repo_id: a/b}]", "version", "missing; write version: 1", id="no version"),
        pytest.param(
            "version: '1'\nname: x\nmodels: [{repo_id: a/b}]",
            "version",
            "expected the number 1",
            id="quoted version",
        ),
        pytest.param("version: 1\nmodels: [{repo_id: a/b}]", "name", "missing", id="no name"),
        pytest.param(
            "version: 1\nname: My Run/2\nmodels: [{repo_id: a/b}]", "name", "for instance my-run-2", id="name"
        ),
        pytest.param(HEAD, "", "expected at least one entry", id="no entry"),
        pytest.param(f"{HEAD}models:\n", "", "expected at least one entry", id="empty section"),
        pytest.param(
            f"{HEAD}model: []\nmodels: [{{repo_id: a/b}}]", "model", "did you mean", id="section misspelt"
        ),
        pytest.param(f"{HEAD}models: a/b", "models", "expected a list of entries", id="section is text"),
        pytest.param(f"{HEAD}models: [a/b]", "models[0]", "write - repo_id: a/b", id="entry is text"),
        pytest.param("- a", "", "found a list", id="a list"),
        pytest.param("", "", "found an empty file", id="empty"),
    ],
)
def test_a_fault_of_the_whole_file_is_explained(text: str, path: str, expected: str) -> None:
    found_path, message = only_fault(text)
    assert found_path == path
    assert expected in message


@pytest.mark.parametrize(
    ("lines", "key", "expected"),
    [
        pytest.param("revision: main", "repo_id", "missing; write repo_id: namespace/name", id="no repo_id"),
        pytest.param("repo_id: https://huggingface.co/a/b", "repo_id", "write a/b", id="address"),
        pytest.param("repo_id: hf.co/a/b/tree/main", "repo_id", "write a/b", id="address of a folder"),
        pytest.param("repo_id: datasets/a/b", "repo_id", "write a/b, under datasets:", id="dataset"),
        pytest.param("repo_id: a/b@v1", "repo_id", "repo_id: a/b and revision: v1", id="revision in repo_id"),
        pytest.param("repo_id: a/b/c", "repo_id", "at most one '/'", id="three parts"),
        pytest.param("repo_id: 123", "repo_id", 'quote it: "123"', id="number"),
        pytest.param("repo_id: a/b\nrevision: 1.0", "revision", 'quote it: "1.0"', id="1.0"),
        pytest.param("repo_id: a/b\nrevision: no", "revision", 'quote it: "no"', id="no"),
        pytest.param("repo_id: a/b\nrevision: 2024-01-01", "revision", 'quote it: "2024-01-01"', id="a date"),
        pytest.param("repo_id: a/b\nrevision: 0777", "revision", 'quote it: "0777"', id="octal"),
        pytest.param("repo_id: a/b\nrevision:", "revision", "leave the key out", id="empty"),
        pytest.param("repo_id: a/b\nrevision: 607a30d", "revision", "write all 40 digits", id="short commit"),
        pytest.param(f"repo_id: a/b\nrevision: {'AB' * 20}", "revision", "lower case: abab", id="upper case"),
        pytest.param("repo_id: a/b\nrevision: ../x", "revision", "expected a branch", id="revision out of refs"),
        pytest.param("repo_id: a/b\naliases: c", "aliases", 'write ["c"]', id="alias is no list"),
        pytest.param("repo_id: a/b\naliases: [c d]", "aliases[0]", "expected namespace/name", id="alias"),
        pytest.param("repo_id: a/b\naliases: [c, c]", "aliases[1]", "twice", id="alias twice"),
        pytest.param("repo_id: a/b\naliases: [a/b]", "aliases[0]", "own repo_id", id="alias of itself"),
        pytest.param("repo_id: a/b\nallow_patterns: []", "allow_patterns", "takes no file", id="no pattern"),
        pytest.param(
            "repo_id: a/b\nallow_patterns: ['']", "allow_patterns[0]", "an empty one", id="empty pattern"
        ),
        pytest.param("repo_id: a/b\nallow_patterns: [/x]", "allow_patterns[0]", "is absolute", id="absolute"),
        pytest.param("repo_id: a/b\nallow_patterns: [x/../y]", "allow_patterns[0]", "'..' folder", id="dots"),
        pytest.param(
            "repo_id: a/b\nallow_patterns: ['!x']", "allow_patterns[0]", "ignore_patterns", id="negation"
        ),
        pytest.param('repo_id: a/b\nallow_patterns: ["x\\\\y"]', "allow_patterns[0]", "backslash", id="backslash"),
        pytest.param("repo_id: a/b\nallow_pickle: yes", "allow_pickle", "found yes", id="yes"),
        pytest.param("repo_id: a/b\nallow_pickle: 'true'", "allow_pickle", "unquoted", id="quoted flag"),
        pytest.param(
            "repo_id: a/b\nconfigs: [x]", "configs", "configurations of a dataset", id="configs of a model"
        ),
        pytest.param(
            "repo_id: a/b\ndata_files: [x]", "data_files", "allow_patterns does so", id="files of a model"
        ),
        pytest.param("repo_id: a/b\nbranch: x", "branch", "did you mean revision?", id="other word"),
        pytest.param("repo_id: a/b\nignore_pattern: [x]", "ignore_pattern", "ignore_patterns?", id="singular"),
        pytest.param("repo_id: a/b\nrepo_id: c/d", "repo_id", "appears twice; the first is in line 4", id="twice"),
    ],
)
def test_a_fault_of_an_entry_has_its_key_path_and_says_what_to_write(lines: str, key: str, expected: str) -> None:
    path, message = only_fault(model(lines))
    assert path == f"models[0].{key}"
    assert expected in message


def test_permissions_that_a_section_has_no_use_for_are_refused_with_the_reason() -> None:
    assert faults(f"{HEAD}datasets: [{{repo_id: a/b, trust_remote_code: true}}]") == [
        (
            "datasets[0].trust_remote_code",
            "unknown key here; loading scripts of datasets are no longer run by the datasets library",
        )
    ]


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        (
            "kernels: [{repo_id: a/b, trust_remote_code: false}]",
            "kernels[0].trust_remote_code",
            "a kernel is code",
        ),
        ("spaces: [{repo_id: a/b, trust_remote_code: true}]", "spaces[0].trust_remote_code", "taken for its code"),
        ("kernels: [{repo_id: a/b, version: 1}]", "kernels[0].version", "did you mean revision?"),
        ("kernels: [{repo_id: a/b, torch: [2.13]}]", "kernels[0].torch[0]", "quote it"),
        (
            "kernels: [{repo_id: a/b, torch: ['2.13.0']}]",
            "kernels[0].torch[0]",
            "such as \"2.13\"; found '2.13.0'",
        ),
        ("kernels: [{repo_id: a/b, backends: [cuda12.8]}]", "kernels[0].backends[0]", "write cu128"),
        ("kernels: [{repo_id: a/b, backends: [cuda]}]", "kernels[0].backends[0]", "such as cu128 for CUDA 12.8"),
        ("kernels: [{repo_id: a/b, platforms: [linux]}]", "kernels[0].platforms[0]", "x86_64-linux"),
        ("models: [{repo_id: a/b, torch: ['2.13']}]", "models[0].torch", "it chooses builds of a kernel"),
        ("models: [{repo_id: spaces/a/b}]", "models[0].repo_id", "write a/b, under spaces:"),
    ],
)
def test_faults_of_kernels_and_spaces_say_what_to_write(text: str, path: str, expected: str) -> None:
    found, message = only_fault(f"{HEAD}{text}")
    assert found == path
    assert expected in message


def test_kernels_and_spaces_are_trusted_and_keep_their_order() -> None:
    manifest = Manifest.parse(f"{HEAD}spaces: [{{repo_id: a/s}}]\nkernels: [{{repo_id: a/k, torch: ['2.13']}}]")
    assert [(entry.kind, entry.repo_type, entry.trusts_code) for entry in manifest.entries] == [
        ("kernel", "kernel", True),
        ("space", "space", True),
    ]


def test_another_version_stops_before_anything_else_is_judged() -> None:
    path, message = only_fault("version: 2\nname: 3\nsources: []")
    assert path == "version"
    assert "expected 1, found 2" in message
    assert "upgrade" in message


def test_one_name_cannot_mean_two_repositories() -> None:
    found = faults(
        f"""{HEAD}
tokenizers:
  - repo_id: a/one
    aliases: [short, bad id, b/two]
models:
  - repo_id: b/two
    aliases: [short]
"""
    )
    assert [path for path, _ in found] == [
        "tokenizers[0].aliases[1]",
        "tokenizers[0].aliases[2]",
        "models[0].aliases[0]",
    ]
    assert "b/two is the repo_id of models[0]" in found[1][1]
    assert "short is an alias of tokenizers[0] (a/one)" in found[2][1]


def test_tokenizer_and_model_of_one_repository_may_share_an_alias_and_a_dataset_its_name() -> None:
    text = f"""{HEAD}
tokenizers: [{{repo_id: a/b, aliases: [c]}}]
models: [{{repo_id: a/b, aliases: [c]}}, {{repo_id: a/b, revision: v2}}]
datasets: [{{repo_id: c}}]
"""
    assert len(Manifest.parse(text).entries) == 4


def test_the_same_entry_twice_is_a_fault() -> None:
    path, message = only_fault(f"{HEAD}models: [{{repo_id: a/b}}, {{repo_id: a/b, revision: main}}]")
    assert path == "models[1].repo_id"
    assert "is models[0] already" in message


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("version: 1\nmodels: [", 2, "not valid YAML"),
        ("version: 1\n\tname: x", 2, "indent with spaces"),
        ("a: &x 1\nb: *x", 1, "anchors (&) and aliases (*) are not supported"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tag"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("[" * 1000, 1, "nested deeper"),
        ("a: \x00", 1, "not allowed in YAML"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, line: int, expected: str) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        Manifest.parse(text)
    (fault,) = caught.value.faults
    assert (fault.path, fault.line) == ("", line)
    assert expected in fault.message


def test_the_digest_depends_on_the_meaning_alone() -> None:
    first = Manifest.parse(
        f"{HEAD}models:\n  - repo_id: a/b\n    aliases: [x, y]\n  - repo_id: c/d\ntokenizers: [{{repo_id: e/f}}]"
    )
    second = Manifest.parse(
        "# the same\ntokenizers: [{repo_id: 'e/f', revision: main}]\nname: demo\n"
        "models: [{repo_id: c/d, allow_pickle: false}, {aliases: [y, x], repo_id: a/b}]\nversion: 1"
    )
    assert first.digest() == second.digest()


@pytest.mark.parametrize(
    "change",
    ["revision: v2", "aliases: [x]", "allow_patterns: ['*']", "ignore_patterns: ['*.md']", "allow_pickle: true"],
)
def test_the_digest_changes_with_every_key(change: str) -> None:
    assert (
        Manifest.parse(model(f"repo_id: a/b\n{change}")).digest() != Manifest.parse(model("repo_id: a/b")).digest()
    )


def test_a_missing_file_names_the_manifests_beside_it(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(HEAD)
    with pytest.raises(ManifestError, match=r"demo\.yml: cannot read the manifest") as caught:
        Manifest.load(tmp_path / "demo.yml")
    assert caught.value.hint == f"{tmp_path} has demo.yaml"


def test_a_folder_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="Is a directory"):
        Manifest.load(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"version: 1\nname: \xff\xfe")
    with pytest.raises(ManifestError, match=r"not UTF-8 text \(line 2\)"):
        Manifest.load(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ManifestError, match="longer than"):
        Manifest.load(tmp_path / "x.yaml")


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbf" + model("repo_id: a/b").encode())
    assert Manifest.load(tmp_path / "x.yaml").name == "demo"


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_manifests_are_valid_and_point_editors_at_the_schema(path: Path) -> None:
    assert Manifest.load(path).name == path.stem
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(path.read_text()), schema())


def schema() -> dict[str, object]:
    loaded: dict[str, object] = json.loads((MANIFESTS / "schema.json").read_text())
    return loaded


def test_the_schema_is_the_one_that_is_made_from_the_dataclasses() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert (MANIFESTS / "schema.json").read_text() == manifest_schema(), "run `make docs`"


# What a schema cannot say (names that clash between entries) is not in these tables.
@pytest.mark.parametrize(
    "text",
    [
        model("repo_id: gpt2"),
        model("repo_id: a/b\nrevision: refs/pr/1"),
        model("repo_id: a/b\nrevision: v1.0-rc+2"),
        model(f"repo_id: a/b\nrevision: {'0a' * 20}"),
        model("repo_id: a/b\nrevision: '20240101'"),
        model("repo_id: a/b\nrevision: deadbeef"),
        model("repo_id: a.b/c_d-e.f\naliases: [x, y/z]"),
        model("repo_id: a/b\nallow_patterns: ['*.json', 'x/', '.hidden', 'a..b']"),
        model("repo_id: a/b\nignore_patterns: []\nallow_pickle: true"),
        f"{HEAD}tokenizers:\ndatasets: [{{repo_id: a/b, configs: [x y]}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, data_files: [x.csv, [y, z], {{train: x.csv, test: [y, z]}}]}}]",
        "version: 1\nname: a.b-c_d\nmodels: [{repo_id: a/b}]",
        f"{HEAD}spaces: [{{repo_id: evaluate-metric/accuracy}}]",
        f"{HEAD}kernels: [{{repo_id: a/b, torch: ['2.9', '2.13'], backends: [cpu, cu128], platforms: [x86_64-linux]}}]",
    ],
)
def test_schema_and_parser_accept_the_same(text: str) -> None:
    Manifest.parse(text)
    jsonschema.validate(yaml.safe_load(text), schema())


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        f"{HEAD}models: []",
        f"{HEAD}models: [a/b]",
        f"{HEAD}models: [{{}}]",
        "version: 2\nname: x\nmodels: [{repo_id: a/b}]",
        "version: true\nname: x\nmodels: [{repo_id: a/b}]",
        "version: 1\nname: a..b\nmodels: [{repo_id: a/b}]",
        "version: 1\nname: A\nmodels: [{repo_id: a/b}]",
        "version: 1\nname: -a\nmodels: [{repo_id: a/b}]",
        model("repo_id: a--b"),
        model("repo_id: a/b/c"),
        model("repo_id: a/b.git"),
        model("repo_id: .a"),
        model("repo_id: a/b."),
        model(f"repo_id: {'a' * 97}"),
        model("repo_id: 1"),
        model("repo_id: a/b\nrevision: 1.0"),
        model("repo_id: a/b\nrevision: 607a30d"),
        model(f"repo_id: a/b\nrevision: {'AB' * 20}"),
        model("repo_id: a/b\nrevision: a/../b"),
        model("repo_id: a/b\nrevision: a//b"),
        model("repo_id: a/b\nrevision: a/"),
        model("repo_id: a/b\nrevision: -x"),
        model("repo_id: a/b\naliases: x"),
        model("repo_id: a/b\naliases: [x, x]"),
        model("repo_id: a/b\nallow_patterns: []"),
        model("repo_id: a/b\nallow_patterns: ['/x']"),
        model("repo_id: a/b\nallow_patterns: ['../x']"),
        model("repo_id: a/b\nallow_patterns: ['x/..']"),
        model("repo_id: a/b\nallow_patterns: ['C:/x']"),
        model("repo_id: a/b\nallow_patterns: [' ']"),
        model("repo_id: a/b\nallow_patterns: ['a\\b']"),
        model("repo_id: a/b\nallow_pickle: 1"),
        model("repo_id: a/b\nconfigs: [x]"),
        f"{HEAD}tokenizers: [{{repo_id: a/b, allow_pickle: true}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, trust_remote_code: true}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, configs: [a/b]}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, data_files: x.csv}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, data_files: [/x.csv]}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, data_files: [x.csv, x.csv]}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, data_files: [{{train: {{a: b}}}}]}}]",
        f"{HEAD}models: [{{repo_id: a/b, data_files: [x.csv]}}]",
        f"{HEAD}models: [{{repo_id: a/b, data_dirs: [x]}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, data_dirs: x}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, data_dirs: ['x/*']}}]",
        f"{HEAD}datasets: [{{repo_id: a/b, data_dirs: [../x]}}]",
        f"{HEAD}kernels: [{{repo_id: a/b, torch: ['2']}}]",
        f"{HEAD}kernels: [{{repo_id: a/b, torch: '2.13'}}]",
        f"{HEAD}kernels: [{{repo_id: a/b, backends: [cuda]}}]",
        f"{HEAD}kernels: [{{repo_id: a/b, platforms: [linux]}}]",
        f"{HEAD}spaces: [{{repo_id: a/b, torch: ['2.13']}}]",
    ],
)
def test_schema_and_parser_refuse_the_same(text: str) -> None:
    with pytest.raises(ManifestError):
        Manifest.parse(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema())


def test_a_fault_without_a_place_is_only_its_message() -> None:
    assert str(Fault("", None, "empty")) == "empty"


def test_a_manifest_without_data_files_has_the_digest_that_it_had_before_there_were_any() -> None:
    text = f"{HEAD}datasets: [{{repo_id: a/b, configs: [c]}}]"
    assert Manifest.parse(text).digest() == "dd451280333cd8b59bf8e727c66b6b818a6b58dee03c6b642689bf2642b02ce6"
    chosen = Manifest.parse(f"{HEAD}datasets: [{{repo_id: a/b, configs: [c], data_files: [x.csv]}}]")
    assert chosen.digest() != Manifest.parse(text).digest()
    folders = Manifest.parse(f"{HEAD}datasets: [{{repo_id: a/b, configs: [c], data_dirs: [x/, y/z]}}]")
    assert folders.entries[0].data_dirs == ("x", "y/z")
    assert folders.digest() not in (chosen.digest(), Manifest.parse(text).digest())


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        pytest.param(
            f"version: {'1' * 5000}\nname: x\nmodels: [{{repo_id: a/b}}]",
            "version",
            "the number 1",
            id="5000 digits",
        ),
        pytest.param(model('repo_id: a/b\nrevision: "a\\0"'), "models[0].revision", "expected a branch", id="NUL"),
        pytest.param(
            model('repo_id: a/b\nallow_patterns: ["a\\e[2J"]'),
            "models[0].allow_patterns[0]",
            "control character",
            id="escape",
        ),
        pytest.param(model('repo_id: "a/b\\ud800"'), "", "half of a surrogate pair", id="surrogate"),
        pytest.param(model(f"repo_id: {'a/' * 50_000}"), "models[0].repo_id", "100,000 characters", id="long"),
        pytest.param(
            f'{HEAD}"\\e]0;x\\a": 1\nmodels: [{{repo_id: a/b}}]', "\x1b]0;x\x07", "unknown key", id="key"
        ),
        pytest.param(
            f"{HEAD}{'k' * 1000}: 1\nmodels: [{{repo_id: a/b}}]", "k" * 1000, "unknown key", id="long key"
        ),
    ],
)
def test_a_manifest_from_an_enemy_ends_in_one_fault_that_a_terminal_can_show(
    text: str, path: str, expected: str
) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        Manifest.parse(text)
    (fault,) = caught.value.faults
    assert fault.path == path
    assert expected in fault.message
    assert len(str(caught.value)) < 1000
    assert all(character.isprintable() or character == "\n" for character in str(caught.value))


# Comments, joints, assignments, and commands that do nothing.
RUNS_NOTHING = (
    "  # nothing",
    "true",
    ": ; true",
    "STEPS=2",
    "STEPS='2 3'; export_of=1",
    "(true) || { :; }",
    ";",
    "true # x",
)


def test_commands_that_prove_are_one_or_a_list_and_change_nothing_of_what_is_wanted() -> None:
    text = "version: 1\nname: m\nmodels:\n  - repo_id: org/m\n"
    one, many = "prove: python train.py --steps 2", "prove:\n  - python a.py\n  - python b.py && true"
    assert Manifest.parse(f"{text}{one}").prove == ("python train.py --steps 2",)
    assert Manifest.parse(f"{text}{many}").prove == ("python a.py", "python b.py && true")
    for runs in ("true && python a.py", "STEPS=2 python a.py", "python a.py # twice", "'", "true x"):
        assert Manifest.parse(f'{text}prove: ["{runs}"]').prove == (runs,)
    assert Manifest.parse(f"{text}{one}").digest() == Manifest.parse(text).digest()
    for wrong, path in (
        ("''", "prove"),
        ('["a", "b\\nc"]', "prove[1]"),
        ("{a: b}", "prove"),
        *((f'"{nothing}"', "prove") for nothing in RUNS_NOTHING),
    ):
        with pytest.raises(InvalidManifestError) as caught:
            Manifest.parse(f"{text}prove: {wrong}")
        assert [fault.path for fault in caught.value.faults] == [path]
