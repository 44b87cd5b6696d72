"""A bundle from a cache alone: nobody is asked, and what cannot be known is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_dry_run import everything
from tests.support.hub import RunningHub
from tests.support.process import run, run_python, script

LOAD = """
from transformers import AutoTokenizer
print(AutoTokenizer.from_pretrained("openai-community/gpt2")("a b")["input_ids"])
"""
# As on a machine without a network, whose user has said so.
SHUT = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1", "HTTP_PROXY": "http://127.0.0.1:9"}


@pytest.mark.slow
def test_a_bundle_is_made_from_a_cache_alone(
    demo_hub: RunningHub, tmp_path: Path, isolated_environment: Path
) -> None:
    online = run_python(LOAD, env=demo_hub.environment(tmp_path / "hf"))
    demo_hub.clear()
    manifest = tmp_path / "words.yaml"
    manifest.write_text("version: 1\nname: words\ntokenizers:\n  - repo_id: openai-community/gpt2\n")
    environment = {**SHUT, "HF_HOME": str(tmp_path / "hf"), "BUNDLE_CACHE": str(tmp_path / "store")}
    words = [script("bundle"), "fetch", manifest, "--offline", "--json"]
    before = everything(tmp_path, isolated_environment)
    planned = json.loads(run([*words, "--dry-run"], env=environment, cwd=tmp_path).stdout)
    assert planned["download_bytes"] == 0 and everything(tmp_path, isolated_environment) == before
    made = run(words, env=environment, cwd=tmp_path)
    found = json.loads(made.stdout)
    assert (found["downloaded_files"], found["cached_files"]) == (0, found["files"])
    assert "warning: --offline" in made.stderr and "not known" in made.stderr
    assert demo_hub.requests == []
    home = tmp_path / "home"
    run([script("bundle"), "install", tmp_path / "words.tar.zst", "--hf-home", home])
    argv = [script("bundle"), "run", "--hf-home", home, "--strict", "--", script("python"), "-c", LOAD]
    assert run(argv).stdout == online.stdout


def test_what_the_cache_has_not_is_an_error(demo_hub: RunningHub, tmp_path: Path) -> None:
    load = "from huggingface_hub import hf_hub_download; hf_hub_download('openai-community/gpt2', 'config.json')"
    run_python(load, env=demo_hub.environment(tmp_path / "hf"))
    manifest = tmp_path / "words.yaml"
    manifest.write_text("version: 1\nname: words\ntokenizers:\n  - repo_id: org/absent\n")
    words = [script("bundle"), "fetch", manifest, "--offline", "--dry-run", "--from-cache"]
    environment = {**SHUT, "HF_HOME": str(tmp_path / "other")}
    assert run([*words, tmp_path / "hf"], env=environment, check=False).returncode == 5
    (tmp_path / "empty").mkdir()
    assert run([*words, tmp_path / "empty"], env=environment, check=False).returncode == 9
    assert run(words[:-1], env=environment, check=False).returncode == 9
