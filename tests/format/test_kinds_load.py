"""A bundle of each kind, installed, and its model loaded by transformers through `bundle run`, with no network."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.storage.volume_names import volume_files
from bundler.make.delta import Base
from bundler.make.pack import pack
from tests.support.bundles import OTHER_COMMIT, blob_store, lock_of, locked_repo
from tests.support.process import Child, run, run_python, script

pytestmark = pytest.mark.slow

KINDS = ("auto", "zstd", "volumes", "delta", "streamed")

# Over 1 MiB of bf16 weights, for less is not stored in planes; a vocabulary that the tokenizer fills.
MAKE = """
    import sys
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=2048, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[1])
    words = Tokenizer(models.WordLevel({f"word{n}": n for n in range(2048)}, unk_token="word0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="word0").save_pretrained(sys.argv[1])
"""
# The digest of all weights by name, what the tokenizer makes of a text, and that the model runs.
LOAD = """
import hashlib, json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

def load(repo):
    model = AutoModelForCausalLM.from_pretrained(repo)
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode() + weight.view(torch.uint8).numpy().tobytes())
    ids = AutoTokenizer.from_pretrained(repo)("word7 word2047")["input_ids"]
    shape = list(model(torch.tensor([ids])).logits.shape)
    return [digest.hexdigest(), str(model.dtype), ids, shape]

print(json.dumps({repo: load(repo) for repo in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("model")
    run_python(MAKE, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> object:
    """What the files load as where they were made."""
    folder = tmp_path_factory.mktemp("plain")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    [loaded] = json.loads(run_python(LOAD, folder).stdout).values()
    return loaded


def install(kind: str, files: dict[str, bytes], work: Path, home: Path) -> None:
    """Pack the files as a bundle of this kind, with a repo of its name, and install it as its user would."""
    repo = locked_repo(f"org/{kind}", files, lfs=["model.safetensors"])
    store = blob_store(work / "store", [*files.values(), b"{}"])
    path, bundle = work / f"{kind}.tar.zst", script("bundle")
    if kind == "delta":
        base = work / "base.tar.zst"
        old = locked_repo(
            f"org/{kind}", files | {"config.json": b"{}"}, commit=OTHER_COMMIT, lfs=["model.safetensors"]
        )
        pack(lock_of(old, name=kind), store, base)
        pack(lock_of(repo, name=kind), store, path, base=Base.open(base))
        assert path.stat().st_size < base.stat().st_size / 10
        run([bundle, "install", base, "--hf-home", home])
        run([bundle, "install", path, "--hf-home", home])
    elif kind == "volumes":
        pack(lock_of(repo, name=kind), store, VolumeDestination(path, 2_400_000))
        assert len(volume_files(path)) > 1
        run([bundle, "install", path.with_name(f"{kind}.tar.zst.001"), "--hf-home", home])
    else:
        pack(lock_of(repo, name=kind), store, path, codec="zstd" if kind == "zstd" else "auto")
        with BundleReader(path) as reader:
            assert {chunk.codec for chunk in reader.index.chunks} == ({0} if kind == "zstd" else {0, 1})
        if kind == "streamed":
            with Child(["cat", path], stdout=subprocess.PIPE) as cat:
                subprocess.run([bundle, "install", "-", "--hf-home", home], stdin=cat.stdout, check=True)
            assert cat.returncode == 0
        else:
            run([bundle, "install", path, "--hf-home", home])


def test_a_model_from_a_bundle_of_each_kind_loads_offline(
    files: dict[str, bytes], expected: object, tmp_path: Path
) -> None:
    """All of them from one home in one process: importing torch and transformers takes most of a load."""
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        install(kind, files, tmp_path / kind, tmp_path / "hf")
    names = [f"org/{kind}" for kind in KINDS]
    launch = [script("bundle"), "run", "--hf-home", tmp_path / "hf", "--strict", "--"]
    done = run([*launch, script("python"), "-c", LOAD, *names], env={"HOME": str(tmp_path)})
    assert json.loads(done.stdout) == dict.fromkeys(names, expected)
