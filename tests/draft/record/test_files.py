"""Which files of which repos are recorded, and by which entries: by the stock client, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.plan.lockfile import lock_path, read_lock
from bundler.plan.manifest import Manifest
from tests.draft.record.conftest import Record, program
from tests.support.hub import RunningHub
from tests.support.process import run, script

PYTHON = script("python")
DOWNLOAD = """
import sys
from huggingface_hub import hf_hub_download
for name in sys.argv[1:]:
    repo, _, file = name.partition(":")
    print(hf_hub_download(repo, file))
"""


def test_files_of_a_repo_are_named_where_the_default_choice_would_not_take_them(
    record: Record, tmp_path: Path
) -> None:
    found = record(PYTHON, program(tmp_path, DOWNLOAD), "org/plain:a.gguf")
    entry = found.entries["org/plain"]
    assert (entry.kind, entry.allow_patterns, entry.revision) == ("model", ("a.gguf",), "main")
    assert found.report["repos"][0]["files"] == ["a.gguf"]


def test_names_of_renamed_repos_become_aliases(record: Record, tmp_path: Path) -> None:
    found = record(PYTHON, program(tmp_path, DOWNLOAD), "words:config.json", "words:tokenizer.json")
    entry = found.entries["org/words"]
    assert (entry.kind, entry.aliases, entry.allow_patterns) == ("tokenizer", ("words",), None)


def test_what_is_in_the_cache_is_recorded_and_not_downloaded_again(
    record: Record, hub: RunningHub, tmp_path: Path
) -> None:
    code = program(tmp_path, DOWNLOAD)
    run([PYTHON, code, "org/plain:a.gguf"], env=hub.environment(tmp_path / "hf"))
    hub.clear()
    found = record(PYTHON, code, "org/plain:a.gguf")
    assert hub.asked("GET", "/a.gguf") == []
    assert found.report["repos"][0]["files"] == ["a.gguf"]
    # By a program that asks nobody, too: the names come from the client, and the commit from the cache.
    found.path.unlink()
    lock_path(found.path).unlink()
    offline = 'import os; os.environ["HF_HUB_OFFLINE"] = "1"\n' + DOWNLOAD
    again = record(PYTHON, program(tmp_path, offline), "org/plain:a.gguf")
    assert again.entries["org/plain"].allow_patterns == ("a.gguf",)


def test_a_branch_a_commit_and_main_are_entries_of_their_own(record: Record, tmp_path: Path) -> None:
    code = """
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
commit = HfApi().model_info("org/words").sha
hf_hub_download("org/words", "config.json", revision=commit)
hf_hub_download("org/plain", "a.gguf", revision="dev")
snapshot_download("org/plain", allow_patterns="*.gguf")
"""
    found = record(PYTHON, program(tmp_path, code))
    plain = {e.revision: e.allow_patterns for e in found.manifest.entries if e.repo_id == "org/plain"}
    assert plain == {"dev": ("a.gguf",), "main": ("a.gguf", "b.gguf")}
    lock = read_lock(lock_path(found.path))
    assert lock is not None
    assert {(r.repo_id, r.revision) for r in lock.repos} == {
        ("org/words", "main"),
        ("org/plain", "dev"),
        ("org/plain", "main"),
    }


def test_a_branch_that_was_chosen_from_a_list_is_the_revision(record: Record, tmp_path: Path) -> None:
    code = """
from huggingface_hub import hf_hub_download, list_repo_refs
(commit,) = [ref.target_commit for ref in list_repo_refs("org/plain").branches if ref.name == "dev"]
hf_hub_download("org/plain", "a.gguf", revision=commit)
"""
    found = record(PYTHON, program(tmp_path, code))
    assert [(entry.repo_id, entry.revision) for entry in found.manifest.entries] == [("org/plain", "dev")]


def test_all_processes_of_a_program_are_recorded(record: Record, tmp_path: Path) -> None:
    code = """
import subprocess, sys, multiprocessing
from huggingface_hub import hf_hub_download
def load(name):
    hf_hub_download("org/plain", name)
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.map(load, ["a.gguf"])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.map(load, ["b.gguf"])
    child = "from huggingface_hub import hf_hub_download; hf_hub_download('org/words', 'config.json')"
    subprocess.run(["sh", "-c", 'exec "$0" -c "$1"', sys.executable, child], check=True)
"""
    found = record(PYTHON, program(tmp_path, code))
    files = {repo["repo_id"]: repo["files"] for repo in found.report["repos"]}
    assert files == {"org/plain": ["a.gguf", "b.gguf"], "org/words": ["config.json"]}


@pytest.mark.parametrize("options", [["-I"], ["-S"]])
def test_a_python_that_nobody_watches_is_seen_at_the_door(
    record: Record, hub: RunningHub, tmp_path: Path, options: list[str]
) -> None:
    code = """
import os, urllib.request
with urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/org/plain/resolve/main/a.gguf") as answer:
    assert answer.read(4) == b"GGUF"
"""
    found = record(PYTHON, *options, program(tmp_path, code))
    assert found.entries["org/plain"].allow_patterns == ("a.gguf",)


def test_a_compiled_client_is_seen_at_the_door_by_every_name(record: Record) -> None:
    found = record("sh", "-c", "curl -sSfL $HF_ENDPOINT/words/resolve/main/config.json")
    assert found.done.stdout == '{"model_type": "gpt2"}'
    assert found.entries["org/words"].aliases == ("words",)
    assert any("curl" in text and "cache" in text for text in found.report["warnings"])


def test_a_program_that_fails_is_recorded_as_far_as_it_came(record: Record, tmp_path: Path) -> None:
    code = program(tmp_path, DOWNLOAD + "sys.exit(3)")
    found = record(PYTHON, code, "org/words:config.json", check=False)
    assert (found.done.returncode, found.report["exit_code"]) == (3, 3)
    assert list(found.entries) == ["org/words"]
    assert "CMD ended with 3" in found.done.stderr


def test_a_program_that_loads_nothing_leaves_nothing(record: Record, tmp_path: Path) -> None:
    found = record("true")
    assert found.report["manifest"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json"]


def test_the_programs_own_folder_is_told(record: Record, tmp_path: Path) -> None:
    code = """
from huggingface_hub import hf_hub_download
hf_hub_download("org/plain", "a.gguf", local_dir="mine")
"""
    found = record(PYTHON, program(tmp_path, code))
    assert found.entries["org/plain"].allow_patterns == ("a.gguf",)
    assert any("local_dir" in text for text in found.report["warnings"])


ELSEWHERE = """
import os, signal, sys
import urllib.request  # it has parts of its own there
sys.platform = "darwin"
for module, names in ((os, ["pipe2", "pidfd_open"]), (signal, ["sigwaitinfo", "sigtimedwait"])):
    for name in names:
        delattr(module, name)
from bundler.cli import main
main()
"""


def test_a_system_without_the_calls_of_linux_records_what_python_and_the_door_see(
    hub: RunningHub, tmp_path: Path
) -> None:
    manifest, code = tmp_path / "m.yaml", program(tmp_path, DOWNLOAD + "sys.exit(3)")
    words = [PYTHON, "-c", ELSEWHERE, "record", "-o", manifest, "--", PYTHON, code, "org/plain:a.gguf"]
    done = run(words, env=hub.environment(tmp_path / "hf"), check=False)
    assert done.returncode == 3, done.stderr
    assert [entry.allow_patterns for entry in Manifest.load(manifest).entries] == [("a.gguf",)]
    assert "compiled programs were not seen" in done.stderr
