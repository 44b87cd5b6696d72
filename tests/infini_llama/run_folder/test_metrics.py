"""`metrics.jsonl`: one line a step, none twice."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from bundler.errors import DependencyError
from bundler.home.installed import InstalledBundle
from infini_llama import InfiniLlamaConfig
from infini_llama.run_folder import checkpoints
from infini_llama.run_folder.metrics import FILE, append, drop_after, read_metrics
from infini_llama.train.flops import training_flops
from infini_llama.train.metrics_log import MetricsLog
from infini_llama.train.run import train
from infini_llama.train.trainer import training_arguments
from tests.infini_llama.conftest import MakeModel
from tests.infini_llama.train.test_run import configured


def test_a_resumed_run_takes_back_what_the_killed_one_wrote_after_its_checkpoint(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    straight = train(configured(), gpt2_bundle, raw_data=raw_data, output_dir=run)
    before = read_metrics(run)
    assert [line["step"] for line in before] == [1, 2, 3, 4, 5, 6]
    assert (before[0]["loss"], before[-1]["loss"]) == (straight.first_loss, straight.last_loss)
    assert before[-1]["tokens"] == straight.tokens
    # The killed run: five steps, the last line cut, and a checkpoint at step 3.
    shutil.rmtree(run / "checkpoint-6")
    content = (run / FILE).read_bytes()
    (run / FILE).write_bytes(content[: content.rindex(b'{"kind"') - 20])
    train(configured(), gpt2_bundle, raw_data=raw_data, output_dir=run, resume_from=checkpoints.find_latest(run))
    after = read_metrics(run)
    measured = (
        *("seconds", "seconds_left", "tokens_per_second", "tokens_per_second_per_device", "tflops_per_device"),
        *("peak_rss_bytes", "time"),
    )
    assert [{k: v for k, v in line.items() if k not in measured} for line in after] == [
        {k: v for k, v in line.items() if k not in measured} for line in before
    ]
    assert after[:3] == before[:3]


def test_a_line_has_rates_by_group_and_gates_by_layer_and_head(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    settings = configured("training.steps=1", "training.device_tflops=0.5")
    train(settings, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path)
    (line,) = read_metrics(tmp_path)
    assert sorted(line) == [
        *("bad_records", "gate_max", "gate_mean", "gate_min", "gates", "grad_norm", "kind", "learning_rate"),
        *(
            "loss",
            "mfu",
            "peak_rss_bytes",
            "seconds",
            "seconds_left",
            "step",
            "tflops_per_device",
            "time",
            "tokens",
        ),
        *("tokens_per_second", "tokens_per_second_per_device"),
    ]
    assert line["tokens_per_second_per_device"] == line["tokens_per_second"] > 0
    flops = training_flops(InfiniLlamaConfig.from_pretrained(tmp_path / "checkpoint-1"))
    assert line["tflops_per_device"] == pytest.approx(line["tokens_per_second"] * flops / 1e12, rel=1e-3)
    assert line["mfu"] == pytest.approx(line["tflops_per_device"] / 0.5, rel=1e-3)
    assert line["seconds_left"] == 0
    assert sorted(line["learning_rate"]) == ["decay", "gates", "no_decay"]
    (heads,) = line["gates"]
    assert len(heads) == 2
    assert line["gate_min"] == min(heads)
    assert line["gate_max"] == max(heads)
    assert line["gate_mean"] == pytest.approx(sum(heads) / 2)
    assert line["peak_rss_bytes"] > 50 << 20


def test_lines_after_a_step_and_torn_ones_are_dropped(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        append(tmp_path, {"kind": "step", "step": step})
    with (tmp_path / FILE).open("a") as stream:
        stream.write('{"kind": "step", "step": 4')
    drop_after(tmp_path, 2)
    assert (tmp_path / FILE).read_text() == '{"kind": "step", "step": 1}\n{"kind": "step", "step": 2}\n'


def test_a_loss_that_is_not_finite_is_null(tmp_path: Path) -> None:
    append(tmp_path, {"step": 1, "loss": float("nan"), "learning_rate": {"gates": float("inf")}})
    assert json.loads((tmp_path / FILE).read_text(), parse_constant=pytest.fail) == {
        "step": 1,
        "loss": None,
        "learning_rate": {"gates": None},
    }


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    drop_after(tmp_path, 0)
    assert read_metrics(tmp_path) == []


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_named_with_what_to_do(tmp_path: Path, package: str) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(DependencyError, match=rf"training\.report_to: expected the package {package}"):
        training_arguments(configured(f"training.report_to={package}"), tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_tensorboard_that_is_not_installed_is_named_with_what_to_do(tmp_path: Path, make_model: MakeModel) -> None:
    with pytest.raises(DependencyError, match=r"training\.report_to: expected the package tensorboard"):
        MetricsLog(tmp_path, make_model(), tensorboard=True)
