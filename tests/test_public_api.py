"""The public interface: what a program needs of this project, by `import bundler` and nothing else of it."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bundler

TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"hello": 0, "world": 1, "[UNK]": 2}, "unk_token": "[UNK]"},
}
FILES = {
    "config.json": '{"model_type": "gpt2"}',
    "tokenizer.json": json.dumps(TOKENIZER),
    "tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast"}',
}
LOAD = """
from transformers import AutoTokenizer
assert AutoTokenizer.from_pretrained("greeter")("hello world").input_ids == [0, 1]
"""


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """The address of a Hub that has the repo `org/greeter`: the command `bundle serve`."""
    folder = tmp_path / "hub" / "org" / "greeter"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    argv = [Path(sys.executable).with_name("bundle"), "serve", tmp_path / "hub", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as hub:
        assert hub.stdout
        try:
            yield hub.stdout.readline().strip()
        finally:
            hub.terminate()


class Listener(bundler.Observer):
    """Keeps which stages began."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def begin(self, stage: str, text: str, size_bytes: int = 0) -> None:
        self.stages.append(stage)


def test_a_program_makes_installs_verifies_finds_and_runs_a_bundle(endpoint: str, tmp_path: Path) -> None:
    manifest = tmp_path / "greeter.yaml"
    manifest.write_text(
        "version: 1\nname: greeter\ntokenizers:\n  - repo_id: org/greeter\n    aliases: [greeter]\n"
    )
    assert [entry.repo_id for entry in bundler.Manifest.load(manifest).entries] == ["org/greeter"]
    locked = bundler.lock_manifest(manifest, endpoint=endpoint)
    locked.write()

    out, listener = tmp_path / "greeter.tar.zst", Listener()
    made = bundler.make_bundle(
        manifest, out, mode="insist", store=tmp_path / "store", endpoint=endpoint, observer=listener
    )
    assert (made.path, listener.stages[:3]) == (out, ["fetch", "prove", "pack"])
    # Told again where the bundle is written before all has loaded.
    assert listener.stages[3:] in ([], ["prove"])
    [repo] = made.lock.repos
    assert repo.commit == locked.lock.repos[0].commit
    assert bundler.Lock.loads(made.lock.dumps()) == made.lock

    report = bundler.verify_files(out)
    assert (report.ok, report.digest) == (True, made.digest)
    home = tmp_path / "hf-home"
    installed = bundler.install(out, home).bundle
    assert isinstance(installed, bundler.InstalledBundle) and installed.digest == made.digest
    assert installed.verify().ok
    found = bundler.Home(home).bundle("greeter").snapshot_path("greeter")
    assert {path.name: path.read_text() for path in found.iterdir()} == FILES

    ran = bundler.run_offline([sys.executable, "-c", LOAD], names=["greeter"], hf_home=home)
    assert (ran.completed.exit_code, ran.completed.attempts) == (0, 0)


def test_damage_is_reported_by_value_and_raised_on_demand(endpoint: str, tmp_path: Path) -> None:
    manifest = tmp_path / "greeter.yaml"
    manifest.write_text("version: 1\nname: greeter\ntokenizers:\n  - repo_id: org/greeter\n")
    out = tmp_path / "greeter.tar.zst"
    bundler.make_bundle(manifest, out, store=tmp_path / "store", endpoint=endpoint)
    home = tmp_path / "hf-home"
    installed = bundler.install(out, home).bundle
    (installed.snapshot_path("org/greeter") / "config.json").resolve().write_text('{"model_type": "xxxx"}')
    assert [fault.kind for fault in installed.verify().faults] == ["changed"]
    with pytest.raises(bundler.BundleError) as caught:
        installed.verify().raise_if_failed()
    assert caught.value.exit_code == 6


def test_the_public_names_are_these_and_each_is_documented() -> None:
    assert bundler.__all__ == [
        "Address",
        "BundleError",
        "Home",
        "InstalledBundle",
        "Lock",
        "Made",
        "Manifest",
        "Observer",
        "__version__",
        "enforce_offline",
        "install",
        "lock_manifest",
        "make_bundle",
        "pull",
        "push",
        "run_offline",
        "verify_files",
    ]
    assert dir(bundler) == sorted(bundler.__all__)
    for name in bundler.__all__:
        value = getattr(bundler, name)
        assert name == "__version__" or len(inspect.getdoc(value) or "") > 40, name
        if inspect.isfunction(value):
            text = inspect.getdoc(value) or ""
            assert "Args:" in text and "Raises:" in text, name
            assert all(parameter in text for parameter in inspect.signature(value).parameters), name
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = bundler.nothing_of_the_kind


def test_what_type_checkers_see_is_what_there_is() -> None:
    """The imports under TYPE_CHECKING and the names that are loaded on use are one list, of the same modules."""
    tree = ast.parse(Path(bundler.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == bundler._MODULES
    assert {*seen, "__version__"} == set(bundler.__all__)


def test_importing_it_imports_nothing_but_the_standard_library() -> None:
    code = "import sys; before = set(sys.modules); import bundler; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [
        name for name in ast.literal_eval(done.stdout) if name.split(".")[0] not in sys.stdlib_module_names
    ] == ["bundler"]
