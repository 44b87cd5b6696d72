"""What a run starts with: a converted Llama, all of it, or a refusal that says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from bundler.errors import IntegrityError
from bundler.home.installed import InstalledBundle
from infini_llama.errors import ConfigError
from infini_llama.model.convert import convert
from infini_llama.run_folder import checkpoints
from infini_llama.train.run import train
from tests.infini_llama.train.test_run import configured, weights

# More rows of embeddings than GPT-2's tokenizer has tokens, as models often have.
VOCABULARY = 50_304
SEGMENT = 16


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("models") / "llama"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def start(llama: Path) -> Path:
    folder = llama.with_name("start")
    convert(llama, folder, segment_length=SEGMENT, origin={"repo": "org/llama", "commit": "c" * 40})
    return folder


def test_a_run_starts_with_the_weights_of_the_folder_in_float32(
    start: Path, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    # A rate at which no float32 number moves.
    still = configured("training.steps=1", "training.learning_rate=1e-30", "training.gate_learning_rate=1e-30")
    done = train(still, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run", start_from=start)
    before, after = (load_file(folder / "model.safetensors") for folder in (start, Path(done.checkpoint)))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor.float(), rtol=0, atol=1e-20)


def test_a_checkpoint_says_what_its_run_started_with_and_resuming_needs_no_mention_of_it(
    start: Path, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    straight = train(configured(), gpt2_bundle, raw_data=raw_data, output_dir=run, start_from=start)
    record = json.loads((run / "checkpoint-6" / "provenance.json").read_text())["started_from"]
    assert record["folder"] == str(start)
    assert record["provenance"]["converted_from"] == {"repo": "org/llama", "commit": "c" * 40}
    expected = weights(Path(straight.checkpoint))
    shutil.rmtree(run / "checkpoint-6")
    train(configured(), gpt2_bundle, raw_data=raw_data, output_dir=run, resume_from=checkpoints.find_latest(run))
    assert weights(run / "checkpoint-6") == expected
    assert json.loads((run / "checkpoint-6" / "provenance.json").read_text())["started_from"] == record


def test_another_model_than_the_configured_one_is_refused_with_every_difference(
    start: Path, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    other = configured("model.segment_length=32", "model.memory_update=delta", "model.intermediate_size=20")
    with pytest.raises(ConfigError) as caught:
        train(other, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run", start_from=start)
    assert caught.value.message == (
        f"{start} holds another model than the configuration describes"
        "\n  model.intermediate_size: expected 20, found 24"
        "\n  model.segment_length: expected 32, found 16"
        "\n  model.memory_update: expected 'delta', found 'linear'"
    )


def test_a_model_without_room_for_the_tokenizer_is_refused(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path, llama: Path
) -> None:
    small = LlamaConfig.from_pretrained(llama, vocab_size=100)
    LlamaForCausalLM(small).save_pretrained(tmp_path / "small")
    convert(tmp_path / "small", tmp_path / "start", segment_length=SEGMENT, origin={})
    with pytest.raises(ConfigError, match="embeddings for 100 tokens, and the tokenizer gpt2 has 50,257"):
        train(
            configured(), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "r", start_from=tmp_path / "start"
        )


def test_a_plain_llama_and_a_folder_without_a_model_are_refused_with_the_way_to_one(
    llama: Path, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    for folder, expected in (
        (llama, "expected a model of type 'infini_llama', found 'llama'"),
        (tmp_path, "config.json"),
    ):
        with pytest.raises(ConfigError, match=expected) as caught:
            train(configured(), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run", start_from=folder)
        assert "infini-llama convert" in str(caught.value.hint)


def test_a_folder_whose_weights_are_not_whole_is_refused(
    start: Path, gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(start, tmp_path / "broken"))
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(IntegrityError, match=r"missing: model\.layers\.0\.mlp\.up_proj\.weight"):
        train(configured(), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run", start_from=broken)
