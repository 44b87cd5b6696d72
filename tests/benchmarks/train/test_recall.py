"""The harness of `make bench-recall`: its models, its file of results and its table. No figure is judged here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks.train import recall
from benchmarks.train.recall import MARKS, README, VARIANTS
from benchmarks.train.recall_results import CAUSES, LENGTHS, SEEDS, Result, append_result, markdown, read_results
from infini_llama.data import IGNORED
from infini_llama.tasks.recall import RecallTask, train_recall

TASK = RecallTask()
TITLES = {name: variant.title for name, variant in VARIANTS.items()}


def make_result(variant: str = "linear", seed: int = 0, steps: int = 800, rows: int = 64) -> Result:
    return Result(
        variant=variant,
        seed=seed,
        steps=steps,
        rows=rows,
        parameters=12345,
        state=678,
        train_seconds=9.0,
        loss=0.00123,
        accuracy=tuple(1 - place / 16 for place in range(len(LENGTHS))),
        causes={cause: (0.5 + seed / 10,) * len(LENGTHS) for cause in CAUSES},
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_read_as_a_stream_is_answered_as_a_whole_row_is(name: str) -> None:
    """A model that knows nothing answers each question otherwise, so equal shares are equal answers."""
    variant, rows, length = VARIANTS[name], 16, 36
    model = variant.build(TASK, 0)
    tokens, labels = TASK.rows(rows, length, torch.Generator().manual_seed(3))
    with torch.no_grad():
        answers = model.eval()(tokens).logits[:, :-1].argmax(-1)
    asked = labels[:, 1:]
    expected = float((answers == asked)[asked != IGNORED].float().mean())
    (_, found), causes = recall.ask(variant, model, TASK, (2, length), rows, seed=3)
    assert found == expected
    assert set(causes) == (set() if name in ("gated-delta-net", "window-llama") else set(CAUSES))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_learns_with_dropout_and_its_seed_decides_its_weights(name: str) -> None:
    model = VARIANTS[name].build(TASK, 0)
    again, other = VARIANTS[name].build(TASK, 0), VARIANTS[name].build(TASK, 1)
    tokens, _ = TASK.rows(2, 3, torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(model.eval()(tokens).logits, again.eval()(tokens).logits)
        assert not torch.equal(model(tokens).logits, other.eval()(tokens).logits)
        model.train()
        assert not torch.equal(model(tokens).logits, model(tokens).logits)
    losses: list[float] = []
    train_recall(model, TASK, steps=12, batch_size=16, on_step=lambda _, loss: losses.append(loss))
    assert losses[-1] < losses[0]


def test_memories_are_put_back_to_what_they_were_after_the_first_segment() -> None:
    """At 2 segments nothing is to be undone; with both undone the rows are as if they had 2, whatever their length."""
    variant = VARIANTS["delta"]
    model = variant.build(TASK, 0)
    shares, causes = recall.ask(variant, model, TASK, (2, 9), 64)
    assert {found[0] for found in causes.values()} == {shares[0]}
    assert causes["M and z"] == (shares[0], shares[0])
    assert shares[1] != causes["M"][1]


def test_states_have_the_size_that_can_be_worked_out_by_hand() -> None:
    layers, heads, width, length = 2, 2, 32, TASK.segment_length
    running = 2 * heads * width
    sizes = {name: recall.count_state(variant, variant.build(TASK, 0), TASK) for name, variant in VARIANTS.items()}
    ours = layers * (heads * (width * width + width) + (length - 1) * running)
    assert {sizes[name] for name in ("linear", "delta", "linear-spread", "delta-spread")} == {ours}
    assert sizes["gated-delta-net"] == layers * (heads * width * width + 3 * 3 * heads * width)
    assert sizes["window-llama"] == layers * (length - 1) * running


def test_a_token_of_the_llama_sees_a_segments_length_back_in_each_layer() -> None:
    model = VARIANTS["window-llama"].build(TASK, 0).eval()
    tokens, _ = TASK.rows(1, 4, torch.Generator().manual_seed(3))
    reach = 2 * (TASK.segment_length - 1)
    changed = tokens.clone()
    changed[:, -reach - 2] += 1
    with torch.no_grad():
        before, after = (model(x).logits[:, -1] for x in (tokens, changed))
        assert torch.equal(before, after)
        changed[:, -reach - 1] += 1
        assert not torch.equal(before, model(changed).logits[:, -1])


def test_results_are_read_as_they_were_written_without_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path, first, second = tmp_path / "new" / "results.jsonl", make_result(), make_result(seed=1)
    assert read_results(path) == []
    append_result(path, first)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert read_results(path) == [first]
    append_result(path, second)
    assert read_results(path) == [first, second]


def test_what_is_there_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[str, int]] = []

    def measure(name: str, seed: int, *, steps: int, rows: int) -> Result:
        measured.append((name, seed))
        return make_result(name, seed, steps, rows)

    monkeypatch.setattr(recall, "measure", measure)
    path = tmp_path / "results.jsonl"
    append_result(path, make_result(steps=5))
    append_result(path, make_result(seed=1))
    command = ["--results", str(path), "--variant", "linear", "--variant", "delta"]
    for _ in range(2):
        assert CliRunner().invoke(recall.main, command).exit_code == 0
        assert measured == [("linear", 0), ("delta", 0), ("delta", 1), ("linear", 2), ("delta", 2)]


def test_the_table_has_what_was_measured_and_names_what_was_not() -> None:
    others = [make_result(seed=1, steps=7), make_result(seed=1, rows=7)]
    text = markdown(
        [make_result(), make_result(seed=2), make_result("gated-delta-net", 2), *others],
        TITLES,
        steps=800,
        rows=64,
    )
    lines = text.splitlines()
    assert "| linear | 0 | 1.000 | 0.938 | 0.875 | 0.812 | 0.750 | 0.688 | 0.625 |" in lines
    assert "| gated DeltaNet | 12,345 | 678 | 0.0012 |" in lines
    assert "| linear | 12,345 | 678 | 0.0012, 0.0012 |" in lines
    assert "| linear | M and z | 0.600 | 0.600 | 0.600 | 0.600 | 0.600 | 0.600 | 0.600 |" in lines
    assert lines[-1].startswith("Not run: linear, seed 1; delta, seed 0; delta, seed 1;")
    everything = [make_result(name, seed) for name in VARIANTS for seed in SEEDS]
    assert "Not run" not in markdown(everything, TITLES, steps=800, rows=64)


def test_a_model_is_trained_and_asked() -> None:
    result = recall.measure("window-llama", 0, steps=2, rows=2, lengths=(2, 5))
    assert len(result.accuracy) == 2
    assert dataclasses.replace(result, accuracy=(), loss=0.0, train_seconds=0.0, parameters=0, state=0) == Result(
        variant="window-llama",
        seed=0,
        steps=2,
        rows=2,
        parameters=0,
        state=0,
        train_seconds=0,
        loss=0,
        accuracy=(),
        causes={},
    )


def test_the_document_has_the_place() -> None:
    assert MARKS.stand_in(README)
