"""The commands around a bundle file and an installed bundle: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.home.home import Home
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle

FILES = {"config.json": b"{}", "w.safetensors": b"w" * 5000}


def bundle_command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="bundle")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    model = locked_repo("org/m", FILES, aliases=["m"], lfs=["w.safetensors"])
    return tiny_bundle(tmp_path, model, contents=FILES.values())


@pytest.fixture
def home(bundle: Path, tmp_path: Path) -> Path:
    assert bundle_command("install", bundle, "--hf-home", tmp_path / "home").exit_code == 0
    return tmp_path / "home"


def test_install_says_what_it_did_on_stderr_and_in_json_on_stdout(bundle: Path, tmp_path: Path) -> None:
    done = bundle_command("install", bundle, "--hf-home", tmp_path / "home", "--json")
    value = json.loads(done.stdout)
    digest = value.pop("digest")
    assert value == {
        "name": "tiny",
        "hf_home": str(tmp_path / "home"),
        "files": 2,
        "size_bytes": 5002,
        "written_files": 2,
        "written_bytes": 5002,
        "symlinks": True,
        "replaced": None,
        "has_view": True,
        "held": [],
        "moved_refs": [],
        "left_out": [],
        "set_aside": [],
        "closed": [],
        "rebuilt": [],
    }
    assert done.stderr == (
        f"installed tiny in {tmp_path / 'home'}: 2 files, 5 kB verified, 2 written (5 kB)\n{digest}\n"
    )


def test_install_without_a_name_takes_the_one_bundle_in_the_folder(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert bundle_command("install").exit_code == 0
    bundle.with_name("another.tar.zst").write_bytes(bundle.read_bytes())
    done = bundle_command("install")
    assert done.exit_code == 7
    assert "found another.tar.zst, tiny.tar.zst" in done.stderr
    monkeypatch.chdir(tmp_path / "home")
    assert "found none" in bundle_command("install").stderr


def test_verify_of_a_file_and_of_a_name_agree_on_the_digest(bundle: Path, home: Path) -> None:
    of_file = json.loads(bundle_command("verify", bundle, "--json").stdout)
    of_name = json.loads(bundle_command("verify", "tiny", "--hf-home", home, "--json").stdout)
    assert of_file["ok"] is of_name["ok"] is True
    assert of_file["digest"] == of_name["digest"]
    assert (of_name["files"], of_name["hashed_bytes"], of_name["faults"]) == (2, 5002, [])


def test_verify_ends_with_6_and_names_each_fault(home: Path) -> None:
    (home / "hub" / "models--org--m" / "snapshots" / COMMIT / "config.json").unlink()
    (home / "hub" / "models--org--m" / "refs" / "main").write_text("x")
    done = bundle_command("verify", "tiny", "--hf-home", home, "--json")
    assert done.exit_code == 6
    assert [(f["kind"], f["path"]) for f in json.loads(done.stdout)["faults"]] == [
        ("changed", "hub/models--org--m/refs/main"),
        ("missing", f"hub/models--org--m/snapshots/{COMMIT}/config.json"),
    ]
    assert "FAILED, 2 faults" in done.stderr


def test_verify_of_what_is_neither_a_file_nor_installed(home: Path) -> None:
    assert bundle_command("verify", "other", "--hf-home", home).exit_code == 9
    assert bundle_command("verify", "./other.tar.zst").exit_code == 7
    assert bundle_command("verify", "./other.tar.zst", "--quick").exit_code == 2


def test_inspect_shows_the_contents(bundle: Path) -> None:
    done = bundle_command("inspect", bundle, "--files")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("tiny  sha256:")
    assert lines[2] == "model      org/m  main = cccccccccccc  2 files, 5 kB  also as m"
    assert lines[3:] == ["                        2  config.json", "                    5,000  w.safetensors"]
    value = json.loads(bundle_command("inspect", bundle, "--files", "--json").stdout)
    assert value["repos"][0]["listing"] == ["config.json", "w.safetensors"]
    assert value["chunks"] == {"zstd": 2}


def test_inspect_shows_the_licences_that_the_cards_claim(tmp_path: Path) -> None:
    known = locked_repo("org/known", {"a": b"a"}, licenses=["mit", "apache-2.0"])
    none = locked_repo("org/none", {"b": b"b"}, licenses=[])
    unread = locked_repo("org/unread", {"c": b"c"})
    bundle = tiny_bundle(tmp_path, known, none, unread, contents=[b"a", b"b", b"c"])
    lines = bundle_command("inspect", bundle).stdout.splitlines()
    assert [line.strip() for line in lines if "card" in line] == ["its card says: apache-2.0, mit"]
    repos = json.loads(bundle_command("inspect", bundle, "--json").stdout)["repos"]
    assert [repo["licenses"] for repo in repos] == [["apache-2.0", "mit"], [], None]


def test_inspect_prints_the_lock_inside_as_it_is(bundle: Path) -> None:
    text = bundle_command("inspect", bundle, "--lock").stdout
    assert json.loads(text)["name"] == "tiny"
    assert text.startswith('{\n "lock_version": 1,\n')


def test_list_shows_what_is_installed(home: Path) -> None:
    value = json.loads(bundle_command("list", "--hf-home", home, "--json").stdout)
    assert [(b["name"], b["repos"], b["files"], b["size_bytes"]) for b in value["bundles"]] == [
        ("tiny", ["org/m"], 2, 5002)
    ]
    assert "  model      org/m  main = cccccccccccc  also as m" in bundle_command("list", "--hf-home", home).stdout


def test_list_of_an_empty_cache_is_empty_and_no_error(tmp_path: Path) -> None:
    done = bundle_command("list", "--hf-home", tmp_path)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no bundle is installed" in done.stderr


def test_list_reports_a_damaged_receipt_and_ends_with_6(home: Path) -> None:
    receipt = home / "bundles" / "tiny.json"
    receipt.write_bytes(receipt.read_bytes().replace(b'"org/m"', b'"org/n"'))
    done = bundle_command("list", "--hf-home", home)
    assert done.exit_code == 6
    assert str(receipt) in done.stderr


@pytest.mark.parametrize("repo_id", ["org/m", "m"])
def test_path_prints_the_snapshot_folder_of_an_id_or_alias(home: Path, repo_id: str) -> None:
    done = bundle_command("path", repo_id, "--hf-home", home)
    view = Home(home).bundle("tiny").view
    assert done.stdout == f"{view}/hub/models--org--m/snapshots/{COMMIT}\n"
    assert view.parent == home / "bundles" / "views" / "tiny"


def test_path_does_not_print_a_folder_that_fails_verification(home: Path) -> None:
    weights = home / "hub" / "models--org--m" / "snapshots" / COMMIT / "w.safetensors"
    weights.resolve().write_bytes(b"v" * 5000)
    done = bundle_command("path", "m", "--hf-home", home)
    assert (done.exit_code, done.stdout) == (6, "")
    assert "org/m: w.safetensors" in done.stderr
    assert bundle_command("path", "m", "--hf-home", home, "--quick").exit_code == 0


def test_path_of_an_unknown_repo_gives_close_names(home: Path) -> None:
    done = bundle_command("path", "org/n", "--hf-home", home)
    assert done.exit_code == 9
    assert "did you mean 'org/m'?" in done.stderr
    assert bundle_command("path", "org/m", "--dataset", "--hf-home", home).exit_code == 9


def test_path_asks_which_bundle_where_two_have_different_commits(home: Path, tmp_path: Path) -> None:
    other = locked_repo("org/m", FILES, commit="d" * 40, revision="v2")
    second = tiny_bundle(tmp_path / "second", other, contents=FILES.values(), name="second")
    assert bundle_command("install", second, "--hf-home", home).exit_code == 0
    done = bundle_command("path", "org/m", "--hf-home", home)
    assert done.exit_code == 9
    assert "second, tiny" in done.stderr
    assert (
        bundle_command("path", "org/m", "--bundle", "second", "--hf-home", home).stdout.strip().endswith("d" * 40)
    )


def test_remove_uninstalls(home: Path) -> None:
    digest = Home(home).bundle("tiny").digest
    done = bundle_command("remove", "tiny", "--hf-home", home)
    said = f"deleted tiny {digest[:19]}: 5 kB\nremoved tiny, 1 generation; 5 kB freed\n"
    assert (done.exit_code, done.stderr) == (0, said)
    assert bundle_command("remove", "tiny", "--hf-home", home).exit_code == 9
