"""Files of other hosts that tiktoken and torch.hub keep are recorded, from the network and from their caches."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.draft.record.notes import UrlUse
from bundler.draft.record.web_files import make_files
from bundler.plan.manifest import Manifest
from tests.draft.record.conftest import Record, program
from tests.support.hub import RunningHub
from tests.support.process import run, run_python, script

PYTHON = script("python")
PROGRAM = """
import sys, tiktoken.load, torch
from huggingface_hub import hf_hub_download
hf_hub_download("org/words", "config.json")
for _ in range(2):
    state = torch.hub.load_state_dict_from_url(sys.argv[1] + "/weights.pt", progress=False)
    content = tiktoken.load.read_file_cached(sys.argv[1] + "/words.tiktoken")
print(state["x"].tolist(), content)
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A server with a checkpoint and a vocabulary; yields its address."""
    folder = tmp_path / "web"
    folder.mkdir()
    run_python("import sys, torch; torch.save({'x': torch.ones(2)}, sys.argv[1])", folder / "weights.pt")
    (folder / "words.tiktoken").write_bytes(b"aGVsbG8= 0\n")
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_what_they_keep_is_recorded_and_found_offline(
    record: Record, hub: RunningHub, web: str, tmp_path: Path
) -> None:
    pytest.importorskip("tiktoken")
    (tmp_path / "program.yaml").write_text("# ours\nversion: 1\nname: program\n")
    code = program(tmp_path, PROGRAM)
    kept = {"TORCH_HOME": str(tmp_path / "torch"), "TIKTOKEN_CACHE_DIR": str(tmp_path / "kept")}
    found = record(PYTHON, code, web, **kept)
    files = {(entry.url, entry.into) for entry in found.manifest.files}
    assert files == {(f"{web}/weights.pt", "torch_hub"), (f"{web}/words.tiktoken", "tiktoken")}
    assert found.path.read_text().startswith("# ours\n")
    assert found.report["warnings"] == []
    # From their caches, too; and nothing is written twice.
    before = found.path.read_text()
    assert record(PYTHON, code, web, **kept).path.read_text() == before

    environment = {**hub.environment(tmp_path / "hf"), "BUNDLE_CACHE": str(tmp_path / "store")}
    run([script("bundle"), "fetch", found.path], env=environment, cwd=tmp_path)
    home = tmp_path / "empty"
    run([script("bundle"), "install", tmp_path / "program.tar.zst", "--hf-home", home])
    done = run([script("bundle"), "run", "--hf-home", home, "--strict", "--", PYTHON, code, web])
    assert done.stdout.splitlines()[-1] == found.done.stdout.splitlines()[-1]
    assert Manifest.load(found.path).entries[0].repo_id == "org/words"


def test_what_no_library_will_look_for_is_left_to_be_told() -> None:
    torch = functools.partial(UrlUse, library="torch", where="x.py:1")
    plain = torch("https://example.org/a.pt")
    files, left = make_files(
        [
            plain,
            torch("https://example.org/a.pt", name="named.pt"),
            torch("https://example.org/own.pt", is_own=True),
            torch("http://example.org/changed.pt"),
            torch("https://github.com/org/repo:v1"),
            torch("https://github.com/org/repo/zipball/v1"),
            torch("https://github.com/org/other"),
            torch("https://github.com/org/known"),
            torch("https://github.com/org/known/zipball/main"),
        ]
    )
    assert [(entry.url, entry.path, entry.torch_repo) for entry in files] == [
        ("https://example.org/a.pt", None, None),
        ("https://example.org/a.pt", "named.pt", None),
        ("https://github.com/org/repo/zipball/v1", None, "org/repo:v1"),
        ("https://github.com/org/known/zipball/main", None, "org/known:main"),
    ]
    assert [use.url.rpartition("/")[2] for use in left] == ["own.pt", "changed.pt", "other"]
