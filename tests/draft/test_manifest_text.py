"""Entries are added to the text of a manifest, and all else in it stays as it was typed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.draft.manifest_text import add_command, edit_manifest, merge_entry, new_manifest
from bundler.draft.spelling import spell_text
from bundler.errors import ManifestError
from bundler.plan.manifest import Entry, Manifest
from bundler.text.strict_yaml import Scalar, read

HEAD = "version: 1\nname: n\n"
MODEL = Entry(kind="model", repo_id="org/new", revision="1.0", trust_remote_code=True)


def widened(text: str, **changes: object) -> str:
    """Return the text after its first entry was changed."""
    (first, *_) = Manifest.parse(text).entries
    return edit_manifest(text, [replace(first, **changes)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("models:\n  - repo_id: a/b\n", "models:\n  - repo_id: a/b\n    aliases: [b]\n"),
        ("models:\n- repo_id: a/b # why\n\n# end", "models:\n- repo_id: a/b # why\n  aliases: [b]\n\n# end"),
        ("models: [{repo_id: a/b}]\n", "models: [{repo_id: a/b, aliases: [b]}]\n"),
        ("models:\n  - {repo_id: a/b, aliases: []}", "models:\n  - {repo_id: a/b, aliases: [b]}"),
        (
            "models:\n  - repo_id: a/b\n    aliases: [c, # one\n      d]\n",
            "models:\n  - repo_id: a/b\n    aliases: [c, # one\n      d, b]\n",
        ),
        (
            "models:\n  - aliases:\n      - c # one\n    # of two\n    repo_id: a/b\n",
            "models:\n  - aliases:\n      - c # one\n      - b\n    # of two\n    repo_id: a/b\n",
        ),
        ("models:\r\n  - repo_id: a/b\r\n", "models:\r\n  - repo_id: a/b\r\n    aliases: [b]\r\n"),
    ],
)
def test_a_name_is_added_wherever_the_list_stands(before: str, after: str) -> None:
    aliases = tuple(dict.fromkeys((*Manifest.parse(HEAD + before).entries[0].aliases, "b")))
    assert widened(HEAD + before, aliases=aliases) == HEAD + after


def test_several_keys_of_several_entries_are_changed_at_once() -> None:
    before = HEAD + (
        "models:\n  - repo_id: a/b\n    trust_remote_code: false   # not yet\n  - repo_id: c/d\n"
        "datasets:\n  - repo_id: e/f\n    data_files:\n      - train: x.csv\n        test: y.csv\n"
    )
    model, other, dataset = Manifest.parse(before).entries
    changed = [
        replace(model, trust_remote_code=True, allow_pickle=True),
        other,
        replace(dataset, data_files=(*dataset.data_files, '["z.csv"]'), configs=("default",)),
        MODEL,
    ]
    assert edit_manifest(before, changed) == HEAD + (
        "models:\n  - repo_id: a/b\n    trust_remote_code: true   # not yet\n    allow_pickle: true\n"
        '  - repo_id: c/d\n  - repo_id: org/new\n    revision: "1.0"\n    trust_remote_code: true\n'
        "datasets:\n  - repo_id: e/f\n    data_files:\n      - train: x.csv\n        test: y.csv\n"
        '      - ["z.csv"]\n    configs: [default]\n'
    )


@pytest.mark.parametrize(
    ("section", "there"),
    [
        ("", ""),
        ("models:\n", "models:"),
        ("models: []   # none yet\n", "models: "),
        ("models: [{repo_id: a/b}]\n", "models: [{repo_id: a/b}, {repo_id: org/new"),
        ("models:\n- repo_id: a/b\n\n\n", "models:\n- repo_id: a/b\n- repo_id: org/new"),
    ],
)
def test_an_entry_is_added_to_any_form_of_a_list(section: str, there: str) -> None:
    before = HEAD + section + "tokenizers:\n  - repo_id: t/t\n"
    after = edit_manifest(before, [MODEL])
    assert there in after
    assert MODEL in [replace(entry, path="") for entry in Manifest.parse(after).entries]


def test_what_contradicts_the_manifest_is_an_error_that_names_the_fault() -> None:
    text = HEAD + "models:\n  - repo_id: a/b\n    aliases: [x]\n"
    with pytest.raises(ManifestError, match="x is an alias of"):
        edit_manifest(text, [replace(MODEL, aliases=("x",))])


def test_a_new_manifest_has_a_section_for_each_kind() -> None:
    entries = [
        MODEL,
        Entry(kind="dataset", repo_id="org/data", configs=("yes", "a b"), data_files=('"x.csv"',)),
        Entry(kind="tokenizer", repo_id="org/words", allow_patterns=tuple(f"folder/{n}.json" for n in range(9))),
    ]
    text = new_manifest("new", entries, comment="Of today")
    assert text.startswith("# Of today\nversion: 1\nname: new\n\ntokenizers:\n  - repo_id: org/words\n")
    assert 'configs: ["yes", "a b"]' in text
    assert {replace(entry, path="") for entry in Manifest.parse(text).entries} == set(entries)


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_a_text_is_read_as_it_was_meant(text: str) -> None:
    node = read(f"- {spell_text(text)}")
    item = node.items[0]  # type: ignore[union-attr]
    assert isinstance(item, Scalar)
    assert (item.text, item.type_name) == (text, "str")


def test_entries_are_joined_and_never_narrowed() -> None:
    everything = Entry(kind="dataset", repo_id="o/d")
    some = Entry(kind="dataset", repo_id="o/d", configs=("a",), allow_patterns=("a.csv",))
    assert merge_entry(everything, some) == everything
    more = replace(some, configs=("b",), aliases=("d",), allow_patterns=("b.csv",))
    joined = merge_entry(some, more)
    assert joined == replace(some, configs=("a", "b"), aliases=("d",), allow_patterns=("a.csv", "b.csv"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '\nprove:\n  - "python b.py"\n'),
        ("prove: python a.py  # two steps\n", 'prove: ["python a.py", "python b.py"]  # two steps\n'),
        ("prove: [python a.py]\n", 'prove: [python a.py, "python b.py"]\n'),
        ("prove:\n- python a.py  # one\n", 'prove:\n- python a.py  # one\n- "python b.py"\n'),
        ("prove: python b.py\n", "prove: python b.py\n"),
    ],
)
def test_a_command_that_proves_is_added_to_those_that_are_there(before: str, after: str) -> None:
    text = "version: 1\nname: m\nmodels: [{repo_id: org/m}]  # one\n"
    assert add_command(text + before, "python b.py") == text + after
