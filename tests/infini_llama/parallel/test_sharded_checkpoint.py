"""Shards in one process; `test_sharded_runs` has several write and read them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from infini_llama import InfiniLlamaForCausalLM
from infini_llama.cli import main
from infini_llama.errors import ConfigError
from infini_llama.parallel import sharded_checkpoint
from infini_llama.parallel.sharded_checkpoint import export, load_optimizer, load_weights, save, save_in_background
from infini_llama.run_folder import checkpoints
from infini_llama.run_folder.checkpoints import SHARDS, incoming_folder, publish
from infini_llama.run_folder.provenance import read_provenance
from tests.infini_llama.conftest import MakeModel, aligned
from tests.infini_llama.run_folder.test_checkpoints import PROVENANCE


def after_a_step(model: InfiniLlamaForCausalLM, tokens: torch.Tensor) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()
    return optimizer


@pytest.fixture
def model(make_model: MakeModel) -> InfiniLlamaForCausalLM:
    return make_model(pad_token_id=0)


@pytest.fixture
def checkpoint(model: InfiniLlamaForCausalLM, tokens: torch.Tensor, tmp_path: Path) -> Path:
    """Return a published checkpoint in shards."""
    folder = incoming_folder(tmp_path) / "checkpoint-1"
    model.config.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    save(model, after_a_step(model, tokens), folder)
    return publish(folder, tmp_path, PROVENANCE, step=1, keep=1)


def test_weights_and_moments_are_read_back_bit_for_bit(
    model: InfiniLlamaForCausalLM, make_model: MakeModel, tokens: torch.Tensor, tmp_path: Path
) -> None:
    optimizer = after_a_step(model, tokens)
    save(model, optimizer, tmp_path)
    other = make_model(gate_init=3.0)
    others = torch.optim.AdamW(other.parameters(), lr=1e-4)
    load_weights(other, tmp_path)
    load_optimizer(other, others, tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(other.parameters(), model.parameters(), strict=True))
    torch.testing.assert_close(others.state_dict()["state"], optimizer.state_dict()["state"], rtol=0, atol=0)
    assert others.param_groups[0]["lr"] == 1e-4


def test_what_changes_while_it_is_written_is_not_in_the_checkpoint(
    model: InfiniLlamaForCausalLM, tokens: torch.Tensor, tmp_path: Path
) -> None:
    optimizer = after_a_step(model, tokens)
    before = [p.detach().clone() for p in model.parameters()]
    writing = save_in_background(model, optimizer, tmp_path, None)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(7)
    sharded_checkpoint.wait_for(writing)
    load_weights(model, tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("in_background", [False, True])
def test_a_disk_that_cannot_be_written_to_is_an_error_of_the_system(
    model: InfiniLlamaForCausalLM, tokens: torch.Tensor, tmp_path: Path, in_background: bool
) -> None:
    optimizer = after_a_step(model, tokens)
    (tmp_path / SHARDS).mkdir()
    (tmp_path / SHARDS / "__0_0.distcp").mkdir()
    with pytest.raises(IsADirectoryError):
        if in_background:
            sharded_checkpoint.wait_for(save_in_background(model, optimizer, tmp_path, None))
        else:
            save(model, optimizer, tmp_path)


def test_another_models_weights_are_refused(make_model: MakeModel, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.layers\.0\.mlp\.down_proj\.weight, .* differ"):
        load_weights(make_model(intermediate_size=40), checkpoint)


@pytest.mark.parametrize("most_bytes", [5 << 30, 20_000], ids=["one-file", "several-files"])
def test_an_export_is_what_from_pretrained_reads(
    model: InfiniLlamaForCausalLM,
    checkpoint: Path,
    tokens: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most_bytes: int,
) -> None:
    monkeypatch.setattr(sharded_checkpoint, "FILE_BYTES", most_bytes)
    # Shutting the network starts a program again.
    monkeypatch.setattr("infini_llama.cli.export.enforce_offline", lambda **_: [])
    output_dir = tmp_path / "exported"
    run = CliRunner().invoke(main, ["export", str(checkpoint), "--output-dir", str(output_dir)])
    assert run.exit_code == 0
    assert run.stdout.split()[-1] == f"{sum(p.numel() for p in model.parameters()):,}"
    loaded = InfiniLlamaForCausalLM.from_pretrained(output_dir, dtype=torch.float64)
    assert torch.equal(aligned(loaded)(tokens).logits, model(tokens).logits)
    assert (output_dir / "model.safetensors.index.json").is_file() == (most_bytes == 20_000)
    assert checkpoints.is_complete(output_dir)
    assert read_provenance(output_dir)["step"] == 1
    assert not (output_dir / SHARDS).exists()


def test_what_is_no_complete_checkpoint_in_shards_is_not_exported(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists"):
        export(checkpoint, checkpoint)
    (checkpoint / SHARDS / "__0_0.distcp").write_bytes(b"cut")
    with pytest.raises(ConfigError, match="expected a complete checkpoint with a folder shards"):
        export(checkpoint, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_program_that_needs_whole_weights_says_how_to_get_them(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infini_llama.cli.checkpoint.enforce_offline", lambda **_: [])
    run = CliRunner().invoke(main, ["generate", str(checkpoint), "--prompt", "x"])
    assert run.exit_code == ConfigError.exit_code
    assert f"infini-llama export {checkpoint}" in run.output
