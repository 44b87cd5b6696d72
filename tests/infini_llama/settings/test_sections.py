from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from infini_llama.errors import ConfigError
from infini_llama.settings.schema import settings_schema
from infini_llama.settings.sections import Settings, load, parse

MINIMAL = """\
tokenizer: openai-community/gpt2
model: {hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, segment_length: 16}
data: {segments_per_row: 4}
training:
  steps: 10
  batch_size: 2
  learning_rate: 1e-3
"""


def faults(text: str, *overrides: str) -> list[str]:
    """Return what `parse` finds wrong, one line each."""
    with pytest.raises(ConfigError) as caught:
        parse(text, overrides=overrides)
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_a_minimal_file_gets_the_documented_defaults() -> None:
    settings = parse(MINIMAL)
    assert (settings.seed, settings.model.memory_update, settings.training.gate_learning_rate) == (
        0,
        "linear",
        0.01,
    )
    assert settings.training.learning_rate == 0.001


def test_a_resolved_configuration_reads_back_as_itself() -> None:
    settings = parse(MINIMAL + "  weight_decay: null\n")
    assert parse(settings.to_yaml()) == settings


def test_a_weight_decay_of_null_is_zero_and_is_noted() -> None:
    settings = parse(MINIMAL + "  weight_decay: null\n")
    assert settings.weight_decay == 0.0
    assert settings.notes == ["training.weight_decay is null: taken as 0.0, nothing is decayed"]


def test_a_weight_decay_that_is_a_number_is_itself_and_needs_no_note() -> None:
    settings = parse(MINIMAL + "  weight_decay: 0.1\n")
    assert (settings.weight_decay, settings.notes) == (0.1, [])


def test_all_faults_are_named_at_once_with_key_path_and_line() -> None:
    text = MINIMAL.replace("segments_per_row: 4", "segments_per_row: 2.5") + (
        "  weight_decy: 3\n  batch_size: 3\n  warmup_steps: -1\n  schedule: cosin\n  decay_embeddings: yes\n"
    )
    assert faults(text) == [
        "data.segments_per_row (line 3): expected a whole number, found 2.5",
        "training.weight_decy (line 8): unknown key; did you mean weight_decay?",
        "training.batch_size (line 9): appears twice; the first is in line 6",
        "training.warmup_steps (line 10): expected at least 0, found -1",
        "training.schedule (line 11): expected one of constant, cosine, linear, wsd; found cosin; did you mean cosine?",
        "training.decay_embeddings (line 12): expected true or false, found yes",
    ]


