"""The proof: what loads passes, what does not is named; in real child processes without a network.

Starting a child and importing torch takes seconds, so one run looks at many entries: an error names them all.
"""

from __future__ import annotations

import importlib.metadata
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from bundler.errors import DependencyError, IntegrityError, ProofError
from bundler.make.fetch import fetch
from bundler.make.proof import prepared as prepared_module
from bundler.make.proof import run
from bundler.make.proof.findings import INSTALL_HINT
from bundler.make.proof.prepared import prepare
from bundler.make.proof.proven import prove_once
from bundler.make.proof.run import Proof, prove
from bundler.make.store import Store
from bundler.plan.lock import Lock, LockedRepo
from tests.support.hub import RunningHub
from tests.support.remote import lock_of, locked, write_repo

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "tie_word_embeddings": True,
}


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    """Every weight of the tiny Llama of CONFIG; its output layer is tied, so it has none."""
    shapes = {
        "model.embed_tokens.weight": (32, 8),
        "model.norm.weight": (8,),
        "model.layers.0.input_layernorm.weight": (8,),
        "model.layers.0.post_attention_layernorm.weight": (8,),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.self_attn.k_proj.weight": (4, 8),
        "model.layers.0.self_attn.v_proj.weight": (4, 8),
        "model.layers.0.self_attn.o_proj.weight": (8, 8),
        "model.layers.0.mlp.gate_proj.weight": (12, 8),
        "model.layers.0.mlp.up_proj.weight": (12, 8),
        "model.layers.0.mlp.down_proj.weight": (8, 12),
    }
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}


def llama(weights: dict[str, np.ndarray[Any, Any]] | bytes, **config: Any) -> dict[str, bytes]:
    content = weights if isinstance(weights, bytes) else save(weights, {"format": "pt"})
    return {"config.json": json.dumps(CONFIG | config).encode(), "model.safetensors": content}


def sharded(*, missing_shard: bool = False, misplaced: bool = False) -> dict[str, bytes]:
    names = sorted(tensors())
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    weight_map = {name: shard for shard, listed in parts.items() for name in listed}
    if misplaced:
        weight_map[names[0]] = "model-00002-of-00002.safetensors"
    files = {
        shard: save({name: tensors()[name] for name in listed}, {"format": "pt"})
        for shard, listed in parts.items()
        if not (missing_shard and listed == names[5:])
    }
    index = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    return {**files, "model.safetensors.index.json": index, "config.json": json.dumps(CONFIG).encode()}


def tokenizer() -> dict[str, bytes]:
    """A byte-level BPE without merges, in the library's own format and in GPT-2's."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = {character: number for number, character in enumerate(bytes_to_unicode().values())}
    fast = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    return {
        "config.json": json.dumps({"model_type": "gpt2", "vocab_size": 256}).encode(),
        "tokenizer.json": json.dumps(fast).encode(),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "GPT2Tokenizer", "unk_token": None}).encode(),
    }


def adapter(base: str, *, width: int = 8) -> dict[str, bytes]:
    """A LoRA adapter of one layer of the tiny Llama, if its width is that of the model."""
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    weights = {f"{name}A.weight": (2, width), f"{name}B.weight": (8, 2)}
    content = save({key: np.zeros(shape, dtype=np.float32) for key, shape in weights.items()}, {"format": "pt"})
    settings = json.dumps(config | {"base_model_name_or_path": base}).encode()
    return {"adapter_config.json": settings, "adapter_model.safetensors": content}


def diffusion() -> dict[str, bytes]:
    parts = {
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "checker": [None, None],
    }
    return {
        "model_index.json": json.dumps({"_class_name": "DDPMPipeline", **parts}).encode(),
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": WHOLE,
        "scheduler/scheduler_config.json": b"{}",
    }


LESS = {name: data for name, data in tensors().items() if name != "model.layers.0.mlp.up_proj.weight"}
WRONG = tensors() | {"model.norm.weight": np.zeros(9, dtype=np.float32)}
WHOLE = save(tensors(), {"format": "pt"})
HOLE = struct.pack("<Q", len(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}')) + (
    b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}' + b"\0\0"
)


CURIOUS = b"""import socket
from transformers import PretrainedConfig

try:
    socket.create_connection(("192.0.2.1", 80))
except Exception:
    pass


