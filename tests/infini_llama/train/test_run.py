from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bundler.errors import NotInstalledError
from bundler.home.home import Home
from bundler.home.installed import InstalledBundle
from infini_llama import InfiniLlamaForCausalLM
from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.data.tokenizing import ENDS, PLACES
from infini_llama.errors import ConfigError
from infini_llama.model.attention import InfiniLlamaAttention
from infini_llama.model.load import new_config
from infini_llama.run_folder import checkpoints
from infini_llama.settings.sections import Settings, load, parse
from infini_llama.train.run import Summary, train
from tests.infini_llama.conftest import write_raw_data

CONFIG = """\
tokenizer: gpt2
model:
  hidden_size: 16
  intermediate_size: 24
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 1
  segment_length: 16
data: {segments_per_row: 4}
training:
  steps: 6
  batch_size: 2
  learning_rate: 3e-2
  weight_decay: null
  log_every_steps: 1
  checkpoint_every_steps: 3
"""


def configured(*overrides: str) -> Settings:
    return parse(CONFIG, overrides=overrides)


def weights(checkpoint: Path) -> bytes:
    return (checkpoint / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, gpt2_home: Path) -> Summary:
    folder = tmp_path_factory.mktemp("trained")
    bundle, text = Home(gpt2_home).bundle("tiny"), write_raw_data(folder / "raw")
    return train(configured(), bundle, raw_data=text, output_dir=folder / "run")


@pytest.fixture
def trained(trained_once: Summary, tmp_path: Path) -> Summary:
    """Return a finished run, in a folder that the test may change."""
    checkpoint = Path(trained_once.checkpoint)
    shutil.copytree(checkpoint.parent, tmp_path / "run")
    return dataclasses.replace(trained_once, checkpoint=str(tmp_path / "run" / checkpoint.name))


def test_a_fresh_model_has_every_value_of_the_configurations_model_section() -> None:
    model = configured(
        *(
            "model.memory_update=delta",
            "model.gate_init=-1.5",
            "model.embedding_dropout=0.25",
            "model.memory_write_spread=3.5",
            "model.rope_theta=5000",
        ),
        *("model.tie_word_embeddings=false", "model.initializer_range=0.1"),
    )
    config = new_config(model, byte_tokenizer())
    wanted = dataclasses.asdict(model.model)
    assert config.rope_parameters["rope_theta"] == wanted.pop("rope_theta")
    assert {name: getattr(config, name) for name in wanted} == wanted


def test_a_run_learns_with_a_weight_decay_of_null(trained: Summary) -> None:
    assert trained.steps == 6
    assert trained.first_loss > 10.5  # ln 50257 = 10.8
    assert trained.last_loss < trained.first_loss - 1


