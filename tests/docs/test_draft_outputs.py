"""`docs/reference/json.md` has every key that the commands write which write manifests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from docs.generate.draft_outputs import OUTPUTS
from docs.generate.observed import faults
from tests.offline.conftest import OUTSIDE
from tests.support.hub import RunningHub
from tests.support.process import run, script

DOCUMENTED = {output.call: output for output in OUTPUTS}


def check(call: str, *values: Any) -> None:
    assert faults(DOCUMENTED[call], values) == []


def test_the_report_of_a_recording_is_documented(demo_hub: RunningHub, tmp_path: Path) -> None:
    code = f"""
import contextlib, os, socket
import torch
from huggingface_hub import hf_hub_download
hf_hub_download("gpt2", "config.json", local_dir="mine")
torch.hub.download_url_to_file(os.environ["HF_ENDPOINT"] + "/gpt2/resolve/main/config.json", "c", progress=False)
with contextlib.suppress(OSError):
    socket.create_connection(("{OUTSIDE}", 4443), timeout=0.2)
"""
    report = tmp_path / "report.json"
    words = [script("bundle"), "record", "-o", tmp_path / "m.yaml", "--report", report, "--"]
    values = []
    for source in (code, "pass"):
        run([*words, sys.executable, "-c", source], env=demo_hub.environment(tmp_path / "hf"), cwd=tmp_path)
        values.append(json.loads(report.read_bytes()))
    check("bundle record --report FILE", *values)


def bundle(*words: object) -> Any:
    return json.loads(run([script("bundle"), *map(str, words), "--json"]).stdout)


def test_what_scan_init_and_add_write_is_documented(tmp_path: Path) -> None:
    code, manifest = tmp_path / "code.py", tmp_path / "m.yaml"
    code.write_text(
        'AutoModel.from_pretrained("org/a")\nAutoModel.from_pretrained(name)\ntorch.hub.load("org/b:main", "m")\n'
    )
    check("bundle init --json", bundle("init", "-o", manifest))
    check("bundle add --json", bundle("add", "org/b", "--as", "dataset", "-o", manifest))
    check("bundle scan --json", bundle("scan", code), bundle("scan", code, "-o", manifest))
