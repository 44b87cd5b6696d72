"""What a launch says of what is not here: a table of what is asked, against what the bundles have.

With the stock client, in one launch: `sys.excepthook` is what Python calls for an error that nobody caught.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.home.installation.install import install
from bundler.plan.manifest import Manifest
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle
from tests.support.messages import Told
from tests.support.process import run, script

FILES = {"config.json": b"{}"}
BUNDLES = {
    "more": [
        locked_repo("org/m", FILES, absent=["generation_config.json"], aliases=["m"]),
        locked_repo("org/d", FILES, kind="dataset"),
        locked_repo("org/t", FILES, kind="tokenizer"),
        locked_repo("org/k", FILES, kind="kernel", revision="v1"),
        locked_repo("org/tagged", FILES, revision="v1"),
        locked_repo("org/pinned", FILES, revision=COMMIT, refs=["main"]),
        # As a lock of an earlier version has it.
        locked_repo("org/old", FILES, revision=COMMIT),
        locked_repo("org/two", FILES, revision="v1"),
        locked_repo("org/two", FILES, revision="v2", commit=OTHER_COMMIT),
    ],
    "aside": [locked_repo("org/aside", FILES)],
}
# Without an entry: what is found.
FOUND = {
    "get('org/m', 'config.json')",
    "get('m', 'config.json')",
    "get('org/pinned', 'config.json')",
    "get('org/pinned', 'config.json', revision=COMMIT)",
    "get('org/two', 'config.json', revision='v2')",
    "get('org/d', 'config.json', repo_type='dataset')",
}
MISSING = [
    "get('org/m', 'config.json', revision='v2')",
    "get('org/m', 'model.safetensors')",
    "get('m', 'model.safetensors')",
    "get('org/m', 'generation_config.json')",
    "get('org/m', 'config.json', repo_type='dataset')",
    "get('org/m', 'config.json', local_dir='here')",
    "get('org/m', 'config.json', cache_dir='there')",
    "get('org/t', 'model.safetensors')",
    "get('org/d', 'config.json')",
    "get('org/d', 'other.json', repo_type='dataset')",
    "get('org/tagged', 'config.json')",
    "get('org/old', 'config.json')",
    "get('org/two', 'config.json')",
    "get('org/aside', 'config.json')",
    "get('org/gone', 'config.json')",
    "get('org/gone', 'app.py', repo_type='space')",
    "get('org/gone', 'x.py', repo_type='kernel')",
    "get('org/k', 'config.json')",
    "get('org/k', 'x.py')",
    "snapshot_download('org/k', repo_type='kernel', revision='v9')",
    "snapshot_download('org/tagged')",
    "snapshot_download('org/gone')",
    "list_repo_files('org/m')",
    "HfApi().model_info('org/m')",
    "HfApi().dataset_info('org/d')",
    "HfFileSystem().ls('datasets/org/d')",
]
PROGRAM = """\
import sys
from huggingface_hub import HfApi, HfFileSystem, list_repo_files, snapshot_download
from huggingface_hub import hf_hub_download as get

COMMIT = sys.argv[1]
for call in sys.argv[2:]:
    sys.stderr.write(f"== {call}\\n")
    try:
        eval(call)
    except Exception:
        sys.excepthook(*sys.exc_info())
    else:
        sys.stderr.write("found\\n")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("missing")
    for name, repos in BUNDLES.items():
        install(tiny_bundle(root / name, *repos, contents=FILES.values(), name=name), root / "home")
    return root / "home"


@pytest.fixture(scope="module")
def said(home: Path) -> dict[str, str]:
    """What the launch wrote of each call."""
    program = home.parent / "program.py"
    program.write_text(PROGRAM)
    words = [script("bundle"), "run", "--hf-home", home, "--bundle", "more", "--", sys.executable, program, COMMIT]
    done = run([*map(str, words), *sorted(FOUND), *MISSING], cwd=home.parent)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in done.stderr.split("== ")[1:]}


@pytest.mark.slow
@pytest.mark.parametrize("call", sorted(FOUND))
def test_what_is_here_is_found(said: dict[str, str], call: str) -> None:
    assert said[call] == "found\n"


@pytest.mark.slow
@pytest.mark.parametrize("call", MISSING)
def test_what_is_not_here_is_explained_by_what_is(said: dict[str, str], call: str, home: Path, told: Told) -> None:
    notes = re.findall(r"^offline: .*\n  hint: .*", said[call], re.MULTILINE)
    places = {"pinned": COMMIT, "commit": COMMIT[:12], "other": OTHER_COMMIT[:12], "folder": home.parent}
    told("missing", call, "\n".join(notes) or said[call], home=home, **places)


def follow(call: str, hint: str) -> str:
    """Return a call as a hint says that it should be, if it says so; else an empty text."""
    if found := re.findall(r'(?:pass|and) (revision|repo_type)="([^"]+)"', hint):
        for name, value in found:
            bare = re.sub(rf", {name}=('[^']*'|COMMIT)", "", call)
            call = f"{bare[:-1]}, {name}={value!r})"
        return call
    if found := re.search(r"leave out (local_dir|cache_dir);", hint):
        return re.sub(rf", {found[1]}='[^']*'", "", call)
    return call if "start it with `--bundle aside` as well" in hint else ""


@pytest.mark.slow
def test_what_a_hint_says_of_the_code_of_the_launch_and_of_the_manifest_is_true(
    said: dict[str, str], home: Path
) -> None:
    hints = {call: "".join(re.findall(r"^  hint: (.*)", said[call], re.MULTILINE)) for call in MISSING}
    assert all(hints.values())
    calls = sorted({changed for call, hint in hints.items() if (changed := follow(call, hint))})
    assert len(calls) > 8
    bundles = ["--bundle", "more", "--bundle", "aside"]
    words = [
        script("bundle"),
        "run",
        "--hf-home",
        home,
        *bundles,
        "--",
        sys.executable,
        home.parent / "program.py",
    ]
    done = run([*map(str, words), COMMIT, *calls], cwd=home.parent)
    assert re.findall(r"^== .*\n(?!found\n).*", done.stderr.partition("offline:")[0], re.MULTILINE) == []
    assert done.stderr.count("\nfound\n") == len(calls)

    for words in {
        tuple(found.split()) for hint in hints.values() for found in re.findall("`bundle (path [^`]+)`", hint)
    }:
        shown = CliRunner().invoke(main, [*words, "--hf-home", str(home)])
        assert (Path(shown.stdout.strip()) / "config.json").is_file(), shown.stderr
    lines = {found for hint in hints.values() for found in re.findall("`(- [^`]+)` (?:under ([a-z]+))?", hint)}
    for line, section in lines:
        Manifest.parse(f"version: 1\nname: m\n{section or 'models'}:\n  {line}\n")
