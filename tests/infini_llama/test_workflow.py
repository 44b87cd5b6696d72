"""The commands that users of the old workflow type, as they type them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.errors import DependencyError
from infini_llama.cli import main
from infini_llama.settings.sections import load
from run_direct_training import translate
from tests.infini_llama.forks import infini_llama_forked
from tests.support.hub import RunningHub
from tests.support.network.proxy import Behaviour, Proxy

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "scripts/config").glob("*.yaml"))
SMALL = [
    *(
        "training.steps=3",
        "training.warmup_steps=0",
        "training.checkpoint_every_steps=3",
        "training.log_every_steps=1",
    ),
    *(
        "model.hidden_size=16",
        "model.intermediate_size=16",
        "model.num_hidden_layers=1",
        "model.segment_length=16",
    ),
]
SET = [word for pair in SMALL for word in ("--set", pair)]


def typed(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def workflow(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return typed(ROOT / "flexible_training_workflow.sh", *words, cwd=cwd, **environment)


def forked(*words: object) -> subprocess.CompletedProcess[str]:
    """Run what `run_direct_training.py` runs, without a new process's imports."""
    return infini_llama_forked(*translate([str(word) for word in words]))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_sample_configuration_is_one(path: Path) -> None:
    assert load(path).tokenizer


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "--offline-mode --raw-data d --config-file c/x.yaml",
            "--config c/x.yaml --output-dir runs/x --offline-mode --raw-data d",
        ),
        ("--config-file x.yaml --raw-data d", "--config x.yaml --output-dir runs/x --online --raw-data d"),
        ("--bundle b --config-file=x.yaml --resume", "--config x.yaml --output-dir runs/x --bundle b --resume"),
        (
            "--offline-mode --bundle b --output-dir o --set a=1",
            "--output-dir o --bundle b --offline-mode --set a=1",
        ),
        ("--help", "--online --help"),
    ],
)
def test_old_words_are_translated_and_others_passed_on(old: str, new: str) -> None:
    assert translate(old.split()) == ["train", *new.split()]


def test_the_python_that_is_named_is_used_and_no_other(tmp_path: Path) -> None:
    done = workflow("--help", cwd=tmp_path, PYTHON="no-such-python")
    assert done.returncode == 127
    assert "no-such-python" in done.stderr
    assert done.stdout == ""


def test_a_python_without_the_packages_is_named_with_the_remedy(tmp_path: Path) -> None:
    # -S: without site-packages.
    done = typed(sys.executable, "-S", ROOT / "run_direct_training.py", "--help", cwd=tmp_path)
    assert done.returncode == DependencyError.exit_code
    assert done.stderr.startswith(f"error: {sys.executable} lacks the package click\nhint: pip install -c ")


