"""The commands beside `train`, as a user meets them: processes, an installed bundle, a folder with a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bundler.install import install
from tests.bundles import locked_repo, tiny_bundle
from tests.infini_llama.test_cli import infini_llama


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, gpt2_home: Path) -> Path:
    """Return a model that the command made of a tiny Llama in an installed bundle."""
    folder, home = tmp_path_factory.mktemp("llama"), tmp_path_factory.mktemp("home")
    (snapshot,) = gpt2_home.glob("hub/models--openai-community--gpt2/snapshots/*")
    AutoTokenizer.from_pretrained(snapshot, local_files_only=True).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"vocab_size": 50257, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, tie_word_embeddings=True)).save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    repo = locked_repo("org/llama", files, aliases=["llama"])
    install(tiny_bundle(tmp_path_factory.mktemp("bundle"), repo, contents=files.values()), home)
    output = tmp_path_factory.mktemp("out") / "start"
    run = infini_llama(
        *("convert", "--bundle", "tiny", "--model", "llama", "--hf-home", home, "--segment-length", "16"),
        *("--output-dir", output, "--json"),
    )
    assert run.returncode == 0, run.stderr
    done = json.loads(run.stdout)
    assert (done["gates"], done["largest_difference"] < 1e-5) == (2, True)
    return output


def test_a_converted_model_goes_on_with_a_text_over_several_segments(converted: Path) -> None:
    run = infini_llama("generate", converted, "--prompt", "The cat sat", "--max-new-tokens", "40")
    assert run.returncode == 0, run.stderr
    assert len(run.stdout) > 40


def test_perplexities_are_printed_by_segment(converted: Path, raw_data: Path) -> None:
    run = infini_llama("eval", converted, "--raw-data", raw_data, "--json")
    assert run.returncode == 0, run.stderr
    table = json.loads(run.stdout)
    assert (table["documents"], table["segment_length"]) == (2, 16)
    assert [(s["first"], s["last"]) for s in table["stretches"]][:3] == [(1, 1), (2, 2), (3, 4)]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    run = infini_llama("generate", tmp_path, "--prompt", "x")
    assert run.returncode == 9
    assert "expected a model and its tokenizer" in run.stderr
    assert run.stdout == ""


def test_recall_prints_a_line_per_seed() -> None:
    run = infini_llama("recall", "--seed", "5", "--steps", "2", "--segments", "2", "--segments", "3")
    assert run.returncode == 0, run.stderr
    header, line = run.stdout.splitlines()
    assert header.split() == ["update", "seed", "2", "3"]
    assert line.split()[:2] == ["linear", "5"]
