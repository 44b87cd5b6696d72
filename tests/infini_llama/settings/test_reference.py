"""`infini-llama keys`: the reference is complete, and is a configuration."""

from __future__ import annotations

import dataclasses
import re
from typing import get_type_hints

import yaml
from click.testing import CliRunner

from infini_llama.cli import main
from infini_llama.settings.sections import Settings, parse

REQUIRED = {
    "tokenizer": "gpt2",
    "model.hidden_size": "16",
    "model.intermediate_size": "24",
    "model.num_hidden_layers": "1",
    "model.num_attention_heads": "2",
    "model.segment_length": "16",
    "data.segments_per_row": "4",
    "training.steps": "6",
    "training.batch_size": "2",
    "training.learning_rate": "3e-2",
}


def printed() -> str:
    done = CliRunner().invoke(main, ["keys"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_is_printed_is_a_configuration_once_the_required_keys_are_filled_in() -> None:
    overrides = [f"{path}={value}" for path, value in REQUIRED.items()]
    parsed = parse(printed(), overrides=overrides)
    sections: dict[str, dict[str, str]] = {}
    for path, value in REQUIRED.items():
        section, _, name = path.rpartition(".")
        sections.setdefault(section, {})[name] = value
    shortest = "\n".join(
        (f"{section}:\n" if section else "")
        + "\n".join(f"{'  ' if section else ''}{name}: {value}" for name, value in keys.items())
        for section, keys in sections.items()
    )
    assert parsed == parse(shortest)


def test_every_key_is_there_in_the_order_of_the_dataclasses_and_has_a_meaning() -> None:
    text = printed()
    found = yaml.safe_load(text)
    kinds = get_type_hints(Settings)
    expected = {
        field.name: [part.name for part in dataclasses.fields(kinds[field.name])]
        if dataclasses.is_dataclass(kinds[field.name])
        else None
        for field in dataclasses.fields(Settings)
    }
    assert {name: list(value) if isinstance(value, dict) else None for name, value in found.items()} == expected
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.match(r" *\w+:", line):
            assert lines[number - 1].lstrip().startswith("# "), line


def test_types_ranges_choices_and_defaults_are_told() -> None:
    text = printed()
    assert "# Decay of the second moment. [a number, at least 0, below 1]\n  adam_beta2: 0.95\n" in text
    assert "[linear or delta]\n  memory_update: linear\n" in text
    assert "[a whole number, at least 1, or null]\n  backprop_segments: null\n" in text
    assert "# Number of optimizer steps. [a whole number, at least 1; must be given]\n  steps:\n" in text


def test_the_keys_of_each_entry_of_a_list_are_told_too() -> None:
    text = printed()
    assert "Each entry has these\n  # keys:\n" in text
    assert "  #   # Its share of the rows, in proportion to the other weights." in text
    assert "  #   weight: 1.0\n" in text