def test_a_missing_tokenizer_stops_offline_mode_with_the_remedy(
    raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ROOT / "scripts/config/tiny.yaml"
    monkeypatch.chdir(tmp_path)
    done = forked("--offline-mode", "--raw-data", raw_data, "--config-file", config, *SET)
    assert done.returncode == 9
    assert "no tokenizer 'openai-community/gpt2' in the local cache" in done.stderr
    assert "--tokenizer-fallback byte" in done.stderr
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_bytes_train_where_nothing_could_be_brought_along_and_all_records_say_so(
    raw_data: Path, tmp_path: Path
) -> None:
    config = ROOT / "scripts/config/bytes.yaml"
    words = ["--offline-mode", "--raw-data", raw_data, "--config-file", config, "--json", *SET]
    # The environment that the old workflow broke in.
    done = workflow(*words, cwd=tmp_path, HTTPS_PROXY="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    said = "built-in bytes, in place of openai-community/gpt2"
    assert (summary["tokenizer_origin"], summary["bundle"], summary["network_attempts"]) == (said, "", 0)
    assert "WARNING: no tokenizer" in done.stderr
    checkpoint = tmp_path / summary["checkpoint"]
    assert checkpoint == tmp_path / "runs/bytes/checkpoint-3"
    record = json.loads((checkpoint / "provenance.json").read_text())
    assert record["tokenizer_origin"]["source"] == "built-in"
    assert (checkpoint / "tokenizer.json").exists()


def test_offline_mode_finds_what_the_local_cache_holds(
    raw_data: Path, gpt2_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "hf"
    shutil.copytree(gpt2_home / "hub", home / "hub", symlinks=True)
    config = ROOT / "scripts/config/tiny.yaml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(home))
    words = ["--offline-mode", "--raw-data", raw_data, "--config-file", config, "--output-dir", "out", *SET]
    done = forked(*words)
    assert done.returncode == 0, done.stderr
    assert "tokenizer openai-community/gpt2 (local cache, commit " in done.stderr
    assert "tokenizer    openai-community/gpt2 (local cache" in done.stdout
    assert "bundle       none" in done.stdout


@pytest.mark.parametrize("behaviour", ["refuses", "hangs"])
def test_online_a_proxy_that_stands_in_the_way_is_named_before_anything_is_imported(
    behaviour: Behaviour, raw_data: Path, tmp_path: Path
) -> None:
    config = ROOT / "scripts/config/tiny.yaml"
    with Proxy(behaviour) as proxy:
        done = workflow("--raw-data", raw_data, "--config-file", config, cwd=tmp_path, HTTPS_PROXY=proxy.url)
    assert done.returncode == 4
    assert f"the proxy {proxy.url} (from HTTPS_PROXY)" in done.stderr
    assert "unset HTTPS_PROXY, or list huggingface.co in NO_PROXY" in done.stderr
    assert "--offline-mode" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_trainer_wants_to_be_told_where_the_tokenizer_comes_from(raw_data: Path, tmp_path: Path) -> None:
    words = ["train", "--config", ROOT / "scripts/config/tiny.yaml", "--raw-data", raw_data]
    words += ["--output-dir", tmp_path / "o"]
    for more in ([], ["--online", "--offline-mode"], ["--online", "--bundle", "x"]):
        done = CliRunner().invoke(main, [str(word) for word in [*words, *more]])
        assert done.exit_code == 2
        assert "--bundle NAME, --offline-mode or --online" in done.stderr


def test_online_the_tokenizer_is_the_one_that_the_hub_names_now(
    demo_hub: RunningHub, raw_data: Path, tmp_path: Path
) -> None:
    config = ROOT / "scripts/config/tiny.yaml"
    words = ["--raw-data", raw_data, "--config-file", config, "--output-dir", "out", *SET]
    done = workflow(*words, cwd=tmp_path, **demo_hub.environment(tmp_path / "hf"))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/checkpoint-3/provenance.json").read_text())["tokenizer_origin"]
    assert (record["source"], Path(record["place"]).name) == ("hub", record["commit"])
    assert Path(record["place"]).is_relative_to(tmp_path / "hf")
    assert f"tokenizer openai-community/gpt2 (Hub, commit {record['commit'][:12]})" in done.stderr


@pytest.mark.parametrize("fallback", [[], ["--tokenizer-fallback", "byte"]])
def test_online_without_a_hub_nothing_is_put_in_its_place(
    raw_data: Path, gpt2_home: Path, tmp_path: Path, fallback: list[str]
) -> None:
    shutil.copytree(gpt2_home / "hub", tmp_path / "hf/hub", symlinks=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = ROOT / "scripts/config/tiny.yaml"
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path / "hf")}
    done = workflow("--raw-data", raw_data, "--config-file", config, *fallback, cwd=tmp_path, **environment)
    assert done.returncode == 4
    assert done.stderr == (
        f"error: 127.0.0.1:{port} cannot be reached: Connection refused\n"
        "hint: set HTTPS_PROXY if there is a proxy, or use a machine with internet; or train without a network: "
        "--offline-mode, or --bundle NAME\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["org/unknown", "my tokenizer"])
def test_online_a_tokenizer_that_the_hub_does_not_have_stops_with_the_remedy(
    demo_hub: RunningHub, raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = ROOT / "scripts/config/tiny.yaml"
    for variable, value in demo_hub.environment(tmp_path / "hf").items():
        monkeypatch.setenv(variable, value)
    # Read when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", demo_hub.endpoint)
    monkeypatch.chdir(tmp_path)
    done = forked("--raw-data", raw_data, "--config-file", config, *SET, "--set", f"tokenizer={name}")
    assert done.returncode == 5, done.stderr
    assert f"error: no model {name} at {demo_hub.endpoint}" in done.stderr
    assert "or train on bytes" in done.stderr
