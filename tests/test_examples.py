"""The scripts of `examples/` as a reader runs them, one after the other, on the demo's tokenizer."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.support.hub import RunningHub
from tests.support.process import run

EXAMPLES = Path(__file__).parents[1] / "examples"
MANIFEST = "version: 1\nname: words\ntokenizers:\n  - repo_id: openai-community/gpt2\n    aliases: [gpt2]\n"
# Learns which token follows which, in a text that it reads a few times.
TRAIN = """
import sys, torch
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("gpt2")
tokens = torch.tensor(tokenizer("the cat sat on the mat and the dog sat on the log " * 20)["input_ids"])
names, rows = tokens.unique(return_inverse=True)
torch.manual_seed(0)
table = torch.nn.Embedding(len(names), len(names))
optimizer = torch.optim.Adam(table.parameters(), lr=0.1)
losses = []
for _ in range(int(sys.argv[1])):
    loss = torch.nn.functional.cross_entropy(table(rows[:-1]), rows[1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0] / 2, losses
print(f"{losses[0]:.2f} -> {losses[-1]:.2f}")
"""
TRIES_THE_NETWORK = """
import socket
try:
    socket.create_connection(("198.51.100.7", 443), timeout=1)
except OSError:
    pass
except RuntimeError:
    pass
"""


def test_a_bundle_is_made_installed_loaded_and_trained_on(demo_hub: RunningHub, tmp_path: Path) -> None:
    manifest, bundle, home = tmp_path / "words.yaml", tmp_path / "words.tar.zst", tmp_path / "hf-home"
    manifest.write_text(MANIFEST)
    environment = {**demo_hub.environment(tmp_path / "hf"), "BUNDLE_CACHE": str(tmp_path / "cache")}
    made = run([sys.executable, EXAMPLES / "make_bundle.py", manifest, bundle], env=environment)
    assert "openai-community/gpt2: " in made.stdout
    path, digest = made.stdout.splitlines()[-1].split()
    assert path == str(bundle) and bundle.stat().st_size > 100_000

    demo_hub.clear()
    loaded = run([sys.executable, EXAMPLES / "load_offline.py", bundle, home], env=environment)
    assert loaded.stdout.splitlines()[0] == f"installed words {digest}"
    # GPT-2's numbers for these words, as anybody's copy of it gives them.
    assert loaded.stdout.splitlines()[1] == "openai-community/gpt2: [8086, 1463, 351, 257, 4088, 13]"

    (tmp_path / "train.py").write_text(TRAIN)
    training = [sys.executable, EXAMPLES / "run_training.py", home, "words"]
    trained = run([*training, tmp_path / "train.py", "30"], env=environment)
    assert "attempts   0" in trained.stderr and " -> " in trained.stdout

    (tmp_path / "asks.py").write_text(TRIES_THE_NETWORK)
    asked = run([*training, tmp_path / "asks.py"], env=environment, check=False)
    assert asked.returncode == 11 and "198.51.100.7:443" in asked.stderr
    assert demo_hub.requests == []


@pytest.mark.parametrize("name", ["make_bundle", "load_offline", "run_training"])
def test_an_example_says_how_it_is_run_and_uses_the_public_interface_only(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert f"\n    python examples/{name}.py " in (ast.get_docstring(ast.parse(text), clean=False) or "")
    assert len(text.splitlines()) < 60
    modules = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom | ast.Import)]
    names = {alias.name for node in modules if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in modules if isinstance(node, ast.ImportFrom)}
    assert {item for item in names if item.split(".")[0] in ("bundler", "infini_llama")} == {"bundler"}


def test_what_goes_wrong_in_an_example_is_a_message_and_an_exit_code(tmp_path: Path) -> None:
    done = run([sys.executable, EXAMPLES / "load_offline.py", tmp_path / "none", tmp_path], check=False)
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'none'}: ")


def test_every_example_is_named_in_the_readme() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"(examples/{path.name})" in readme
