"""`bundle pack`: checkpoints of a run, carried on over the bundle that brought what they began as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from transformers import LlamaConfig, LlamaForCausalLM

from bundler.cli import main
from bundler.errors import UsageError
from bundler.format.reader import BundleReader
from bundler.home.installation.install import install
from bundler.make.trained.pack import pack_folder
from tests.support.bundles import locked_repo, tiny_bundle


def write_run(run: Path) -> bytes:
    """Write two checkpoints; return the weights that they began as."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=4096, **sizes)).to(torch.bfloat16)
    model.save_pretrained(run / "begun")
    for step in (5, 10):
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_((torch.rand_like(weights) < 0.1) * 1e-4)
        model.save_pretrained(run / f"checkpoint-{step}")
        (run / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return (run / "begun" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_checkpoints_are_proven_packed_as_revisions_and_carried_as_differences(tmp_path: Path) -> None:
    begun = write_run(tmp_path / "Run 1")
    base = tiny_bundle(tmp_path, locked_repo("org/base", {"model.safetensors": begun}), contents=[begun])
    out = tmp_path / "out.tar.zst"
    words = ["pack", tmp_path / "Run 1", "--repo-id", "org/run", "--base", base, "-o", out]
    done = CliRunner().invoke(main, [*map(str, words), "--cache-dir", str(tmp_path / "store")])
    assert done.exit_code == 0, done.stderr
    assert out.stat().st_size < base.stat().st_size / 3
    with BundleReader(out) as reader:
        assert (reader.name, reader.digest) == ("run-1", done.stdout.strip())
        assert len(reader.bases) == 2
    install(base, tmp_path / "home")
    installed = install(out, tmp_path / "home").bundle
    assert installed.verify().ok
    [refs, snapshots] = [tmp_path / "home" / "hub" / "models--org--run" / name for name in ("refs", "snapshots")]
    assert (
        (refs / "main").read_text() == (refs / "checkpoint-10").read_text() != (refs / "checkpoint-5").read_text()
    )
    snapshot = snapshots / (refs / "checkpoint-5").read_text()
    trained = tmp_path / "Run 1" / "checkpoint-5"
    for name in ("model.safetensors", "trainer_state.json", "config.json"):
        assert (snapshot / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize(
    ("folder", "options"),
    [("nothing", {}), ("---", {"name": None}), ("run", {"name": "No Name"}), ("run", {"repo_id": "a/b/c"})],
)
def test_what_cannot_be_packed_is_refused_before_anything_is_written(
    tmp_path: Path, folder: str, options: dict[str, str | None]
) -> None:
    (tmp_path / folder).mkdir()
    with pytest.raises(UsageError):
        pack_folder(tmp_path / folder, tmp_path / "x.tar.zst", store=tmp_path / "store", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "x.tar.zst").exists()
