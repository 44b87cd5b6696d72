"""Metrics of `evaluate`, which are spaces: the stock library loads them by name, offline, as it does online."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bundler.plan.lock import Lock
from tests.support.hub import RunningHub
from tests.support.process import run, script
from tests.support.remote import write_repo
from tests.support.web import WebServer

pytest.importorskip("evaluate")
pytestmark = pytest.mark.slow

# After evaluate-metric/accuracy, without scikit-learn.
METRIC = '''"""A metric."""
import datasets
import evaluate
{imports}

class Metric(evaluate.Metric):
    def _info(self):
        features = datasets.Features({{"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {{"{name}": {formula}}}
'''
SHARE = "sum(p == r for p, r in zip(predictions, references)) / len(references)"
ACCURACY = METRIC.format(imports="", name="accuracy", formula=SHARE)
OLD_ACCURACY = METRIC.format(imports="", name="old accuracy", formula=SHARE)
# Of two files, of which the first imports the second: the library does not look that far, and the program must.
WRONG = METRIC.format(
    imports="from .counting import count_wrong\n", name="wrong", formula="count_wrong(predictions, references)"
)
COUNTING = (
    "def count_wrong(predictions, references):\n    return sum(p != r for p, r in zip(predictions, references))\n"
)

HUB = """\
branches:
  spaces/evaluate-metric/accuracy: {old: _branches/old}
"""
MANIFEST = """\
version: 1
name: with-metrics
spaces:
  - repo_id: evaluate-metric/accuracy
  - repo_id: org/wrong
"""
PROGRAM = """
import evaluate

accuracy = evaluate.load("accuracy")
assert accuracy.compute(predictions=[1, 0], references=[1, 1]) == {"accuracy": 0.5}
assert evaluate.load("evaluate-metric/accuracy").compute(predictions=[1], references=[1]) == {"accuracy": 1.0}
assert evaluate.load("accuracy", module_type="metric", revision="main") is not None
wrong = evaluate.load("org/wrong")
both = evaluate.combine([wrong, accuracy]).compute(predictions=[1, 0], references=[1, 1])
assert both == {"wrong": 1, "accuracy": 0.5}
"""


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    card = {"README.md": b"---\nsdk: gradio\n---\n", "app.py": b"import gradio\n"}
    write_repo(folder / "spaces/evaluate-metric/accuracy", {**card, "accuracy.py": ACCURACY.encode()})
    write_repo(folder / "_branches/old", {**card, "accuracy.py": OLD_ACCURACY.encode()})
    write_repo(folder / "spaces/org/wrong", {"wrong.py": WRONG.encode(), "counting.py": COUNTING.encode()})
    (folder / "hub.yaml").write_text(HUB)
    return folder


def make_home(hub_folder: Path, folder: Path, manifest: str = MANIFEST) -> tuple[Path, str]:
    """Fetch and install a manifest; return the home, and what the fetch said."""
    (folder / "m.yaml").write_text(manifest)
    with RunningHub(hub_folder) as hub:
        env = {**hub.environment(folder / "online"), "BUNDLE_CACHE": str(folder / "cache"), "HOME": str(folder)}
        done = run([script("bundle"), "fetch", "m.yaml", "-o", "m.tar.zst"], env=env, cwd=folder)
    run([script("bundle"), "install", folder / "m.tar.zst", "--hf-home", folder / "hf"])
    return folder / "hf", done.stderr


def launch(
    home: Path, program: str, *, check: bool = True, read_only: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a program under `bundle run --strict`."""
    folder = home.parent
    (folder / "program.py").write_text(program)
    argv: list[str | Path] = [script("bundle"), "run", "--hf-home", home, "--strict", "--"]
    argv += [script("python"), folder / "program.py"]
    if read_only:
        mount = f'mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec "$@"'
        prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
        if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("this machine lets nobody make a read-only mount")
        argv = [*prefix, *argv]
    (folder / "tmp").mkdir(exist_ok=True)
    return run(argv, env={"HOME": str(folder), "TMPDIR": str(folder / "tmp")}, check=check, cwd=folder)