def test_a_run_writes_nothing_to_stdout(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(configured("training.steps=2"), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run")
    out, err = capfd.readouterr()
    assert out == ""
    assert "note: training.weight_decay is null: taken as 0.0" in err
    assert "step 2/2  loss" in err


def test_a_checkpoint_loads_by_the_auto_classes_and_generates_over_several_segments(trained: Summary) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained.checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(trained.checkpoint, local_files_only=True)
    assert isinstance(model, InfiniLlamaForCausalLM)
    prompt = tokenizer("The cat sat", return_tensors="pt")
    generated = model.generate(**prompt, max_new_tokens=40, min_new_tokens=40, do_sample=False, pad_token_id=0)
    assert generated.shape[1] == prompt["input_ids"].shape[1] + 40


def test_a_checkpoint_says_what_it_was_made_from(trained: Summary, gpt2_bundle: InstalledBundle) -> None:
    checkpoint = Path(trained.checkpoint)
    provenance = json.loads((checkpoint / "provenance.json").read_text())
    assert provenance["bundle_digest"] == gpt2_bundle.digest
    assert provenance["tokenizer_commit"] == gpt2_bundle.lock.repos[0].commit
    assert provenance["data"]["files"] == 2
    assert provenance["step"] == 6
    assert sorted(provenance["files"]) == sorted(
        p.name for p in checkpoint.iterdir() if p.name != "provenance.json"
    )
    assert load(checkpoint / "train.yaml") == configured()


def test_a_resumed_run_ends_with_the_weights_of_a_straight_one(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    straight = weights(Path(trained.checkpoint))
    run = tmp_path / "run"
    shutil.rmtree(run / "checkpoint-6")
    resumed = train(
        configured(), gpt2_bundle, raw_data=raw_data, output_dir=run, resume_from=checkpoints.find_latest(run)
    )
    assert resumed.resumed_from == str(run / "checkpoint-3")
    assert weights(run / "checkpoint-6") == straight
    assert (resumed.first_loss, resumed.last_loss, resumed.tokens) == (
        trained.first_loss,
        trained.last_loss,
        trained.tokens,
    )


def test_a_run_that_is_resumed_while_the_spread_grows_ends_with_the_weights_of_a_straight_one(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = ("model.memory_write_spread=4", "training.spread_warmup_steps=5", "training.backprop_segments=2")
    settings, run = configured(*growing, "training.gradient_accumulation_steps=2"), tmp_path / "run"
    seen: list[float] = []
    vary = InfiniLlamaAttention._vary

    def watched(attention: InfiniLlamaAttention, keys: torch.Tensor, spread: torch.Tensor | None) -> torch.Tensor:
        if attention.training:
            seen.append(float("nan") if spread is None else spread.tolist())
        return vary(attention, keys, spread)

    monkeypatch.setattr(InfiniLlamaAttention, "_vary", watched)
    straight = train(settings, gpt2_bundle, raw_data=raw_data, output_dir=run)
    end = weights(Path(straight.checkpoint))
    steps = torch.tensor(seen).view(6, -1)
    assert (steps == torch.tensor([0.8, 1.6, 2.4, 3.2, 4.0, 4.0]).unsqueeze(1)).all()
    shutil.rmtree(run / "checkpoint-6")
    train(settings, gpt2_bundle, raw_data=raw_data, output_dir=run, resume_from=run / "checkpoint-3")
    assert weights(run / "checkpoint-6") == end
    assert json.loads((run / "checkpoint-3" / "config.json").read_text())["memory_write_spread"] == 4.0


def test_a_resumed_run_goes_by_the_rates_that_are_configured_now(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path
) -> None:
    run = Path(trained.checkpoint).parent
    before = [json.loads(line)["learning_rate"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(trained.checkpoint)
    changed = configured(
        "training.learning_rate=6e-2", "training.gate_learning_rate=0.02", "training.weight_decay=0.3"
    )
    done = train(changed, gpt2_bundle, raw_data=raw_data, output_dir=run, resume_from=run / "checkpoint-3")
    after = [json.loads(line)["learning_rate"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert after[:3] == before[:3]
    assert after[3:] == [{name: 2 * rate for name, rate in line.items()} for line in before[3:]]
    groups = torch.load(Path(done.checkpoint) / "optimizer.pt")["param_groups"]
    assert {group["name"]: group["weight_decay"] for group in groups} == {
        "decay": 0.3,
        "no_decay": 0.0,
        "gates": 0.0,
    }


def test_a_changed_rate_is_come_to_in_steps_that_may_be_interrupted(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path
) -> None:
    run = Path(trained.checkpoint).parent
    shutil.rmtree(trained.checkpoint)
    more = ("training.steps=8", "training.schedule=constant", "training.checkpoint_every_steps=1")
    changed = configured(
        *more, "training.learning_rate=6e-2", "training.rewarm_steps=4", "training.keep_checkpoints=9"
    )

    def rates() -> list[float]:
        train(changed, gpt2_bundle, raw_data=raw_data, output_dir=run, resume_from=checkpoints.find_latest(run))
        return [
            json.loads(line)["learning_rate"]["decay"] for line in (run / "metrics.jsonl").read_text().splitlines()
        ]

    straight, end = rates(), weights(run / "checkpoint-8")
    # The rate of the line of step n is that of step n + 1.
    before = straight[2]
    assert before < 0.03
    assert straight[2:] == pytest.approx([before + (0.06 - before) * part / 4 for part in (0, 1, 2, 3, 4, 4)])
    for step in (6, 7, 8):
        shutil.rmtree(run / f"checkpoint-{step}")
    assert rates() == straight
    assert weights(run / "checkpoint-8") == end


def test_a_resumed_run_logs_and_saves_in_the_intervals_that_are_configured_now(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path
) -> None:
    run = Path(trained.checkpoint).parent
    shutil.rmtree(trained.checkpoint)
    intervals = ("training.log_every_steps=2", "training.checkpoint_every_steps=2")
    changed = configured(*intervals, "training.steps=8", "training.keep_checkpoints=3")
    train(changed, gpt2_bundle, raw_data=raw_data, output_dir=run, resume_from=run / "checkpoint-3")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 6, 8]
    assert [path.name for path in checkpoints.list_checkpoints(run)] == [f"checkpoint-{n}" for n in (4, 6, 8)]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    again = train(configured(), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "again")
    other = train(configured("seed=1"), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "other")
    assert weights(Path(again.checkpoint)) == weights(Path(trained.checkpoint))
    assert weights(Path(other.checkpoint)) != weights(Path(trained.checkpoint))


def test_gates_move_at_a_rate_of_their_own(trained: Summary) -> None:
    state = torch.load(Path(trained.checkpoint) / "optimizer.pt", weights_only=True)
    assert [(g["name"], g["initial_lr"], g["weight_decay"]) for g in state["param_groups"]] == [
        ("decay", 0.03, 0.0),
        ("no_decay", 0.03, 0.0),
        ("gates", 0.01, 0.0),
    ]


@pytest.mark.parametrize("override", ["model.memory_update=delta", "data.share_segments=true"])
def test_other_ways_to_train_learn_too(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path, override: str
) -> None:
    summary = train(configured(override), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run")
    assert summary.last_loss < summary.first_loss - 1


def test_activation_checkpointing_changes_no_weight(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    other = configured("training.activation_checkpointing=true")
    summary = train(other, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "other")
    assert summary.last_loss < summary.first_loss - 1
    assert weights(Path(summary.checkpoint)) == weights(Path(trained.checkpoint))


def test_tokens_that_are_kept_nowhere_train_the_same_weights(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    settings = configured("data.keep_tokens=false")
    again = train(settings, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "again")
    assert weights(Path(again.checkpoint)) == weights(Path(trained.checkpoint))
    assert {path.name for path in (tmp_path / "again" / "tokens").rglob("*.bin")} == {ENDS, PLACES}


def test_truncated_back_propagation_sees_the_loss_of_the_whole_row_and_learns(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    truncated = configured("training.backprop_segments=1")
    summary = train(truncated, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "other")
    assert summary.first_loss == pytest.approx(trained.first_loss, abs=1e-6)
    assert summary.last_loss < summary.first_loss - 1
    assert summary.tokens == trained.tokens


def test_short_documents_share_segments_in_rows_that_are_split_too(
    gpt2_bundle: InstalledBundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "short.jsonl"
    lines = [{"text": f"The {word} sat on the mat."} for word in ("cat", "dog", "cow", "hen") * 40]
    text.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    apart = train(configured(), gpt2_bundle, raw_data=text, output_dir=tmp_path / "apart")
    assert "data.share_segments: true fills it" in capfd.readouterr().err
    shared = configured("data.share_segments=true", "training.backprop_segments=2")
    summary = train(shared, gpt2_bundle, raw_data=text, output_dir=tmp_path / "shared")
    said = capfd.readouterr().err
    assert re.search(r"9\d% full|100% full", said)
    assert "note: the rest is padding" not in said
    assert summary.tokens > 1.5 * apart.tokens
    assert summary.last_loss < summary.first_loss - 1


def test_truncated_back_propagation_over_a_whole_row_changes_no_weight(
    trained: Summary, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    other = configured("training.backprop_segments=4")
    summary = train(other, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "other")
    assert weights(Path(summary.checkpoint)) == weights(Path(trained.checkpoint))


def test_another_model_than_the_checkpoints_is_refused_and_other_settings_are_named(
    trained: Summary,
    gpt2_bundle: InstalledBundle,
    raw_data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = {"raw_data": raw_data, "output_dir": tmp_path / "run", "resume_from": Path(trained.checkpoint)}
    with pytest.raises(ConfigError, match=r"model\.num_hidden_layers was 1 and is 2"):
        train(configured("model.num_hidden_layers=2"), gpt2_bundle, **run)
    summary = train(configured("training.steps=7"), gpt2_bundle, **run)
    assert summary.steps == 7
    assert "note: training.steps was 6 and is 7\n" in capfd.readouterr().err


def test_a_tokenizer_that_the_bundle_lacks_is_named_and_nothing_is_built(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotInstalledError, match="bundle tiny has no model 'gpt3'"):
        train(configured("tokenizer=gpt3"), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
