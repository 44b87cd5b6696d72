"""bundler.offline.launch.writable_overlay: what an offline launch does about a read-only HF_HOME."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bundler.errors import OfflineError
from bundler.offline.launch import writable_overlay
from bundler.offline.launch.writable_overlay import make_overlay
from bundler.offline.variables import WritableOverlay, offline_environment
from tests.offline.conftest import PYTHON
from tests.support.messages import Told
from tests.support.process import script


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    """Below, root writes anywhere but on a read-only mount; this simulates one for the parts under test."""
    monkeypatch.setattr(writable_overlay, "_is_writable", lambda folder: False)


def test_a_cache_that_can_be_written_needs_none(home: Path, temporary: Path) -> None:
    assert make_overlay(home) == WritableOverlay()
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("read_only")
def test_prepared_datasets_are_shown_in_folders_that_take_locks(home: Path) -> None:
    prepared = home / "datasets/org___data/default/0.0.0/abc"
    prepared.mkdir(parents=True)
    (prepared / "data-train.arrow").write_bytes(b"arrow")
    (home / "datasets/alias___data").symlink_to("org___data")
    place = make_overlay(home).datasets
    assert place
    for name in ("org___data", "alias___data"):
        folder = place / name / "default/0.0.0"
        (folder / "abc_builder.lock").touch()
        assert (folder / "abc/data-train.arrow").read_bytes() == b"arrow"
    assert (place / "org___data/default/0.0.0/abc/data-train.arrow").is_symlink()
    assert sorted(p.name for p in prepared.parent.iterdir()) == ["abc"]


@pytest.mark.usefixtures("read_only")
def test_what_left_the_cache_leaves_the_stand_in(home: Path) -> None:
    prepared = home / "datasets/org___data/0.0.0/abc"
    prepared.mkdir(parents=True)
    (prepared / "data.arrow").touch()
    place = make_overlay(home).datasets
    assert place
    shutil.rmtree(home / "datasets")
    assert make_overlay(home).datasets == place
    assert [p for p in place.rglob("*") if p.is_symlink()] == []


@pytest.mark.usefixtures("read_only")
def test_modules_are_copied_and_renewed(home: Path) -> None:
    module = home / "modules/transformers_modules/m.py"
    module.parent.mkdir(parents=True)
    module.write_text("one")
    module.chmod(0o444)
    place = make_overlay(home).modules
    assert place
    module.chmod(0o644)
    module.write_text("two")
    make_overlay(home)
    assert (place / "transformers_modules/m.py").read_text() == "two"


@pytest.mark.usefixtures("read_only")
def test_a_folder_that_others_can_write_is_not_used(home: Path, temporary: Path, told: Told) -> None:
    make_overlay(home)
    (folder,) = temporary.iterdir()
    folder.chmod(0o777)
    with pytest.raises(OfflineError) as caught:
        make_overlay(home)
    assert caught.value.exit_code == 11
    told("launch", "the folder for what is written is not safe", caught.value, folder=folder, home=home)


@pytest.mark.usefixtures("read_only")
def test_a_link_in_place_of_the_folder_is_not_followed(home: Path, temporary: Path, told: Told) -> None:
    make_overlay(home)
    (folder,) = temporary.iterdir()
    elsewhere = temporary.parent / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    with pytest.raises(OfflineError) as caught:
        make_overlay(home)
    assert caught.value.exit_code == 11
    told("launch", "the folder for what is written is not safe", caught.value, folder=folder, home=home)


@pytest.mark.usefixtures("read_only")
def test_evaluate_gets_folders_of_its_own_unless_the_user_has_chosen(home: Path) -> None:
    overlay = make_overlay(home)
    assert overlay.metrics and overlay.evaluate
    assert overlay.metrics.is_dir() and overlay.evaluate.is_dir()
    environment = offline_environment(home, overlay=overlay)
    assert environment.apply({})["HF_METRICS_CACHE"] == str(overlay.metrics)
    assert environment.apply({"HF_EVALUATE_CACHE": "/scratch"})["HF_EVALUATE_CACHE"] == "/scratch"


@pytest.mark.slow
def test_on_a_read_only_mount_a_tokenizer_loads_and_modules_go_elsewhere(home: Path, tmp_path: Path) -> None:
    """The real thing: the cache on a read-only bind mount, seen by one process tree only."""
    if not shutil.which("unshare"):
        pytest.skip("unshare(1) is not installed")
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && ! touch "$0/probe" 2>/dev/null'
    namespace = ["unshare", *([] if os.getuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c"]
    if subprocess.run([*namespace, mount, home], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a read-only mount")
    (tmp_path / "tmp").mkdir()
    code = (
        "import os; from transformers import AutoTokenizer as A; from transformers.dynamic_module_utils import "
        "init_hf_modules; init_hf_modules(); print(A.from_pretrained('short')('hello').input_ids, "
        "os.listdir(os.environ['HF_MODULES_CACHE']))"
    )
    launch = [script("bundle"), "run", "--hf-home", home, "--strict", "--", PYTHON, "-c", code]
    done = subprocess.run(
        [*namespace, mount + ' && exec "$@"', home, *launch],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "[0] ['__init__.py']\n"), done.stderr
