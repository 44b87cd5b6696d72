"""`infini-llama prepare`, and what `infini-llama train` makes of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.home.installed import InstalledBundle
from infini_llama.cli import main
from infini_llama.cli.train import show
from infini_llama.train.run import Summary, train
from tests.infini_llama.cli.test_cli import infini_llama
from tests.infini_llama.forks import infini_llama_forked
from tests.infini_llama.train.test_run import CONFIG, configured


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG)
    return path


def prepare(config: Path, raw_data: Path, home: Path, *more: object) -> list[object]:
    return ["prepare", "--bundle", "tiny", "--hf-home", home, "--config", config, "--raw-data", raw_data, *more]


def test_what_was_prepared_is_reported_and_not_tokenized_again_by_training(
    config: Path,
    raw_data: Path,
    gpt2_home: Path,
    gpt2_bundle: InstalledBundle,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (raw_data / "c.jsonl").write_text('{"text": "one"}\n{"text": ""}\n')
    output, skip = tmp_path / "run", "data.on_bad_record=skip"
    done = infini_llama(*prepare(config, raw_data, gpt2_home, "--output-dir", output, "--set", skip, "--json"))
    assert done.returncode == 0, done.stderr
    assert f"rank 0 tokenizes {raw_data}" in done.stderr
    found = json.loads(done.stdout)
    assert (found["files"], found["documents"], found["bad_records"], found["from_cache"]) == (3, 3, 1, False)
    summary = train(configured(skip), gpt2_bundle, raw_data=raw_data, output_dir=output)
    assert (summary.documents, summary.bad_records) == (3, 1)
    provenance = json.loads((Path(summary.checkpoint) / "provenance.json").read_text())
    assert provenance["data"]["tokens"] == found["tokens"]
    log = capfd.readouterr().err
    assert f"3 documents, {found['tokens']} tokens found in {found['place']}" in log
    assert "tokenizes" not in log


def test_the_summary_of_a_training_says_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    values = dict.fromkeys((field.name for field in dataclasses.fields(Summary)), 0)
    counts = {"documents": 1200, "bad_records": 3, "files_left_out": 2}
    show(Summary(**{**values, **counts}), None, as_json=False)  # type: ignore[arg-type]
    assert "documents    1,200, 3 bad records left out, 2 files not read\n" in capsys.readouterr().out


def test_bad_records_end_it_with_exit_code_14(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    (raw_data / "c.jsonl").write_text("{\n")
    done = infini_llama_forked(*prepare(config, raw_data, gpt2_home, "--output-dir", tmp_path / "run"))
    assert (done.returncode, done.stdout) == (14, "")
    assert f"{raw_data}/c.jsonl:1: malformed JSON" in done.stderr


def test_it_wants_to_be_told_where_the_tokens_go(config: Path, raw_data: Path) -> None:
    words = ["prepare", "--bundle", "tiny", "--config", str(config), "--raw-data", str(raw_data)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "--output-dir of the training, or data.cache_dir" in result.output


def test_raw_data_that_is_not_there_is_refused_before_anything_begins(config: Path, tmp_path: Path) -> None:
    words = ["prepare", "--bundle", "tiny", "--config", str(config), "--raw-data", str(tmp_path / "no")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "does not exist, and is not dataset:org/name" in result.output


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_raw_data_or_sources_must_be_given_and_not_both(
    command: str, config: Path, raw_data: Path, tmp_path: Path
) -> None:
    words = [command, "--bundle", "tiny", "--config", str(config), "--output-dir", str(tmp_path / "run")]
    neither = CliRunner().invoke(main, words)
    assert neither.exit_code == 2
    assert "say what to train on: --raw-data, or data.sources in the configuration" in neither.output
    source = f"data.sources=[{{raw_data: {raw_data}}}]"
    both = CliRunner().invoke(main, [*words, "--raw-data", str(raw_data), "--set", source])
    assert both.exit_code == 2
    assert "--raw-data and data.sources in the configuration: give one of them" in both.output


def test_a_mixture_is_prepared_source_by_source(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    sources = f"data.sources=[{{raw_data: {raw_data}/a.txt, weight: 3}}, {{raw_data: {raw_data}/b.txt}}]"
    words = ["prepare", "--bundle", "tiny", "--hf-home", gpt2_home, "--config", config, "--set", sources]
    done = infini_llama_forked(*words, "--output-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("share")] == [
        ["75.0%", "of"],
        ["25.0%", "of"],
    ]
    assert done.stdout.count("documents    1\n") == 2
