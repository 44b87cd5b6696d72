"""`docs/upgrade.md`, word by word: its commands run in a shell, and say what the page says that they say."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.generate.sources import ROOT
from tests.support.hub import RunningHub
from tests.support.process import run, script

PAGE = (ROOT / "docs/upgrade.md").read_text()
MANIFEST = "version: 1\nname: team\ntokenizers:\n  - repo_id: openai-community/gpt2\n"
_BLOCK = re.compile(r"^```(bash|text)\n(.*?)^```$", re.M | re.S)


@dataclass
class Step:
    """A block of commands, and the lines that it must print, `…` for anything."""

    commands: str
    expected: list[str]


def read_steps() -> Iterator[Step]:
    step: Step | None = None
    for kind, text in _BLOCK.findall(PAGE):
        if kind == "text":
            assert step is not None, "what is printed stands behind what prints it"
            step.expected = text.splitlines()
            continue
        if step is not None:
            yield step
        step = Step(text, [])
    assert step is not None
    yield step


def prints(output: str, line: str) -> bool:
    pattern = ".*".join(map(re.escape, line.strip().split("…")))
    return any(re.fullmatch(pattern, found.strip()) for found in output.splitlines())


def test_every_command_of_the_page_does_what_the_page_says(demo_hub_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "team.yaml").write_text(MANIFEST)
    repos = tmp_path / "hub"
    shutil.copytree(demo_hub_dir / "openai-community" / "gpt2", repos / "openai-community" / "gpt2")
    path = f"{Path(script('bundle')).parent}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "BUNDLE_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "home")}
    outputs: dict[str, str] = {}
    for step in read_steps():
        if "--upgrade" in step.commands:
            # What upstream published since.
            settings = repos / "openai-community" / "gpt2" / "tokenizer_config.json"
            settings.write_text(settings.read_text() + "\n")
        with RunningHub(repos) as hub:
            more = {"HF_ENDPOINT": hub.endpoint} if "bundle fetch" in step.commands else {}
            done = run(["bash", "-ec", step.commands], env={**env, **more}, cwd=tmp_path / "work")
        output = outputs[step.commands] = done.stdout + done.stderr
        assert [line for line in step.expected if not prints(output, line)] == [], output
    (whole, delta) = outputs["bundle digest team\nbundle digest team.delta.tar.zst --installed\n"].split()
    assert whole == delta
    work = tmp_path / "work"
    assert (work / "team.delta.tar.zst").stat().st_size < (work / "team.tar.zst").stat().st_size // 10
