"""Tiny models in float64, and the switches that make float64 mean it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM
from infini_llama.cli import main
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.process import run

# Tiny tensors gain nothing from a second thread, and two threads that wait for each other on a busy core lose a
# hundredfold.
torch.set_num_threads(1)

MakeModel = Callable[..., InfiniLlamaForCausalLM]
RunHere = Callable[..., subprocess.CompletedProcess[str]]


def run_program(module: str, folder: Path) -> dict[str, Any]:
    """Run trainings that a module of tests makes below `folder`, in a process of their own; return what it prints."""
    env = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
    found: dict[str, Any] = json.loads(run([sys.executable, "-m", module, folder], env=env).stdout)
    return found


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> RunHere:
    """Return what runs a command on a model in this process, in which torch is loaded already.

    It leaves the network as it is: shutting it starts a program again.
    """
    for module in ("checkpoint", "recall"):
        monkeypatch.setattr(f"infini_llama.cli.{module}.enforce_offline", lambda **_: [])

    def run_words(*words: object) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(main, [str(word) for word in words])
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return run_words


@pytest.fixture
def double_precision_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let RMSNorm compute in the model's dtype.

    The stock norm rounds to float32 whatever comes in, which now and then turns a difference of 1e-16 before it
    into one of 1e-7 after it. Both sides of a comparison get the same replacement.
    """

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * (x * scale)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


@pytest.fixture
def make_model(double_precision_norm: None) -> MakeModel:
    """Return a builder of tiny float64 models with grouped-query attention and gates of all kinds."""

    def make(**overrides: Any) -> InfiniLlamaForCausalLM:
        torch.manual_seed(0)
        settings: dict[str, Any] = {
            "vocab_size": 61,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "segment_length": 8,
            # Far from the default 0.02: the tests should see the attention, not the residual stream around it.
            "initializer_range": 0.3,
        }
        model = InfiniLlamaForCausalLM(InfiniLlamaConfig(**settings | overrides)).double().eval()
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.gate.bias, std=2.0)
        return model

    return make


@pytest.fixture
def tokens() -> torch.Tensor:
    """Return two rows of 29 tokens: three full segments of eight, and five tokens more."""
    return torch.randint(1, 61, (2, 29), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def gpt2_home(tmp_path_factory: pytest.TempPathFactory, demo_hub_dir: Path) -> Path:
    """Return an HF_HOME in which a bundle `tiny` with GPT-2's real tokenizer is installed; to be read only."""
    folder = demo_hub_dir / "openai-community" / "gpt2"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    repo = locked_repo("openai-community/gpt2", files, kind="tokenizer", aliases=["gpt2"])
    home = tmp_path_factory.mktemp("hf-home")
    install(tiny_bundle(tmp_path_factory.mktemp("bundle"), repo, contents=files.values()), home)
    return home


@pytest.fixture
def gpt2_bundle(gpt2_home: Path) -> InstalledBundle:
    """Return that bundle."""
    return Home(gpt2_home).bundle("tiny")


@pytest.fixture
def raw_data(tmp_path: Path) -> Path:
    """Return a folder with two short English texts that repeat themselves, so that a tiny model can learn them."""
    return write_raw_data(tmp_path / "raw")


def write_raw_data(folder: Path) -> Path:
    """Make that folder."""
    folder.mkdir()
    (folder / "a.txt").write_text("The cat sat on the mat, and the dog sat on the cat. " * 12)
    (folder / "b.txt").write_text("One two three four five six seven eight nine ten. " * 9)
    return folder


def aligned(model: InfiniLlamaForCausalLM) -> InfiniLlamaForCausalLM:
    """Copy the weights to where torch would have put them.

    Those that are mapped from a file stand where its header ends, and some processors add up in another order there:
    the logits then differ in their last bits.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model
