"""What a launch says of what is not here: a table of what is asked, against what the bundles have.

With the stock client, in one launch: `sys.excepthook` is what Python calls for an error that nobody caught.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bundler.home.installation.install import install
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
