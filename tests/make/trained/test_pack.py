"""`bundle pack`: checkpoints of a run, carried on over the bundle that brought what they began as."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.errors import ProofError, UsageError
from bundler.format.reader import BundleReader
from bundler.home.installation.install import install
from bundler.make.proof.findings import Finding, refuse_failures
from bundler.make.trained.pack import pack_folder
from bundler.plan.lock import Lock
from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.fine_tunes import make_weights, safetensors_bytes, tune

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "dtype": "bfloat16",
}
SQUARES = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
SHAPES = {
    "model.embed_tokens.weight": [4096, 256],
    **{f"model.layers.0.{name}.weight": [256, 256] for name in SQUARES},
    **{f"model.layers.0.{name}_layernorm.weight": [256] for name in ("input", "post_attention")},
    "model.norm.weight": [256],
    "lm_head.weight": [4096, 256],
}


def write_run(run: Path) -> bytes:
    """Write two checkpoints of a Llama; return the weights that they began as."""
    weights = {name: make_weights(n, math.prod(shape)) for n, (name, shape) in enumerate(SHAPES.items())}
    begun = safetensors_bytes(weights, shapes=SHAPES)
    for step in (5, 10):
        folder = run / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        weights = {name: tune(words, step, share=0.1) for name, words in weights.items()}
        (folder / "model.safetensors").write_bytes(safetensors_bytes(weights, shapes=SHAPES))
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return begun


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


@pytest.mark.slow
def test_a_model_that_brings_its_own_python_is_packed_where_that_is_trusted(tmp_path: Path) -> None:
    config = InfiniLlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        segment_length=8,
    )
    InfiniLlamaForCausalLM(config).save_pretrained(tmp_path / "run")
    words = [
        "pack",
        str(tmp_path / "run"),
        "-o",
        str(tmp_path / "x.tar.zst"),
        "--cache-dir",
        str(tmp_path / "store"),
    ]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == ProofError.exit_code
    assert "hint: its config names Python of its own, as ours does: --trust-remote-code" in refused.stderr
    done = CliRunner().invoke(main, [*words, "--trust-remote-code"])
    assert done.exit_code == 0, done.stderr
    assert "its own Python is imported" in done.stderr
    installed = install(tmp_path / "x.tar.zst", tmp_path / "home").bundle
    [repo] = installed.lock.repos
    assert repo.trust_remote_code and "modeling_infini_llama.py" in {file.path for file in repo.files}


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


def test_a_checkpoint_that_does_not_load_is_named_by_its_folder_and_not_by_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lock: Lock, *_: object, **__: object) -> None:
        refuse_failures(lock, [Finding(0), Finding(1, failure="no vocabulary", missing=["vocab.txt"])])

    write_run(tmp_path / "run")
    monkeypatch.setattr("bundler.make.trained.pack.begin_proof", fail)
    with pytest.raises(ProofError) as caught:
        pack_folder(tmp_path / "run", tmp_path / "x.tar.zst", store=tmp_path / "store")
    assert caught.value.message.splitlines() == [
        f"{tmp_path / 'run' / 'checkpoint-10'} does not load offline: no vocabulary",
        "  not among the files that were taken: vocab.txt",
    ]
    assert "manifest" not in str(caught.value) and not (tmp_path / "x.tar.zst").exists()
