"""Which HF_HOME a command uses, what it says of another, and what a damaged receipt there does not stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.errors import UsageError
from bundler.home.home import Home
from bundler.plan.folders import default_hf_home
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle, tree


def bundle_command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="bundle")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    repos = [locked_repo("org/m", {"a": b"a"}), locked_repo("org/d", {"d": b"d"}, kind="dataset", aliases=["d"])]
    return tiny_bundle(tmp_path / "made", *repos, contents=[b"a", b"d"])


@pytest.fixture
def home(bundle: Path, tmp_path: Path) -> Path:
    assert bundle_command("install", bundle, "--hf-home", tmp_path / "home").exit_code == 0
    return tmp_path / "home"


@pytest.fixture
def damaged(home: Path, tmp_path: Path) -> Path:
    """A home with `tiny`, and with `other`, whose receipt is damaged."""
    other = tiny_bundle(tmp_path / "b", locked_repo("org/n", {"n": b"n"}), contents=[b"n"], name="other")
    assert bundle_command("install", other, "--hf-home", home).exit_code == 0
    (home / "bundles" / "other.json").write_bytes(b"damaged")
    return home


@pytest.mark.parametrize("words", [["install", "x.tar.zst"], ["verify", "tiny"], ["list"], ["remove", "tiny"]])
def test_an_empty_hf_home_option_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = bundle_command(*words, "--hf-home", "")
    assert done.exit_code == 2
    assert "Invalid value for '--hf-home': it is empty; is a variable in the command line empty?" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["HF_HOME", "XDG_CACHE_HOME"])
def test_an_empty_variable_is_refused_and_not_taken_for_the_working_directory(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv(name, "")
    before = tree(tmp_path)
    done = bundle_command("install", bundle)
    assert done.exit_code == 2
    assert f"error: {name} is set, but empty" in done.stderr
    assert f"hint: unset {name}, or set it to a folder\n" in done.stderr
    assert tree(tmp_path) == before
    with pytest.raises(UsageError):
        default_hf_home()
    assert default_hf_home(tmp_path) == tmp_path


def test_a_variable_that_leads_elsewhere_is_named_by_install_and_verify(
    bundle: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    for words in (["install", bundle], ["verify", "tiny"]):
        done = bundle_command(*words, "--hf-home", home)
        assert done.exit_code == 0
        assert done.stderr.startswith(
            f"warning: HF_HUB_CACHE is '{tmp_path}/elsewhere' and is ignored here: bundles are in {home}/hub."
        )
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    assert "warning" not in bundle_command("verify", "tiny", "--hf-home", home).stderr


def test_path_of_a_dataset_gives_the_option_that_it_needs(home: Path) -> None:
    done = bundle_command("path", "d", "--hf-home", home)
    assert done.exit_code == 9
    assert done.stderr == ("error: d of bundle tiny is a dataset, not a model\nhint: bundle path d --dataset\n")
    assert bundle_command("path", "d", "--dataset", "--hf-home", home).stdout.endswith(f"snapshots/{COMMIT}\n")
    assert "hint: bundle path org/m\n" in bundle_command("path", "org/m", "--dataset", "--hf-home", home).stderr


def test_a_damaged_receipt_does_not_stop_the_other_bundles(damaged: Path) -> None:
    path = bundle_command("path", "org/m", "--hf-home", damaged)
    assert (path.exit_code, path.stdout) == (
        0,
        f"{Home(damaged).bundle('tiny').view}/hub/models--org--m/snapshots/{COMMIT}\n",
    )
    assert "warning: " in path.stderr and "receipt was changed" in path.stderr
    assert bundle_command("path", "org/n", "--hf-home", damaged).exit_code == 6
    assert bundle_command("verify", "tiny", "--hf-home", damaged).exit_code == 0
    assert bundle_command("run", "--bundle", "tiny", "--hf-home", damaged, "--", "true").exit_code == 0
    plain = bundle_command("run", "--hf-home", damaged, "--", "true")
    assert plain.exit_code == 6
    assert "give it up with `bundle remove other`" in plain.stderr


def test_removing_a_bundle_with_a_damaged_pointer_goes_by_the_receipt_of_its_generation(damaged: Path) -> None:
    done = bundle_command("remove", "other", "--hf-home", damaged)
    assert done.exit_code == 0
    assert "bundles/set-aside/bundles/other.json, and what it says stands in another" in done.stderr
    assert not (damaged / "hub" / "models--org--n").exists()
    assert bundle_command("verify", "tiny", "--hf-home", damaged).exit_code == 0
    assert bundle_command("remove", "tiny", "--hf-home", damaged).exit_code == 0


def test_removing_a_bundle_all_of_whose_receipts_are_damaged_sets_them_aside_and_says_what_stays(
    damaged: Path,
) -> None:
    [generation] = (damaged / "bundles" / "generations" / "other").glob("*.json")
    generation.write_bytes(b"damaged")
    before = tree(damaged)
    done = bundle_command("remove", "other", "--hf-home", damaged)
    assert done.exit_code == 0
    assert "The receipt is now bundles/set-aside/bundles/other.json, and the files of other stay" in done.stderr
    for name in ("bundles/other.json", f"bundles/generations/other/{generation.name}"):
        before[f"bundles/set-aside/{name}"] = before.pop(name)
    assert tree(damaged) == before
    assert bundle_command("list", "--hf-home", damaged).exit_code == 0
    assert bundle_command("remove", "tiny", "--hf-home", damaged).exit_code == 0


def test_the_receipt_of_a_newer_version_is_not_touched_by_removal(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(home)
    monkeypatch.setattr("bundler.home.receipt.RECEIPT_VERSION", 0)
    done = bundle_command("remove", "tiny", "--hf-home", home)
    assert done.exit_code == 6
    assert "a newer `bundle` wrote it" in done.stderr
    assert tree(home) == before


def test_with_json_an_error_is_an_object_on_stdout_too(home: Path) -> None:
    for words in (["verify", "nothing"], ["path", "nothing"], ["install", "nothing.zst"]):
        done = bundle_command(*words, "--hf-home", home, "--json")
        error = json.loads(done.stdout)["error"]
        assert error["exit_code"] == done.exit_code != 0
        assert done.stderr.startswith(f"error: {error['message']}\n")
        assert sorted(error) == ["exit_code", "hint", "message"]
    assert bundle_command("verify", "nothing", "--hf-home", home).stdout == ""