def test_missing_keys_are_named() -> None:
    assert faults("tokenizer: gpt2\nmodel: {}\n") == [
        "data (line 1): missing",
        "training (line 1): missing",
        "model.hidden_size (line 2): missing",
        "model.intermediate_size (line 2): missing",
        "model.num_hidden_layers (line 2): missing",
        "model.num_attention_heads (line 2): missing",
        "model.segment_length (line 2): missing",
    ]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("training.learning_rate=.inf", "expected a number, found .inf"),
        ("training.learning_rate=1e999", "expected a finite number, found 1e999"),
        ("training.learning_rate=0", "expected above 0, found 0"),
        ("training.adam_beta2=1", "expected below 1, found 1"),
        ("training.steps=null", "expected a whole number, found null"),
        ("training.steps=", "expected a whole number, found nothing"),
        ("training.steps=[1]", "expected a whole number, found a list"),
    ],
)
def test_bad_values_are_refused(override: str, fault: str) -> None:
    key = override.partition("=")[0]
    assert faults(MINIMAL, override) == [f"{key} (command line): {fault}"]


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["model.hidden_size=66"], "model.hidden_size: 66 is not a multiple of num_attention_heads (4)"),
        (["model.hidden_size=36"], "model.hidden_size: RoPE needs an even width of each head, found 9"),
        (
            ["model.num_key_value_heads=3"],
            "model.num_attention_heads: 4 is not a multiple of num_key_value_heads (3)",
        ),
        (["training.warmup_steps=11"], "training.warmup_steps: 11 is more than training.steps (10)"),
        (
            ["model.memory_write_spread=5", "training.spread_warmup_steps=11"],
            "training.spread_warmup_steps: expected at most training.steps (10), and 0 where "
            "model.memory_write_spread is, found 11",
        ),
        (
            ["training.spread_warmup_steps=5"],
            "training.spread_warmup_steps: expected at most training.steps (10), and 0 where "
            "model.memory_write_spread is, found 5",
        ),
        (
            ["data.segments_per_row=2", "training.backprop_segments=3"],
            "training.backprop_segments: 3 is more than data.segments_per_row (2)",
        ),
        (
            ["training.context_parallel=3"],
            "training.context_parallel: data.segments_per_row (4) is not a multiple of 3",
        ),
        (
            ["training.context_parallel=2", "training.backprop_segments=2"],
            "training.backprop_segments: expected null with context_parallel: a part of a row would have to wait for "
            "the one before",
        ),
        (
            ["training.context_parallel=2", "training.compile=true"],
            "training.compile: expected false with context_parallel, whose exchanges are not compiled",
        ),
        (
            ["training.checkpoint_in_background=true"],
            "training.checkpoint_in_background: expected it with checkpoint_format shards only, found whole",
        ),
        (
            ["evaluation.raw_data=held-out", "evaluation.fraction=0.1"],
            "evaluation.fraction: expected this or evaluation.raw_data, found both",
        ),
    ],
)
def test_values_that_do_not_fit_together_are_refused(overrides: list[str], fault: str) -> None:
    assert faults(MINIMAL, *overrides) == [fault]


def test_the_command_line_wins_over_the_file() -> None:
    settings = parse(MINIMAL, overrides=["training.steps=20", "model.memory_update=delta", "seed=7"])
    assert (settings.training.steps, settings.model.memory_update, settings.seed) == (20, "delta", 7)


def test_an_override_without_a_value_is_refused() -> None:
    assert faults(MINIMAL, "training.steps") == ["(command line): expected key.path=value, found 'training.steps'"]


@pytest.mark.parametrize("text", ["", "[]", "a: &b 1", "a: [", "a: 1\n---\nb: 2"])
def test_what_is_no_mapping_of_sections_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_bytes(b"seed: 1\ntokenizer: \xff")
    with pytest.raises(ConfigError, match=r"train\.yaml: not UTF-8 text \(line 2\)"):
        load(path)


def test_the_schema_is_the_one_that_is_made_from_the_dataclasses_and_takes_the_demo_configuration() -> None:
    folder = Path(__file__).parents[3]
    text = (folder / "infini_llama" / "settings" / "schema.json").read_text()
    assert text == settings_schema(), "run `make docs`"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    jsonschema.validate(parse(MINIMAL).to_dict(), json.loads(text))
    jsonschema.validate(load(folder / "demo" / "train.yaml").to_dict(), json.loads(text))


def test_the_demo_configuration_is_valid() -> None:
    settings = load(Path(__file__).parents[3] / "demo" / "train.yaml")
    assert isinstance(settings, Settings)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (
            "decay_steps: 3",
            "training.decay_steps: expected it with schedule wsd only, found schedule cosine",
        ),
        (
            "schedule: wsd\n  warmup_steps: 8\n  decay_steps: 3",
            "training.decay_steps: with warmup_steps it is more than training.steps (10)",
        ),
        (
            "schedule: constant\n  min_learning_rate_ratio: 0.1",
            "training.min_learning_rate_ratio: expected a schedule that falls, found schedule constant",
        ),
    ],
)
def test_keys_of_a_schedule_that_do_not_fit_together_are_named(lines: str, fault: str) -> None:
    assert faults(MINIMAL + f"  {lines}\n") == [fault]
