"""Files of other hosts in a home: installed, verified, upgraded and removed as repositories are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bundler.errors import IntegrityError
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.remove import remove
from tests.support.bundles import locked_repo, locked_web_file, tiny_bundle
from tests.support.process import run, script

URL = "https://a.example/words.txt"
SHOW = """
import json, os
found = {}
for name in ("TIKTOKEN_CACHE_DIR", "TORCH_HOME", "NLTK_DATA", "BUNDLE_FILES"):
    folder = os.environ.get(name, "")
    for path, _, names in os.walk(folder):
        for file in names:
            place = os.path.join(path, file)
            found[name + "/" + os.path.relpath(place, folder)] = open(place).read()
print(json.dumps(found))
"""


def make(folder: Path, content: bytes, *, name: str = "tiny", path: str = "files/words.txt") -> Path:
    repos = (locked_web_file(URL, {path: content}), locked_repo("org/m", {"config.json": b"{}"}))
    folder.mkdir(exist_ok=True)
    return tiny_bundle(folder, *repos, contents=[content, b"{}"], name=name)


def launch(
    home: Path, *options: str, env: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    (home.parent / "tmp").mkdir(exist_ok=True)
    argv = [script("bundle"), "run", "--hf-home", home, *options, "--", script("python"), "-c", SHOW]
    return run(argv, env={"TMPDIR": str(home.parent / "tmp"), **(env or {})}, check=check)


def seen(home: Path, *options: str, env: dict[str, str] | None = None) -> dict[str, str]:
    found = json.loads(launch(home, *options, env=env).stdout)
    assert isinstance(found, dict)
    return found


def test_each_library_finds_its_files_and_only_where_there_are_some(tmp_path: Path) -> None:
    files = {
        "tiktoken": ("tiktoken/0123", b"ranks"),
        "torch_hub": ("torch/hub/checkpoints/x.pth", b"weights"),
        "files": ("files/a/b.txt", b"words"),
    }
    entries = [
        locked_web_file(f"https://a.example/{into}", {path: content}, into=into)  # type: ignore[arg-type]
        for into, (path, content) in files.items()
    ]
    bundle = tiny_bundle(tmp_path, *entries, contents=[content for _, content in files.values()])
    install(bundle, tmp_path / "hf")
    assert seen(tmp_path / "hf", env={"NLTK_DATA": str(tmp_path / "own"), "TORCH_HOME": "/elsewhere"}) == {
        "TIKTOKEN_CACHE_DIR/0123": "ranks",
        "TORCH_HOME/hub/checkpoints/x.pth": "weights",
        "BUNDLE_FILES/a/b.txt": "words",
    }


def test_what_a_library_deletes_and_writes_is_its_own_copy(tmp_path: Path) -> None:
    home = tmp_path / "hf"
    install(make(tmp_path / "b", b"words"), home)
    spoil = """if True:
        import os
        place = os.environ["BUNDLE_FILES"] + "/words.txt"
        os.remove(place)
        with open(place, "w") as stream:
            stream.write("other")
    """
    (tmp_path / "tmp").mkdir()
    argv = [script("bundle"), "run", "--hf-home", home, "--", script("python"), "-c", spoil]
    run(argv, env={"TMPDIR": str(tmp_path / "tmp")})
    assert Home(home).bundle("tiny").verify().ok
    assert seen(home) == {"BUNDLE_FILES/words.txt": "words"}


def test_a_changed_file_is_found_before_the_launch(tmp_path: Path) -> None:
    home = tmp_path / "hf"
    install(make(tmp_path / "b", b"words"), home)
    [blob] = (home / "files").glob("*/blobs/*")
    blob.chmod(0o644)
    blob.write_bytes(b"wordx")
    report = Home(home).bundle("tiny").verify()
    assert [(fault.kind, "words.txt" in fault.detail) for fault in report.faults] == [("changed", True)]
    assert launch(home, check=False).returncode == IntegrityError.exit_code


def test_an_upgrade_is_another_generation_and_a_removal_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "hf"
    install(make(tmp_path / "1", b"old"), home)
    first = Home(home).bundle("tiny").digest
    install(make(tmp_path / "2", b"new"), home)
    assert seen(home) == {"BUNDLE_FILES/words.txt": "new"}
    run([script("bundle"), "rollback", "tiny", first, "--hf-home", home])
    assert seen(home) == {"BUNDLE_FILES/words.txt": "old"}
    remove("tiny", home)
    run([script("bundle"), "prune", "--hf-home", home])
    assert not list((home / "files").rglob("*")) and not list((home / "hub").rglob("*"))


def test_bundles_share_equal_files_and_contradict_each_other_in_others(tmp_path: Path) -> None:
    home = tmp_path / "hf"
    install(make(tmp_path / "1", b"one", name="first"), home)
    install(make(tmp_path / "2", b"one", name="second"), home)
    assert len(list((home / "files").glob("*/blobs/*"))) == 1
    assert seen(home) == {"BUNDLE_FILES/words.txt": "one"}
    install(make(tmp_path / "3", b"three", name="third"), home)
    assert seen(home, "--bundle", "third") == {"BUNDLE_FILES/words.txt": "three"}
    done = launch(home, check=False)
    assert done.returncode == 17 and "third" in done.stderr


def test_two_addresses_for_one_place_are_refused_in_one_launch(tmp_path: Path) -> None:
    home = tmp_path / "hf"
    for number in ("1", "2"):
        entry = locked_web_file(f"https://a.example/{number}", {"files/words.txt": number.encode()})
        (tmp_path / number).mkdir()
        install(tiny_bundle(tmp_path / number, entry, contents=[number.encode()], name=f"b{number}"), home)
    done = launch(home, check=False)
    assert done.returncode == 17 and "different files for files/words.txt" in done.stderr
    assert seen(home, "--bundle", "b2") == {"BUNDLE_FILES/words.txt": "2"}


@pytest.mark.parametrize("command", [["list", "--json"], ["list"], ["doctor"]])
def test_the_other_commands_know_them(tmp_path: Path, command: list[str]) -> None:
    home = tmp_path / "hf"
    install(make(tmp_path / "b", b"words"), home)
    done = run([script("bundle"), *command, "--hf-home", home], check=False)
    assert "Traceback" not in done.stderr
    if "--json" in command:
        [bundle] = json.loads(done.stdout)["bundles"]
        assert [entry["kind"] for entry in bundle["entries"]] == ["file", "model"]


def test_the_client_sees_none_of_them(tmp_path: Path) -> None:
    install(make(tmp_path / "b", b"words"), tmp_path / "hf")
    code = """if True:
        from huggingface_hub import scan_cache_dir
        found = scan_cache_dir()
        assert not found.warnings and len(found.repos) == 1
    """
    run([script("python"), "-c", code], env={"HF_HOME": str(tmp_path / "hf")})