class Config(PretrainedConfig):
    model_type = "curious"
"""


@dataclass(frozen=True)
class Cargo:
    hub: RunningHub
    store: Store

    def fetched(self, *repos: LockedRepo) -> Lock:
        return fetch(lock_of(*repos), self.store, endpoint=self.hub.endpoint).lock

    def locked(self, repo_id: str, **options: Any) -> LockedRepo:
        return locked(self.hub.endpoint, repo_id, **options)


@pytest.fixture(scope="module")
def cargo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cargo]:
    root = tmp_path_factory.mktemp("hub")
    repos = {
        "org/tokenizer": tokenizer(),
        "org/curious": {
            **tokenizer(),
            "config.json": b'{"model_type": "curious", "auto_map": {"AutoConfig": "configuration_curious.Config"}}',
            "configuration_curious.py": CURIOUS,
        },
        "org/whole": {
            **llama(tensors()),
            **tokenizer(),
            "config.json": json.dumps(CONFIG).encode(),
            "README.md": b"---\npipeline_tag: text-generation\n---\n",
        },
        "org/asked": {**llama(tensors()), "README.md": b"---\npipeline_tag: text-generation\n---\n"},
        "org/adapter": adapter("whole"),
        "org/misfit": adapter("org/whole", width=9),
        "org/orphan": adapter("org/elsewhere"),
        "org/diffusion": diffusion(),
        "org/sharded": sharded(),
        "org/tied": llama(tensors()),
        "org/extra": llama(tensors() | {"old_head.weight": np.zeros(3, dtype=np.float32)}),
        "org/quantised": llama(tensors(), quantization_config={"quant_method": "gptq", "bits": 4}),
        "org/remote": llama(tensors(), auto_map={"AutoModelForCausalLM": "modeling.Model"}),
        "org/plain": llama(tensors(), architectures=None),
        "org/less": llama(LESS),
        # Without a config its proof imports neither torch nor transformers.
        "org/short": {"model.safetensors": WHOLE[:-5]},
        "org/wrong": llama(WRONG),
        "org/truncated": llama(WHOLE[:-5]),
        "org/hole": llama(HOLE),
        "org/shardless": sharded(missing_shard=True),
        "org/misplaced": sharded(misplaced=True),
        "org/weightless": {"config.json": json.dumps(CONFIG).encode()},
        "org/notes": {"notes.txt": b"read me", "more.nemo2": b"weights of no kind that is known"},
        "org/pooled": {
            **llama(tensors()),
            "modules.json": b'[{"idx":1,"name":"1","path":"1_Pooling","type":"x.Pooling"}]',
        },
        "datasets/org/Lines": {"train.txt": b"one\ntwo\nthree\n"},
        "datasets/org/two": {
            "README.md": b"---\nconfigs:\n"
            b"- config_name: a\n  data_files: a.jsonl\n- config_name: b\n  data_files: b.jsonl\n---\n",
            "a.jsonl": b'{"x": 1}\n',
            "b.jsonl": b'{"x": 2}\n{"x": 3}\n',
        },
    }
    for name, files in repos.items():
        write_repo(root / name, files)
    with RunningHub(root) as hub:
        yield Cargo(hub, Store(tmp_path_factory.mktemp("store")))


def notes_of(proof: Proof, repo_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    (entry,) = [entry for entry in proof.entries if entry.repo_id == repo_id]
    return entry.proven, entry.notes


@dataclass(frozen=True)
class Proven:
    """A proof of all entries that load, with the one among them whose revision is pinned."""

    proof: Proof
    pinned: LockedRepo


@pytest.fixture(scope="module")
def proven(cargo: Cargo) -> Proven:
    lock = cargo.fetched(
        cargo.locked("org/tokenizer", kind="tokenizer", aliases=("other/name", "tok")),
        cargo.locked("org/whole", aliases=("whole",)),
        *(cargo.locked(f"org/{name}") for name in ("sharded", "extra", "quantised", "remote", "plain")),
        *(cargo.locked(f"org/{name}") for name in ("asked", "adapter", "diffusion")),
        replace(cargo.locked("org/orphan"), base_elsewhere=True),
        cargo.locked("org/weightless", kind="tokenizer"),
        cargo.locked("org/notes"),
        replace(cargo.locked("org/curious", kind="tokenizer"), trust_remote_code=True),
    )
    (pinned,) = cargo.fetched(cargo.locked("org/tied", aliases=("tied",))).repos
    pinned = replace(pinned, revision=pinned.commit, refs=("main",))
    return Proven(prove(lock.with_repos((*lock.repos, pinned)), cargo.store), pinned)


def test_what_loads_is_proven_and_what_cannot_be_checked_is_said(cargo: Cargo, proven: Proven) -> None:
    proof, pinned = proven.proof, proven.pinned
    built = "LlamaForCausalLM is built, and every name and shape matches the headers (11 tensors)"
    headers = "headers of 1 safetensors file checked (11 tensors)"
    config = "config loads as org/{}"
    assert notes_of(proof, "org/tokenizer")[0][0] == "config loads as org/tokenizer and other/name and tok"
    assert notes_of(proof, "org/tokenizer")[0][1].startswith("tokenizer encodes and decodes (")
    assert notes_of(proof, "org/tokenizer")[0][1].endswith("as org/tokenizer and other/name and tok")
    assert built in notes_of(proof, "org/whole")[0] and len(notes_of(proof, "org/whole")[0]) == 4
    assert (
        notes_of(proof, "org/whole")[0][3] == "pipeline('text-generation') is put together as org/whole and whole"
    )
    assert notes_of(proof, "org/asked")[1][0].startswith(
        "not put together: pipeline('text-generation', model='org/asked')"
    )
    assert notes_of(proof, "org/adapter")[0][:2] == (
        "its base model whole is in the bundle",
        "adapter loads onto whole as org/adapter",
    )
    assert notes_of(proof, "org/orphan")[1][0] == (
        "not tried: the adapter on org/elsewhere, which another bundle must bring (base_elsewhere)"
    )
    assert "all parts of the pipeline are there (2 parts)" in notes_of(proof, "org/diffusion")[0]
    assert notes_of(proof, "org/tied")[0][0] == f"code that names no revision finds commit {pinned.commit[:12]}"
    assert notes_of(proof, "org/weightless") == (
        (config.format("weightless"),),
        ("it has no file of a tokenizer, and none loads: 1 file carried",),
    )
    assert notes_of(proof, "org/notes") == (
        (),
        ("neither a config.json nor weights of a known kind: 2 files carried as they are, and not loaded",),
    )
    assert notes_of(proof, "org/sharded") == ((config.format("sharded"), built), ())
    assert notes_of(proof, "org/extra")[1] == ("1 tensor not used by LlamaForCausalLM: old_head.weight",)
    assert notes_of(proof, "org/quantised") == (
        (config.format("quantised"), headers),
        ("architecture not built: it is quantised (gptq)",),
    )
    assert notes_of(proof, "org/remote")[1] == ("architecture not built: it is remote code",)
    assert notes_of(proof, "org/plain")[1] == ("architecture not built: its config names no architectures",)
    assert [entry.entry for entry in proof.entries][:3] == ["tokenizers[0]", "models[0]", "models[1]"]
    assert proof.isolation and list((cargo.store.root / "work").iterdir()) == []


def test_what_does_not_load_is_named_with_its_file_and_the_key_to_change(cargo: Cargo) -> None:
    lock = cargo.fetched(
        cargo.locked("org/tokenizer", kind="tokenizer", without=("tokenizer.json",)),
        cargo.locked("org/whole"),
        *(
            cargo.locked(f"org/{name}")
            for name in ("less", "wrong", "truncated", "hole", "shardless", "misplaced", "weightless", "pooled")
        ),
        cargo.locked("org/misfit"),
        cargo.locked("org/orphan"),
        cargo.locked("org/diffusion", without=("unet/diffusion_pytorch_model.safetensors",)),
    )
    with pytest.raises(ProofError) as caught:
        prove(lock, cargo.store)
    text = caught.value.message
    for expected in (
        "tokenizers[0] (org/tokenizer) does not load offline: GPT2Tokenizer loads with 1 special tokens",
        "tokenizers[0].allow_patterns or tokenizers[0].ignore_patterns",
        "models[1] (org/less) does not load offline: LlamaForCausalLM.from_pretrained('org/less'): "
        "the weights have no model.layers.0.mlp.up_proj.weight",
        "models[2] (org/wrong) does not load offline: LlamaForCausalLM.from_pretrained('org/wrong'): "
        "model.norm.weight has shape [9], the config asks for [8]",
        "models[3] (org/truncated) does not load offline: model.safetensors: not a whole safetensors file",
        "models[4] (org/hole) does not load offline: model.safetensors: not a whole safetensors file",
        "models[5] (org/shardless) does not load offline: model.safetensors.index.json names "
        "model-00002-of-00002.safetensors, which is missing",
        "models[6] (org/misplaced) does not load offline: model.safetensors.index.json puts "
        "model.embed_tokens.weight into model-00002-of-00002.safetensors, which does not have it",
        "models[7] (org/weightless) does not load offline: it has no weights",
        "models[8] (org/pooled) does not load offline: modules.json names 1_Pooling (x.Pooling), but "
        "1_Pooling/config.json is missing",
        "models[9] (org/misfit) does not load offline: PeftModel.from_pretrained(org/whole, 'org/misfit'): "
        "RuntimeError: Error(s) in loading state_dict",
        "models[10] (org/orphan) does not load offline: adapter_config.json names the base model org/elsewhere, and "
        "the bundle has no weights of that name",
        "  what to change: add to models: - repo_id: org/elsewhere; ",
        "models[11] (org/diffusion) does not load offline: model_index.json names the part unet, and the bundle has no "
        "weights of it",
        "another models[2].revision may work",
    ):
        assert expected in text
    (missing,) = [line for line in text.splitlines() if "not found in the bundle" in line][:1]
    assert "tokenizer.json" in missing and "tokenizer_config.json" not in missing
    assert "(org/whole)" not in text
    assert list((cargo.store.root / "work").iterdir()) == []


def test_what_tries_the_network_is_stopped_counted_and_named(proven: Proven) -> None:
    """The one entry that tries it is told from all others, which do not."""
    proof = proven.proof
    assert "config loads as org/curious" in notes_of(proof, "org/curious")[0]
    assert proof.network_attempts == len(proof.refused) > 0
    assert "192.0.2.1" in proof.refused[0] and "configuration_curious.py:5" in proof.refused[0]


@dataclass(frozen=True)
class Prepared:
    """Two datasets as they were fetched and prepared, and how often the Hub was asked meanwhile."""

    fetched: Lock
    lock: Lock
    requests: int


def dataset_repos(cargo: Cargo) -> tuple[LockedRepo, LockedRepo]:
    lines = cargo.locked("org/Lines", kind="dataset", aliases=("lines", "org/renamed"))
    return lines, cargo.locked("org/two", kind="dataset")


@pytest.fixture(scope="module")
def prepared(cargo: Cargo) -> Prepared:
    fetched = cargo.fetched(*dataset_repos(cargo))
    asked = len(cargo.hub.requests)
    lock = prepare(fetched, cargo.store)
    return Prepared(fetched, lock, len(cargo.hub.requests) - asked)


def test_datasets_are_prepared_without_the_hub_and_load_by_every_name(cargo: Cargo, prepared: Prepared) -> None:
    lock, asked = prepared.lock, len(cargo.hub.requests)
    assert prepared.requests == 0, "preparing does not ask the Hub"
    names = [file.path.split("/")[-1] for file in lock.repos[0].prepared]
    assert names == ["dataset_info.json", "lines-train.arrow", "renamed-train.arrow"]
    assert sorted({file.path.split("/")[0] for file in lock.repos[1].prepared}) == ["a", "b"]
    assert not any(
        "lock" in file.path or "incomplete" in file.path for repo in lock.repos for file in repo.prepared
    )
    for repo in lock.repos:
        for file in repo.prepared:
            content = cargo.store.path(file.sha256).read_bytes()
            assert str(cargo.store.root).encode() not in content and b"127.0.0.1" not in content

    proof = prove(lock, cargo.store)
    assert notes_of(proof, "org/Lines")[0] == (
        "dataset loads as org/Lines and lines and org/renamed (train: 3 rows)",
    )
    assert notes_of(proof, "org/two")[0] == ("dataset loads as org/two (a/train: 1 row, b/train: 2 rows)",)
    assert len(cargo.hub.requests) == asked, "nor does proving"


def test_without_help_of_the_kernel_the_guard_keeps_the_proof_offline_and_says_so(
    cargo: Cargo, prepared: Prepared, tmp_path: Path
) -> None:
    """And the prepared form depends on neither folder nor address: it is that of the other store."""
    store = Store(tmp_path / "a longer path to another store")
    fetched = fetch(lock_of(*dataset_repos(cargo)), store, endpoint=cargo.hub.endpoint).lock
    lock = prepare(fetched, store, isolate="none")
    assert lock == prepared.lock and all(repo.prepared for repo in lock.repos)
    proof = prove(lock, store, isolate="none")
    assert (proof.isolation, proof.network_attempts) == ("guard", 0) and "guarded" in proof.isolation_detail
    loaded = "dataset loads as org/Lines and lines and org/renamed (train: 3 rows)"
    assert notes_of(proof, "org/Lines")[0] == (loaded,)


def test_what_was_prepared_once_is_used_again(
    cargo: Cargo, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_module, "run_child", None)
    # Once by the lock that lists it, once by what the store remembers.
    assert prepare(prepared.lock, cargo.store) == prepare(prepared.fetched, cargo.store) == prepared.lock


def test_a_proof_is_remembered_for_the_same_files_and_packages_only(
    cargo: Cargo, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, whole = cargo.fetched(cargo.locked("org/notes")), cargo.locked("org/whole")
    first = prove_once(lock, cargo.store)
    assert not first.is_remembered

    class ProvenAnewError(Exception):
        pass

    def anew(*args: object, **kwargs: object) -> Proof:
        raise ProvenAnewError

    monkeypatch.setattr("bundler.make.proof.proven.prove", anew)
    again = prove_once(lock, cargo.store)
    assert again == replace(first, seconds=again.seconds, is_remembered=True)
    with pytest.raises(ProvenAnewError):
        prove_once(cargo.fetched(whole), cargo.store)
    with monkeypatch.context() as patch:
        others = [package for package in importlib.metadata.distributions() if package.name != "transformers"]
        patch.setattr("importlib.metadata.distributions", lambda: others)
        with pytest.raises(ProvenAnewError):
            prove_once(lock, cargo.store)
    (record,) = (cargo.store.root / "proven").glob("*.json")
    record.write_text('{"entries": 3}')
    with pytest.raises(ProvenAnewError):
        prove_once(lock, cargo.store)


def test_a_proof_that_failed_is_not_remembered(cargo: Cargo) -> None:
    lock = cargo.fetched(cargo.locked("org/short"))
    before = list((cargo.store.root / "proven").glob("*"))
    for _ in range(2):
        with pytest.raises(ProofError, match="not a whole safetensors file"):
            prove_once(lock, cargo.store)
    assert list((cargo.store.root / "proven").glob("*")) == before


def test_prepared_files_other_than_the_lock_s_are_refused_when_it_is_insisted_on(
    cargo: Cargo, prepared: Prepared
) -> None:
    lines, two = prepared.lock.repos
    changed = replace(two.prepared[-1], sha256="0" * 64)
    foreign = prepared.lock.with_repos((lines, replace(two, prepared=(*two.prepared[:-1], changed))))
    with pytest.raises(IntegrityError, match="the prepared files differ from those in the lock"):
        prepare(foreign, cargo.store, insist=True)
    assert prepare(foreign, cargo.store) == prepared.lock


def test_a_missing_package_is_named_with_the_way_to_get_it(cargo: Cargo, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = lock_of(cargo.locked("org/whole"), cargo.locked("org/tokenizer", kind="tokenizer"))
    assert run.required_packages(lock) == ["accelerate", "torch", "transformers"]
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError) as caught:
        run.check_packages(lock)
    assert caught.value.message.endswith("accelerate, torch, transformers must be installed here")
    assert str(caught.value.hint).startswith(INSTALL_HINT)


def test_a_prepared_file_that_names_this_cache_is_refused(tmp_path: Path) -> None:
    from bundler.make.proof.dataset import dataset_files
    from bundler.make.proof.entries import LoadingFault

    folder = tmp_path / "datasets" / "org___images"
    write_repo(folder, {"default/0.0.0/x/images-train.arrow": b"\0" + str(tmp_path).encode() + b"/hub/1.png"})
    with pytest.raises(LoadingFault, match="absolute path"):
        dataset_files(folder, tmp_path)
