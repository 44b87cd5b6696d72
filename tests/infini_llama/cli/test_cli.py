"""The command as a user meets it: a process, an installed bundle, files on disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from infini_llama.cli import main
from infini_llama.run_folder.lock import run_lock
from infini_llama.train import metrics_log
from tests.infini_llama.conftest import write_raw_data
from tests.infini_llama.forks import infini_llama_forked, kill_after
from tests.infini_llama.train.test_run import CONFIG


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG)
    return path


def infini_llama(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, or under a launcher."""
    command = [*(launcher or (sys.executable, "-m")), "infini_llama", *map(str, arguments)]
    return subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train_arguments(config: Path, raw_data: Path, home: Path, output_dir: Path, *more: str) -> list[object]:
    return [
        *("train", "--bundle", "tiny", "--config", config, "--raw-data", raw_data),
        *("--hf-home", home, "--output-dir", output_dir, *more),
    ]


def damage(home: Path) -> Path:
    """Flip a bit of the installed merges.txt and return its blob."""
    (link,) = home.glob("hub/models--openai-community--gpt2/snapshots/*/merges.txt")
    blob = link.resolve()
    content = bytearray(blob.read_bytes())
    content[100] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    return blob


def test_help_imports_neither_torch_nor_a_hugging_face_library() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from infini_llama.cli import COMMANDS, main\n"
        "assert all(CliRunner().invoke(main, [name, '--help']).exit_code == 0 for name in COMMANDS)\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'datasets') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, gpt2_home: Path) -> subprocess.CompletedProcess[str]:
    """Return what a training wrote, a program that was started for it."""
    folder = tmp_path_factory.mktemp("finished")
    config, text = folder / "train.yaml", write_raw_data(folder / "raw")
    config.write_text(CONFIG)
    return infini_llama(*train_arguments(config, text, gpt2_home, folder / "run", "--json"))