def test_metrics_load_offline_by_the_library_itself(hub_folder: Path, tmp_path: Path) -> None:
    home, said = make_home(hub_folder, tmp_path)
    assert "metric loads as evaluate-metric/accuracy" in said and "metric loads as org/wrong" in said
    accuracy, wrong = Lock.loads((tmp_path / "m.lock").read_text()).repos
    assert [file.path for file in accuracy.files] == ["README.md", "accuracy.py", "app.py"]
    assert accuracy.trust_remote_code and wrong.trust_remote_code
    assert "attempts   0" in launch(home, PROGRAM).stderr
    # The copies in the modules cache are there now, and change nothing.
    assert "attempts   0" in launch(home, PROGRAM).stderr


@pytest.mark.programs
def test_metrics_load_from_a_read_only_home(hub_folder: Path, tmp_path: Path) -> None:
    home, _ = make_home(hub_folder, tmp_path)
    assert "attempts   0" in launch(home, PROGRAM, read_only=True).stderr


@pytest.mark.programs
def test_another_revision_is_told_and_no_older_copy_taken(hub_folder: Path, tmp_path: Path) -> None:
    home, _ = make_home(hub_folder, tmp_path)
    launch(home, 'import evaluate\nevaluate.load("accuracy")')
    done = launch(home, 'import evaluate\nevaluate.load("accuracy", revision="old")', check=False)
    assert done.returncode == 1
    assert "offline: space evaluate-metric/accuracy at old was asked for" in done.stderr
    assert "have `revision: old` with `- repo_id: evaluate-metric/accuracy`" in done.stderr


@pytest.mark.programs
def test_the_only_revision_that_is_there_answers_for_none(hub_folder: Path, tmp_path: Path) -> None:
    manifest = MANIFEST.replace("accuracy\n", "accuracy\n    revision: old\n")
    home, _ = make_home(hub_folder, tmp_path, manifest)
    done = launch(
        home, 'import evaluate\nprint(evaluate.load("accuracy").compute(predictions=[1], references=[1]))'
    )
    assert "old accuracy" in done.stdout
    assert (
        done.stderr.count("names no revision, and gets the only one that is there: old of bundle with-metrics")
        == 1
    )


@pytest.mark.programs
def test_a_metric_that_is_not_there_is_named_with_the_line_to_add(hub_folder: Path, tmp_path: Path) -> None:
    home, _ = make_home(hub_folder, tmp_path)
    done = launch(home, 'import evaluate\nevaluate.load("rouge")', check=False)
    assert done.returncode == 1 and "attempts   0" in done.stderr
    assert "offline: file rouge.py of space evaluate-metric/rouge is not in" in done.stderr
    assert "have `- repo_id: evaluate-metric/rouge` under spaces in the manifest" in done.stderr


def test_imports_that_nothing_brings_are_named_when_it_is_locked(hub_folder: Path, tmp_path: Path) -> None:
    script_file = hub_folder / "spaces/org/wrong/wrong.py"
    url = "https://example.org/nmt_bleu.py"
    script_file.write_text(
        f"from .missing import x\nfrom .nmt_bleu import y  # From: {url}\n" + script_file.read_text()
    )
    (tmp_path / "m.yaml").write_text(MANIFEST)
    with RunningHub(hub_folder) as hub:
        done = run([script("bundle"), "lock", "m.yaml"], env=hub.environment(tmp_path / "online"), cwd=tmp_path)
    assert "wrong.py imports .missing, and there is no missing.py among its files" in done.stderr
    assert f"wrong.py imports .nmt_bleu from {url}" in done.stderr


@pytest.mark.programs
def test_a_module_of_another_host_is_taken_from_the_bundle(hub_folder: Path, tmp_path: Path) -> None:
    counting = hub_folder / "spaces/org/wrong/counting.py"
    with WebServer({"/counting.py": counting.read_bytes()}) as web:
        counting.unlink()
        place = hub_folder / "spaces/org/wrong/wrong.py"
        place.write_text(
            place.read_text().replace("count_wrong\n", f"count_wrong  # From: {web.url}/counting.py\n")
        )
        manifest = f"{MANIFEST}files:\n  - url: {web.url}/counting.py\n"
        home, said = make_home(hub_folder, tmp_path, manifest)
    assert "warning" not in said and "metric loads as org/wrong" in said
    assert "attempts   0" in launch(home, PROGRAM).stderr
