"""The commands beside `train`, as a user meets them: processes, an installed bundle, a folder with a model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bundler.home.installation.install import install
from infini_llama.run_folder.metrics import append
from infini_llama.run_folder.recalled import PASSKEYS, RECALL, read_recalled
from tests.infini_llama.cli.test_cli import infini_llama
from tests.infini_llama.conftest import RunHere
from tests.infini_llama.report.test_report import STEP
from tests.support.bundles import locked_repo, tiny_bundle


@pytest.fixture(scope="module")
def llama_home(tmp_path_factory: pytest.TempPathFactory, gpt2_home: Path) -> Path:
    """Return an HF_HOME in which a bundle `tiny` with a tiny Llama is installed."""
    folder, home = tmp_path_factory.mktemp("llama"), tmp_path_factory.mktemp("home")
    (snapshot,) = gpt2_home.glob("hub/models--openai-community--gpt2/snapshots/*")
    AutoTokenizer.from_pretrained(snapshot, local_files_only=True).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"vocab_size": 50257, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, tie_word_embeddings=True)).save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    repo = locked_repo("org/llama", files, aliases=["llama"])
    install(tiny_bundle(tmp_path_factory.mktemp("bundle"), repo, contents=files.values()), home)
    return home


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, llama_home: Path) -> Path:
    """Return a model that the command made of it."""
    output = tmp_path_factory.mktemp("out") / "start"
    run = infini_llama(
        *("convert", "--bundle", "tiny", "--model", "llama", "--hf-home", llama_home, "--segment-length", "16"),
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


def test_perplexities_are_printed_by_segment(converted: Path, raw_data: Path, run_here: RunHere) -> None:
    run = run_here("eval", converted, "--raw-data", raw_data, "--json")
    assert run.returncode == 0, run.stderr
    table = json.loads(run.stdout)
    assert (table["documents"], table["segment_length"]) == (2, 16)
    assert [(s["first"], s["last"]) for s in table["stretches"]][:3] == [(1, 1), (2, 2), (3, 4)]


def test_a_folder_without_a_model_is_refused(tmp_path: Path, run_here: RunHere) -> None:
    run = run_here("generate", tmp_path, "--prompt", "x")
    assert run.returncode == 9
    assert "expected a model and its tokenizer" in run.stderr
    assert run.stdout == ""


def test_the_auto_class_loads_it_and_generates_past_several_segments_what_the_command_streams(
    converted: Path, run_here: RunHere
) -> None:
    """With nothing of ours but the import that registers the model: segments are of 16 tokens."""
    code = (
        "import sys, infini_llama.model.modeling; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "ids = tokenizer('The cat sat', return_tensors='pt').input_ids\n"
        "said = model.generate(ids, max_new_tokens=60, do_sample=False)[0, ids.shape[1]:]\n"
        "sys.stdout.write(tokenizer.decode(said, skip_special_tokens=True))"
    )
    run = subprocess.run([sys.executable, "-c", code, converted], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    streamed = run_here("generate", converted, "--prompt", "The cat sat", "--max-new-tokens", "60")
    assert run.stdout == streamed.stdout.removesuffix("\n")


def test_an_empty_prompt_is_a_usage_error(converted: Path, run_here: RunHere) -> None:
    run = run_here("generate", converted, "--prompt", "")
    assert (run.returncode, run.stdout) == (2, "")
    assert "the prompt is empty" in run.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--prompt", "caf\udce9"), "the prompt is not UTF-8: byte 0xe9 at 3"),
        (("--prompt", "x", "--temperature", "nan"), "'nan' is no number"),
        (("--prompt", "x", "--seed", 2**70), "not in the range 0<=x<=4294967295"),
    ],
)
def test_what_no_prompt_number_or_seed_is_is_a_usage_error(
    converted: Path, run_here: RunHere, words: tuple[object, ...], told: str
) -> None:
    run = run_here("generate", converted, *words)
    assert (run.returncode, run.stdout) == (2, "")
    assert told in run.stderr


@pytest.mark.parametrize("lost", ["cut", "no header", "missing", "a weight", "tokenizer"])
def test_a_damaged_model_is_told_without_a_traceback(
    converted: Path, tmp_path: Path, run_here: RunHere, lost: str
) -> None:
    folder = shutil.copytree(converted, tmp_path / "model")
    weights = folder / "model.safetensors"
    match lost:
        case "cut":
            os.truncate(weights, 100)
        case "no header":
            weights.write_bytes(b"\xff" * 100)
        case "missing":
            weights.unlink()
        case "a weight":
            tensors = load_file(weights)
            tensors.pop("model.norm.weight")
            save_file(tensors, weights, metadata={"format": "pt"})
        case "tokenizer":
            (folder / "tokenizer.json").write_text("{")
    run = run_here("generate", folder, "--prompt", "x")
    assert (run.returncode, run.stdout) == (6, "")
    assert f"error: {folder}" in run.stderr


def test_recall_prints_a_line_per_variant_and_seed_and_controls_once(run_here: RunHere) -> None:
    variants = ("--variant", "delta", "--variant", "gates-shut", "--variant", "detached")
    run = run_here("recall", *variants, "--seed", "5", "--seed", "6", "--steps", "1", "--segments", "2")
    assert run.returncode == 0, run.stderr
    header, *lines = run.stdout.splitlines()
    assert header.split() == ["variant", "seed", "2"]
    assert [line.split()[:2] for line in lines] == [
        ["delta", "5"],
        ["delta", "6"],
        ["gates-shut", "5"],
        ["detached", "5"],
    ]


def test_recall_puts_its_results_on_the_page_of_a_run(tmp_path: Path, run_here: RunHere) -> None:
    few = ("--variant", "linear", "--seed", "5", "--steps", "1", "--rows", "2", "--segments", "2", "--json")
    nothing = run_here("recall", *few, "--report", tmp_path)
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "expected the folder of a run, found no line of metrics.jsonl" in nothing.stderr
    append(tmp_path, {**STEP, "step": 1})
    run = run_here("recall", *few, "--report", tmp_path)
    assert run.returncode == 0, run.stderr
    assert [json.loads(line) for line in run.stdout.splitlines()] == read_recalled(tmp_path, RECALL)
    assert "<td>linear, seed 5</td>" in (tmp_path / "report.html").read_text()


def test_recall_asks_a_checkpoint_for_passkeys_at_growing_lengths(converted: Path, run_here: RunHere) -> None:
    run = run_here("recall", converted, "--segments", "6", "--segments", "12", "--prompts", "2")
    assert run.returncode == 0, run.stderr
    assert [line.split() for line in run.stdout.splitlines()] == [
        ["segments", "tokens", "start", "middle", "end"],
        ["6", "96", "0.00", "0.00", "0.00"],
        ["12", "192", "0.00", "0.00", "0.00"],
    ]


def test_passkeys_are_put_on_the_page_of_a_run(converted: Path, tmp_path: Path, run_here: RunHere) -> None:
    append(tmp_path, {**STEP, "step": 1})
    run = run_here("recall", converted, "--segments", "6", "--prompts", "1", "--report", tmp_path, "--json")
    assert run.returncode == 0, run.stderr
    assert [json.loads(line) for line in run.stdout.splitlines()] == read_recalled(tmp_path, PASSKEYS)
    assert "<h2>Passkeys, by length of the text</h2>" in (tmp_path / "report.html").read_text()


def test_a_passkey_that_does_not_fit_is_a_usage_error(converted: Path, run_here: RunHere) -> None:
    run = run_here("recall", converted, "--segments", "2")
    assert run.returncode == 2
    assert "--segments 2: task, passkey and question take" in run.stderr