def test_trains_from_a_verified_bundle_and_prints_a_summary(finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stderr
    summary = json.loads(finished.stdout)
    assert summary["last_loss"] < summary["first_loss"] - 1
    assert (summary["steps"], summary["tokenizer"], summary["network_attempts"]) == (6, "gpt2", 0)
    assert Path(summary["checkpoint"], "model.safetensors").exists()


def test_a_changed_blob_stops_it_before_the_model_is_built_and_is_named(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(gpt2_home, home, symlinks=True)
    blob = damage(home)
    run = infini_llama(*train_arguments(config, raw_data, home, tmp_path / "run"))
    assert run.returncode == 6
    assert "merges.txt" in run.stderr
    assert blob.name in run.stderr
    assert "parameters" not in run.stderr
    assert run.stdout == ""
    assert not (tmp_path / "run").exists()


def test_a_quick_look_at_the_bundle_hashes_nothing_and_says_so(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(gpt2_home, home, symlinks=True)
    damage(home)
    run = infini_llama_forked(*train_arguments(config, raw_data, home, tmp_path / "run", "--quick"))
    # It went by, and the tokenizer's library tripped over it later.
    first = run.stderr.splitlines()[0]
    assert first.startswith("verified tiny sha256:")
    assert ": names and sizes, " in first
    assert "but no tokenizer loads from them" in run.stderr


@pytest.mark.parametrize("command", ["train", "prepare", "eval"])
def test_raw_data_named_by_an_empty_variable_is_not_the_working_directory(
    config: Path, tmp_path: Path, command: str
) -> None:
    rest = [str(tmp_path)] if command == "eval" else ["--offline-mode", "--config", str(config)]
    rest += ["--output-dir", str(tmp_path / "run")] if command != "eval" else []
    done = CliRunner().invoke(main, [command, "--raw-data", "", *rest])
    assert done.exit_code == 2
    assert "it is empty; is a variable in the command line empty?" in done.stderr


@pytest.mark.parametrize("command", ["train", "prepare", "convert"])
def test_an_output_folder_named_by_an_empty_variable_is_not_the_working_directory(
    config: Path, raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    rest = ["--offline-mode", "--config", str(config), "--raw-data", str(raw_data)]
    if command == "convert":
        rest = ["--bundle", "tiny", "--model", "org/llama", "--segment-length", "16"]
    done = CliRunner().invoke(main, [command, "--output-dir", "", *rest])
    assert done.exit_code == 2
    assert "Invalid value for '--output-dir': it is empty; is a variable in the command line empty?" in done.stderr
    assert list(empty.iterdir()) == []


def test_a_quick_look_at_no_bundle_is_refused(config: Path, raw_data: Path, tmp_path: Path) -> None:
    arguments = ["train", "--offline-mode", "--quick", "--config", config, "--raw-data", raw_data]
    result = CliRunner().invoke(main, list(map(str, [*arguments, "--output-dir", tmp_path / "run"])))
    assert result.exit_code == 2
    assert "--quick is about verifying the bundle: add --bundle NAME" in result.output


def test_two_ranks_train_together_and_one_verifies(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    arguments = train_arguments(config, raw_data, gpt2_home, tmp_path / "run", "--json")
    run = infini_llama(*arguments, launcher=launcher)
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert (summary["world_size"], summary["wrapper"], summary["network_attempts"]) == (
        2,
        "DistributedDataParallel",
        0,
    )


def test_a_run_that_is_there_is_neither_overwritten_nor_lost(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "checkpoint-3").mkdir(parents=True)
    result = CliRunner().invoke(main, list(map(str, train_arguments(config, raw_data, gpt2_home, run))))
    assert result.exit_code == 2
    assert "is not empty; add --resume" in result.output
    assert [path.name for path in run.iterdir()] == ["checkpoint-3"]


def test_going_on_with_nothing_but_damaged_checkpoints_is_no_fresh_start(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "checkpoint-3").mkdir(parents=True)
    done = CliRunner().invoke(main, list(map(str, train_arguments(config, raw_data, gpt2_home, run, "--resume"))))
    assert done.exit_code == 2
    assert f"no checkpoint in {run} is complete (checkpoint-3)" in done.stderr
    assert sorted(path.name for path in run.iterdir()) == [".lock", "checkpoint-3"]


def test_going_on_passes_over_a_damaged_checkpoint_and_says_so(
    finished: subprocess.CompletedProcess[str], config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    words = train_arguments(config, raw_data, gpt2_home, tmp_path / "run", "--resume", "--json")
    shutil.copytree(Path(json.loads(finished.stdout)["checkpoint"]).parent, tmp_path / "run")
    with (tmp_path / "run/checkpoint-6/model.safetensors").open("r+b") as stream:
        stream.truncate(100)
    again = infini_llama_forked(*words)
    assert "note: checkpoint-6 is not complete any more, and is skipped" in again.stderr
    assert json.loads(again.stdout)["resumed_from"] == str(tmp_path / "run/checkpoint-3")


def test_a_note_of_an_earlier_stop_is_gone_whatever_stops_the_next_run(
    config: Path, raw_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for more in (["--set", "training.step=3"], []):
        (run / "stopped.json").write_text("{}")
        words = train_arguments(config, raw_data, tmp_path / "nowhere", run, "--resume", *more)
        assert CliRunner().invoke(main, list(map(str, words))).exit_code in (9, 12)
        assert not (run / "stopped.json").exists()


def test_two_runs_in_one_folder_are_refused(config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        # The other may be just ending, and its job script looks for the note then.
        (tmp_path / "run/stopped.json").write_text("{}")
        done = infini_llama(*train_arguments(config, raw_data, gpt2_home, tmp_path / "run", "--resume"))
    assert done.returncode == 2
    assert f"error: --output-dir {tmp_path / 'run'}: another run trains in it" in done.stderr
    assert (tmp_path / "run/stopped.json").exists()


def test_a_faulty_configuration_ends_in_exit_code_12_before_anything_is_verified(
    config: Path, raw_data: Path, tmp_path: Path
) -> None:
    arguments = train_arguments(
        config, raw_data, tmp_path / "nowhere", tmp_path / "run", "--set", "training.step=3"
    )
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 12
    assert "training.step (command line): unknown key; did you mean steps?" in result.output


def test_a_bundle_that_is_not_installed_ends_in_exit_code_9(config: Path, raw_data: Path, tmp_path: Path) -> None:
    run = infini_llama(*train_arguments(config, raw_data, tmp_path / "nowhere", tmp_path / "run"))
    assert run.returncode == 9
    assert "no bundle 'tiny'" in run.stderr


def test_text_that_is_not_utf8_ends_in_exit_code_14(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    (raw_data / "c.txt").write_bytes(b"caf\xe9")
    run = infini_llama_forked(*train_arguments(config, raw_data, gpt2_home, tmp_path / "run"))
    assert run.returncode == 14
    assert "c.txt: byte 3 is not UTF-8" in run.stderr


def test_a_run_that_is_killed_and_resumed_ends_with_the_weights_of_a_straight_one(
    finished: subprocess.CompletedProcess[str],
    config: Path,
    raw_data: Path,
    gpt2_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = train_arguments(config, raw_data, gpt2_home, tmp_path / "killed", "--json")
    with monkeypatch.context() as patch:
        patch.setattr(metrics_log, "say", kill_after("step 4/", signal.SIGKILL))
        assert infini_llama_forked(*words).returncode == -signal.SIGKILL
    resumed = json.loads(infini_llama_forked(*words, "--resume").stdout)
    assert resumed["resumed_from"] == str(tmp_path / "killed/checkpoint-3")
    checkpoints = [json.loads(finished.stdout)["checkpoint"], resumed["checkpoint"]]
    first, second = ((Path(checkpoint) / "model.safetensors").read_bytes() for checkpoint in checkpoints)
    assert first == second
