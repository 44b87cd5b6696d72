"""Files of other hosts: the stock libraries find them offline, where they look for what they have downloaded."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
import torch

from bundler.plan.lock import Lock
from tests.support.process import run, script
from tests.support.web import WebServer, zip_of

pytest.importorskip("tiktoken")
pytest.importorskip("nltk")
pytestmark = pytest.mark.slow

BPE = b"".join(base64.b64encode(bytes([byte])) + f" {byte}\n".encode() for byte in range(256))
HUBCONF = b"from tiny.model import make\n\n\ndef twice(x=1):\n    return make(x)\n"
REPO = {
    "own-tiny-0a1b2c3/": b"",
    "own-tiny-0a1b2c3/hubconf.py": HUBCONF,
    "own-tiny-0a1b2c3/tiny/__init__.py": b"",
    "own-tiny-0a1b2c3/tiny/model.py": b"def make(x):\n    return 2 * x\n",
}
MANIFEST = """\
version: 1
name: with-files
files:
  - {{url: "{web}/encodings/bytes.tiktoken", into: tiktoken}}
  - {{url: "{web}/models/tiny-0123abcd.pth", into: torch_hub}}
  - {{url: "{web}/zip/tiny", into: torch_hub, repo: "own/tiny:main"}}
  - {{url: "{web}/nltk_data/packages/corpora/stopwords.zip", into: nltk_data}}
  - {{url: "{web}/lists/words.txt?v=2", path: lists/words.txt}}
"""
# The address of an encoding stands in tiktoken's own code; this is how its documentation says to add another one.
PLUGIN = """
from tiktoken.load import load_tiktoken_bpe

def bytes_only():
    ranks = load_tiktoken_bpe("{web}/encodings/bytes.tiktoken", expected_hash="{sha256}")
    return {{"name": "bytes_only", "pat_str": r".", "mergeable_ranks": ranks, "special_tokens": {{}}}}

ENCODING_CONSTRUCTORS = {{"bytes_only": bytes_only}}
"""
PROGRAM = """
import os, sys
import nltk, tiktoken, torch
from nltk.corpus import stopwords

assert tiktoken.get_encoding("bytes_only").encode("hi") == [104, 105]
state = torch.hub.load_state_dict_from_url(sys.argv[1] + "/models/tiny-0123abcd.pth", weights_only=True)
assert state["w"].tolist() == [1.0, 2.0]
# It asks GitHub for the branch first, and then takes what is there.
assert torch.hub.load("own/tiny", "twice", x=4) == 8
assert torch.hub.load("own/tiny:main", "twice", x=3) == 6
assert nltk.data.find("corpora/stopwords.zip")
assert stopwords.words("english") == ["the", "a"]
with open(os.path.join(os.environ["BUNDLE_FILES"], "lists/words.txt")) as stream:
    assert stream.read() == "one two"
"""


def checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.tensor([1.0, 2.0])}, buffer)
    return buffer.getvalue()


@pytest.fixture
def files() -> dict[str, bytes | str | int]:
    return {
        "/encodings/bytes.tiktoken": BPE,
        "/models/tiny-0123abcd.pth": "/moved/tiny.pth",
        "/moved/tiny.pth": checkpoint(),
        "/zip/tiny": zip_of(REPO),
        "/nltk_data/packages/corpora/stopwords.zip": zip_of({"stopwords/english": b"the\na\n"}),
        "/lists/words.txt": b"one two",
    }


def fetch(web: WebServer, folder: Path, *options: str, check: bool = True) -> tuple[int, str]:
    """Fetch the manifest, without any Hub; return exit code and what was said."""
    (folder / "m.yaml").write_text(MANIFEST.format(web=web.url))
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "BUNDLE_CACHE": str(folder / "cache"), "HF_TOKEN": "hf_secret"}
    argv = [script("bundle"), "fetch", "m.yaml", "-o", "m.tar.zst", "--unsandboxed", *options]
    done = run(argv, env={**env, "HOME": str(folder), "HF_HOME": str(folder / "online")}, cwd=folder, check=check)
    return done.returncode, done.stderr


def test_the_libraries_find_them_offline(files: dict[str, bytes | str | int], tmp_path: Path) -> None:
    with WebServer(files) as web:
        _, said = fetch(web, tmp_path)
        assert len(web.requests) == len(files), "each once, and one by way of a redirect"
        assert not any({"authorization", "cookie"} & headers.keys() for _, headers in web.requests)
        address = web.url
    for line in (
        "tiktoken finds and reads it (256 tokens)",
        "torch.hub loads it (1 key)",
        "its hubconf.py offers make, twice",
        "nltk finds corpora/stopwords.zip",
        "is $BUNDLE_FILES/lists/words.txt",
    ):
        assert line in said
    lock = Lock.loads((tmp_path / "m.lock").read_text())
    assert lock.version == 2 and lock.is_complete
    assert [file.path for file in lock.repos[2].files] == [
        f"torch/hub/own_tiny_main/{name}" for name in ("hubconf.py", "tiny/__init__.py", "tiny/model.py")
    ]
    home = tmp_path / "hf"
    run([script("bundle"), "install", tmp_path / "m.tar.zst", "--hf-home", home])
    run([script("bundle"), "verify", "with-files", "--hf-home", home])
    origin = lock.repos[0].origin
    assert origin is not None
    plugins = tmp_path / "plugins/tiktoken_ext"
    plugins.mkdir(parents=True)
    (plugins / "bytes_only.py").write_text(PLUGIN.format(web=address, sha256=origin.sha256))
    (tmp_path / "program.py").write_text(PROGRAM)
    argv = [script("bundle"), "run", "--hf-home", home, "--strict", "--expect", "github.com:443", "--"]
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(plugins.parent), "TMPDIR": str(tmp_path)}
    argv += [script("python"), tmp_path / "program.py", address]
    for _ in range(2):
        done = run(argv, env=env)
        assert "attempts   1" in done.stderr, "torch.hub.load without a branch asks GitHub"


@pytest.mark.programs
def test_a_lock_of_another_machine_brings_the_same_files(
    files: dict[str, bytes | str | int], tmp_path: Path
) -> None:
    with WebServer(files) as web:
        fetch(web, tmp_path)
        first = (tmp_path / "m.tar.zst").read_bytes()
        (tmp_path / "m.tar.zst").unlink()
        run(["rm", "-r", tmp_path / "cache"])
        # GitHub packs the same files in other bytes.
        web.files["/zip/tiny"] = zip_of(dict(reversed([*REPO.items()])))
        fetch(web, tmp_path, "--locked")
        assert (tmp_path / "m.tar.zst").read_bytes() == first
        run(["rm", "-r", tmp_path / "cache"])
        web.files["/lists/words.txt"] = b"one ten"
        code, said = fetch(web, tmp_path, "--locked", check=False)
        assert (code, "--upgrade" in said, "words.txt" in said) == (6, True, True)
        fetch(web, tmp_path, "--upgrade")
    found = json.loads(run([script("bundle"), "inspect", tmp_path / "m.tar.zst", "--json"]).stdout)
    assert [repo["url"].rpartition("/")[2] for repo in found["repos"]][-1] == "words.txt?v=2"


def test_what_the_host_refuses_ends_the_fetch(files: dict[str, bytes | str | int], tmp_path: Path) -> None:
    with WebServer(files) as web:
        web.files["/encodings/bytes.tiktoken"] = 403
        code, said = fetch(web, tmp_path, check=False)
    assert code != 0 and "files[0]: " in said and "answered 403" in said
    assert not (tmp_path / "m.lock").exists() and not (tmp_path / "m.tar.zst").exists()
