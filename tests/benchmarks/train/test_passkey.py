"""The harness of `make bench-passkey`: rows, training, answers, records and table. No figure is judged here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks.train.passkey import run, table, training
from benchmarks.train.passkey.asking import ask, rows_to_ask
from benchmarks.train.passkey.records import Record, append_record, percent, read_records
from benchmarks.train.passkey.rows import DIGITS, draw_depths, draw_rows, make_row, read_tokens
from benchmarks.train.passkey.run import DEPTHS, LENGTHS, MARKS, README, Recipe, Round
from benchmarks.train.passkey.training import Stage, Training, losses_of, small_model
from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.tasks.passkey import FILLER, KEY, QUESTION, TASK

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "segment_length": 64,
    "memory_write_spread": 2.0,
}
STAGES = (
    Stage(length=192, rows=2, steps=2, introduced=False, led=False, spread=(0.0, 0.0)),
    Stage(length=384, rows=2, steps=2, spread=(0.0, 1.0)),
)


@pytest.mark.parametrize(("depth", "before"), [(0.0, 0), (0.5, 3), (1.0, 6)])
def test_a_row_has_its_length_with_the_passkey_after_whole_sentences(depth: float, before: int) -> None:
    row = make_row("01234", 800, depth)
    text = row.text(0, 800)
    assert row.length == len(text) == 800
    assert text.startswith(TASK + FILLER * before + KEY.format(key="01234"))
    assert text.endswith(f"{QUESTION} 01234")
    assert text.count(FILLER) == 6
    assert text[row.repeated :].startswith("01234 is the pass key.")


def test_a_row_without_room_is_refused() -> None:
    assert make_row("01234", 102, 0.5, introduced=False).length == 102
    with pytest.raises(ValueError, match="found room for 200"):
        make_row("01234", 200, 0.5)


def test_a_row_may_begin_inside_a_sentence() -> None:
    row = make_row("01234", 400, 0.0, introduced=False, lead=10)
    assert row.text(0, 400).startswith(f"{FILLER[-10:]}{KEY.format(key='01234')}")
    assert row.text(row.repeated, 400).startswith("01234 is the pass key.")


def test_pieces_of_a_row_are_the_row() -> None:
    row = make_row("98765", 700, 0.3)
    for size in (1, 64, 89, 90, 500, 700):
        pieces = [row.text(begin, min(begin + size, 700)) for begin in range(0, 700, size)]
        assert "".join(pieces) == row.text(0, 700)


def test_tokens_are_those_of_the_tokenizer() -> None:
    rows = [make_row("98765", 500, 0.3), make_row("01234", 500, 0.9)]
    expected = byte_tokenizer()([row.text(0, 500) for row in rows])["input_ids"]
    assert read_tokens(rows, 0, 500).tolist() == expected
    assert read_tokens(rows, 100, 164).tolist() == [tokens[100:164] for tokens in expected]


def test_rows_to_train_on_end_in_the_segment_in_which_the_question_begins() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = set()
    for number in range(200):
        tokens, repeated = draw_rows(2, 512, 64, generator, introduced=False, led=bool(number % 2))
        length = tokens.shape[1]
        assert (length - len(QUESTION) - DIGITS - 1) // 64 == (length - 1) // 64
        again = tokens[torch.arange(2).unsqueeze(1), repeated.unsqueeze(1) + torch.arange(DIGITS)]
        assert torch.equal(again, tokens[:, -DIGITS:])
        lengths.add(length)
    assert max(lengths) == 512
    assert len(lengths) > 10


def test_some_rows_to_train_on_have_the_passkey_at_either_end() -> None:
    depths = draw_depths(4000, torch.Generator().manual_seed(0))
    assert depths.count(0.0) == pytest.approx(500, abs=80)
    assert depths.count(1.0) == pytest.approx(500, abs=80)
    between = sorted(depth for depth in depths if 0 < depth < 1)
    assert between[len(between) // 2] == pytest.approx(0.5, abs=0.03)
    tokens, repeated = draw_rows(200, 5120, 128, torch.Generator().manual_seed(0), introduced=False, led=False)
    for at_end in (repeated, tokens.shape[1] - repeated):
        assert int((at_end < 2 * len(FILLER)).sum()) > 15


def test_rows_of_one_segment_are_trained_on_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, losses = list[tuple[int, int]](), training.losses_of

    def note(model: Any, tokens: torch.Tensor, repeated: torch.Tensor) -> Any:
        seen.append(tuple(tokens.shape))
        return losses(model, tokens, repeated)

    monkeypatch.setattr(training, "losses_of", note)
    stage = Stage(length=512, rows=2, steps=20, introduced=False, local_rows=3)
    Training(small_model(TINY | {"segment_length": 128}, 0), [stage], tmp_path / "state", seed=0).run(
        lambda *_: None
    )
    assert all(rows == 2 and length > 384 for rows, length in seen[::2])
    lengths = {length for _, length in seen[1::2]}
    assert {rows for rows, _ in seen[1::2]} == {3}
    assert 102 <= min(lengths) < max(lengths) <= 128


def test_the_losses_are_those_of_the_bytes_that_are_meant() -> None:
    model = small_model(TINY, 0).eval()
    tokens, repeated = draw_rows(3, 256, 64, torch.Generator().manual_seed(0), introduced=False, led=True)
    with torch.no_grad():
        of_answers, of_repeated, of_text = losses_of(model, tokens, repeated)
        logits = model(tokens, use_cache=False).logits[:, :-1].log_softmax(-1)
    by_byte = -logits.gather(2, tokens[:, 1:].unsqueeze(2)).squeeze(2)
    here = [by_byte[row, first - 1 : first - 1 + DIGITS] for row, first in enumerate(repeated.tolist())]
    assert float(of_answers) == pytest.approx(float(by_byte[:, -DIGITS:].mean()), rel=1e-5)
    assert float(of_repeated) == pytest.approx(float(torch.stack(here).mean()), rel=1e-5)
    assert float(of_text) == pytest.approx(float(by_byte.mean()), rel=1e-5)


def test_in_the_first_layer_only_local_attention_works() -> None:
    model = small_model(TINY, 0)
    first, second = (layer.self_attn.gate.bias for layer in model.model.layers)
    assert not first.requires_grad
    assert first.sigmoid().tolist() == [0.0, 0.0]
    assert second.requires_grad
    assert second.sigmoid().tolist() == [0.5, 0.5]


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.train.passkey.training._SAVED_EVERY", 1)

    def train(name: str, cut_at: int | None = None) -> dict[str, torch.Tensor]:
        model, seen = small_model(TINY, 0), list[int]()

        def note(step: int, loss: float) -> None:
            seen.append(step)
            if step == cut_at:
                raise KeyboardInterrupt

        Training(model, STAGES, tmp_path / name, seed=0).run(note)
        assert seen[-1] == 4
        assert model.config.memory_write_spread == 2.0
        return model.state_dict()

    straight = train("straight")
    with pytest.raises(KeyboardInterrupt):
        train("cut", cut_at=3)
    for name, weights in train("cut").items():
        assert torch.equal(weights, straight[name])


def test_a_row_that_is_read_as_a_stream_is_answered_as_a_whole_row_is() -> None:
    model = small_model(TINY, 0).eval()
    rows = rows_to_ask(5000, 0.25, 4)
    tokens = read_tokens(rows, 0, 5000)
    with torch.no_grad():
        found = model(tokens, use_cache=False).logits[:, -DIGITS - 1 : -1].argmax(-1)
    right = found == tokens[:, -DIGITS:]
    assert ask(model, rows) == (float(right.float().mean()), float(right.all(1).float().mean()))


def test_keys_depend_on_the_depth_and_not_on_the_length() -> None:
    def keys(length: int, depth: float) -> list[str]:
        return [row.text(length - DIGITS, length) for row in rows_to_ask(length, depth, 4)]

    assert keys(500, 0.5) == keys(900, 0.5)
    assert keys(500, 0.5) != keys(500, 1.0)


@pytest.mark.benchmarks
def test_a_model_is_trained_and_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, results = (
        Recipe(shape=TINY, rounds=(Round(stages=STAGES), Round(stages=STAGES[1:]))),
        tmp_path / "passkey.jsonl",
    )

    def measure() -> list[Record]:
        run.measure(recipe, "linear", 0, work=tmp_path, results=results, lengths=(640,), depths=(0.0, 1.0), keys=2)
        return read_records(results)

    training, *asked = measure()
    assert (training["kind"], training["steps"], training["recipe"]) == ("training", 6, recipe.digest)
    assert [(each["length"], each["depth"], each["asked"]) for each in asked] == [(640, 0.0, 2), (640, 1.0, 2)]
    assert all(each["peak_bytes"] > 50e6 for each in asked)
    monkeypatch.setattr(run, "train", None)
    monkeypatch.setattr(run, "ask_apart", None)
    assert measure() == [training, *asked]


def test_records_of_another_recipe_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "train", lambda recipe, *_: {"kind": "training", "recipe": recipe.digest})
    results = tmp_path / "passkey.jsonl"
    first = Recipe(shape=TINY, rounds=(Round(stages=STAGES),))
    for recipe in (first, Recipe(shape=TINY, rounds=(Round(stages=STAGES[:1]),))):
        run.measure(recipe, "linear", 0, work=tmp_path, results=results, lengths=())
    assert len({each["recipe"] for each in read_records(results)}) == 2


def test_records_are_read_as_they_were_written_without_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    assert read_records(path) == []
    append_record(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": ')
    assert read_records(path) == [{"a": 1}]
    append_record(path, {"a": 2})
    assert read_records(path) == [{"a": 1}, {"a": 2}]


def make_answers(length: int, depth: float, **changed: Any) -> Record:
    known = {"kind": "asking", "variant": "linear", "seed": 0, "length": length, "depth": depth, "asked": 8}
    return {**known, "digits": 1.0, "keys": 1.0, "peak_bytes": 300e6, "seconds": 2.0, **changed}


def test_the_table_has_what_was_measured_and_names_what_was_not() -> None:
    records = [
        make_answers(5_120, 0.0),
        make_answers(5_120, 1.0, digits=0.975, keys=0.875, peak_bytes=310e6),
        make_answers(5_120, 1.0, asked=3),
        {"kind": "training", "variant": "linear", "seed": 0, "parameters": 12345, "steps": 100}
        | {"loss": 0.00123},
    ]
    lines = table.markdown(records, ("linear",), (0, 1), (5_120, 16_384), (0.0, 1.0), 8).splitlines()
    assert "| linear | 0 | 5,120 | 100 % | 87.5 % (97.5 %) | 300–310 MB | 20,480 |" in lines
    assert "| linear | 0 | 12,345 | 100 | 0.0012 |" in lines
    assert lines[-1] == "Not run: linear, seed 1; linear, seed 0, 16,384 bytes at 0%, 100%."
    everything = [make_answers(length, depth) for length in LENGTHS for depth in DEPTHS]
    assert "Not run" not in table.markdown(everything, ("linear",), (0,), LENGTHS, DEPTHS, 8)


def test_a_share_is_100_percent_only_where_nothing_is_missing() -> None:
    assert [percent(share) for share in (1.0, 0.9999, 0.899999976, 0.0)] == ["100 %", "99.9 %", "90 %", "0 %"]


def test_a_report_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure", None)
    done = CliRunner().invoke(run.main, ["--report-only", "--work", str(tmp_path)])
    assert done.exit_code == 0
    assert "Not run: linear, seed 0; linear, seed 1; delta, seed 0; delta, seed 1." in done.output
    assert not list(tmp_path.iterdir())


def test_the_document_has_the_place() -> None:
    assert MARKS.stand_in(README)
