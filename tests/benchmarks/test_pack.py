"""The harness of `make bench`: that it runs, and that its tables say what was measured. No figure is judged here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.lib import measure
from benchmarks.lib.marks import END
from benchmarks.pack import report, summary, weights
from benchmarks.pack import run as bench
from tests.support.process import Child, run

ROOT = Path(__file__).parents[2]
PAGE = f"# Figures\n\n{report.MARKS.begin}\nold\n{END}\n\nafter\n"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that one round on a tiny model writes, without peers."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "README.md").write_text(PAGE)
    (folder / "front.md").write_text(PAGE)
    argv = [
        "-m",
        "benchmarks.pack.run",
        "--rounds",
        "1",
        "--case",
        "generated-bf16",
        "--generated",
        "tiny",
        "--no-fetch",
    ]
    places = ["--work", folder / "work", "--output", folder, "--front-page", folder / "front.md"]
    done = run([sys.executable, *argv, *places], cwd=ROOT)
    (folder / "stdout").write_text(done.stdout)
    return folder


@pytest.fixture
def results(outcome: Path) -> Any:
    return json.loads((outcome / "results.json").read_text())


def test_every_tool_has_a_figure_or_a_reason_for_every_action(results: Any) -> None:
    tools = results["cases"]["generated-bf16"]["tools"]
    assert list(tools) == [
        "bundle",
        "bundle -j 1",
        "bundle -j 2",
        "tar | zstd -3",
        "cp",
        "dd to disk",
        "openssl dgst",
    ]
    for cells in tools.values():
        assert set(cells) == {"pack", "install", "verify"}
        for cell in cells.values():
            assert set(cell) in ({"command", "runs"}, {"refused", "short"})


def test_a_run_tells_time_memory_and_size(results: Any) -> None:
    (packed,) = summary.runs(results, "generated-bf16", "bundle", "pack")
    assert set(packed) == {
        "round",
        "wall_seconds",
        "cpu_seconds",
        "peak_bytes",
        "flush_seconds",
        "size_bytes",
        "read_bytes",
    }
    assert packed["wall_seconds"] > 0 and packed["cpu_seconds"] > 0
    assert packed["peak_bytes"] > 1_000_000
    assert 0 < packed["size_bytes"] < results["cases"]["generated-bf16"]["raw_bytes"]


def test_the_harness_cleans_up_and_names_every_target(outcome: Path, results: Any) -> None:
    assert not (outcome / "work").exists()
    lines = (outcome / "stdout").read_text().splitlines()
    assert len(lines) == len(summary.targets(results))
    assert any(line.startswith("not measured") and "zipnn" in line for line in lines)


def test_a_full_disk_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    done = CliRunner().invoke(bench.main, ["--work", str(tmp_path / "work"), "--output", str(tmp_path)])
    assert done.exit_code == 1
    assert "35 GB needed, 1 GB free, 34 GB short" in done.output
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_terminated_leaves_no_files(tmp_path: Path) -> None:
    work = tmp_path / "work"
    argv = [
        sys.executable,
        "-m",
        "benchmarks.pack.run",
        "--case",
        "generated-bf16",
        "--generated",
        "tiny",
        "--rounds",
        "99",
    ]
    with Child([*argv, "--work", work, "--output", tmp_path], cwd=ROOT, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while b"round 1" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        process.stderr.read()
    assert process.returncode == 143
    assert not list(tmp_path.iterdir())


def test_tables_are_put_between_the_markers_and_nowhere_else(outcome: Path, results: Any) -> None:
    for name, text in (("README.md", report.full(results)), ("front.md", report.front(results))):
        page = (outcome / name).read_text()
        assert page == PAGE.replace("old", text)
        assert "4.41 MB of generated bf16 weights" in page


def test_the_picture_is_xml_that_names_every_tool(outcome: Path) -> None:
    texts = {element.text for element in ElementTree.parse(outcome / "plot.svg").iter()}
    assert {"bundle", "tar | zstd -3", "cp", "dd to disk", "openssl dgst"} <= texts


@pytest.mark.skipif(not (ROOT / "benchmarks/results.json").is_file(), reason="nothing was measured yet")
def test_the_published_tables_are_those_of_the_published_results() -> None:
    published = json.loads((ROOT / "benchmarks/results.json").read_text())
    assert report.full(published) in (ROOT / "benchmarks/README.md").read_text()
    assert report.front(published) in (ROOT / "README.md").read_text()


def test_cpu_time_counts_children_and_a_failure_shows_the_last_lines(tmp_path: Path) -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    step = measure.Step(argv=[sys.executable, "-c", parent, spin], shown="spin")
    assert measure.measure(step, tmp_path / "log").cpu_seconds >= 0.3
    with pytest.raises(measure.StepError, match=r"exit code 3:\nthe reason"):
        measure.measure(measure.Step(argv=["sh", "-c", "echo the reason; exit 3"], shown="fail"), tmp_path / "log")


def test_ratios_are_taken_within_a_round() -> None:
    def cell(*walls: float) -> dict[str, Any]:
        return {"pack": {"runs": [{"round": n, "wall_seconds": wall} for n, wall in enumerate(walls)]}}

    results = {"cases": {"c": {"tools": {"ours": cell(1, 10), "theirs": cell(3, 20)}}}}
    assert summary.ratio(results, "c", "pack", of="theirs", to="ours") == summary.Spread(2.5, 2.0, 3.0)
    assert summary.ratio(results, "c", "install", of="theirs", to="ours") is None


def test_the_entropy_of_exponents_is_that_of_their_distribution(tmp_path: Path) -> None:
    # Four exponents, equally often: two bits, whatever the signs and mantissas are.
    words = np.array([(n % 4 + 120) << 7 | n % 2 << 15 | n % 128 for n in range(4096)], dtype="<u2").tobytes()
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4096], "data_offsets": [0, 8192]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + words)
    found = weights.entropy(tmp_path)
    assert found["weights"] == 4096
    assert found["exponent_bits"] == pytest.approx(2)
    assert found["bound_bytes"] == 4096 * 10 // 8


def test_generated_weights_are_the_same_every_time_and_load(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        weights.generate(weights.SHAPES["tiny"], tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert [(tmp_path / "a" / f).read_bytes() for f in files] == [(tmp_path / "b" / f).read_bytes() for f in files]
    tensors = load_file(tmp_path / "a" / "model-00001-of-00001.safetensors")
    assert len(tensors) == len(list(weights.SHAPES["tiny"].tensors()))
    assert 0.001 < float(tensors["lm_head.weight"].float().std()) < 0.2


@pytest.mark.parametrize(("dtype", "expected"), [("BF16", "bfloat16"), ("F16", "float16"), ("F32", "float32")])
def test_a_cast_is_torchs_own_and_leaves_integers_alone(dtype: str, expected: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    source = _floats(tmp_path)
    weights.cast(source, dtype, tmp_path / "cast.safetensors")
    before, after = load_file(source), load_file(tmp_path / "cast.safetensors")
    assert after["x"].dtype == getattr(torch, expected)
    assert torch.equal(before["x"].to(after["x"].dtype), after["x"])
    assert torch.equal(before["n"], after["n"])


def _floats(folder: Path) -> Path:
    from safetensors.numpy import save_file

    path = folder / "floats.safetensors"
    floats = np.random.default_rng(1).standard_normal(5000, dtype=np.float32)
    save_file({"x": floats, "n": np.arange(7, dtype=np.int64)}, path)
    return path


@pytest.mark.benchmarks
def test_make_soak_tells_every_step_and_leaves_nothing(tmp_path: Path) -> None:
    argv = [
        "-m",
        "benchmarks.pack.limits",
        "--file-bytes",
        "20000000",
        "--files",
        "20",
        "--work",
        tmp_path / "soak",
    ]
    done = run([sys.executable, *argv], cwd=ROOT)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")][2:]
    steps = ["hash", "pack", "verify the bundle", "install", "verify what is installed", "launch", "remove"]
    assert [next(word for word in row if word in steps) for row in rows] == steps * 2
    assert [row[0] for row in rows[::7]] == ["one file of 20 MB", "20 files"]
    assert list(tmp_path.iterdir()) == []
