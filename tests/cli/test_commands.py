"""The command group: quick to answer, whole in its help, and documented."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bundler.cli import COMMANDS, main
from bundler.console.paths import GivenPath
from bundler.errors import EXIT_CODES, BundleError
from bundler.home.installation.install import install
from infini_llama.cli import main as infini_llama_main
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.process import run, run_python

ROOT = Path(__file__).parents[2]
HEAVY = [
    "torch",
    "transformers",
    "datasets",
    "huggingface_hub",
    "numpy",
    "starlette",
    "uvicorn",
    "blake3",
    "zstandard",
]


@pytest.mark.parametrize("words", ["--help", "--version"])
def test_help_imports_nothing_heavy(words: str) -> None:
    run_python(
        f"""
        import sys
        from bundler.cli import main
        try:
            main([{words!r}])
        except SystemExit as end:
            assert not end.code
        assert not set({HEAVY!r}) & set(sys.modules), set({HEAVY!r}) & set(sys.modules)
        """
    )


def test_no_command_of_the_offline_side_imports_torch_or_a_hugging_face_library() -> None:
    run_python(
        """
        import importlib, sys
        for name in ("install", "verify", "inspect", "digest", "installed", "path", "remove", "env", "run", "serve"):
            importlib.import_module(f"bundler.cli.{name}")
        import bundler.home.installation.install, bundler.verify, bundler.home.installed
        heavy = {"torch", "transformers", "datasets", "huggingface_hub"} & set(sys.modules)
        assert not heavy, heavy
        """
    )


def test_a_rollback_loads_neither_yaml_nor_what_decodes_bundles() -> None:
    run_python(
        """
        import sys
        import bundler.cli.rollback, bundler.home.generations.rollback
        heavy = {"yaml", "zstandard", "bundler.format.index"} & set(sys.modules)
        assert not heavy, heavy
        """
    )


def test_a_launch_of_what_has_not_changed_loads_nothing_that_reads_locks_hashes_or_puts_views_together(
    tmp_path: Path,
) -> None:
    files = {"config.json": b"{}", "model.bin": b"weights"}
    bundle = tiny_bundle(tmp_path, locked_repo("org/small", files), contents=files.values())
    install(bundle, tmp_path / "hf")
    run_python(
        f"""
        import contextlib, sys, types
        import bundler.offline.run
        from bundler.cli import main
        # Here, to see what it loads.
        bundler.offline.run.fork_work = lambda work: contextlib.nullcontext(types.SimpleNamespace(wait=work))
        try:
            main(["run", "--hf-home", {str(tmp_path / "hf")!r}, "--isolate", "none", "--", "true"])
        except SystemExit as end:
            assert not end.code
        heavy = {{"concurrent.futures", "difflib", "yaml", "numpy", "bundler.plan.lock", "bundler.plan.layout"}}
        heavy |= {{"bundler.home.view.compose", "bundler.home.verify.installed", "bundler.offline.enforce"}}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """
    )


def test_python_m_bundler_is_the_command() -> None:
    assert run([sys.executable, "-m", "bundler", "--help"]).stdout.startswith("Usage: bundle ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"], prog_name="bundle")
    assert done.exit_code == 0
    assert "Example" in done.stdout
    assert f"bundle {name}" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"`bundle {name}" in (ROOT / "README.md").read_text()


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["instal"]).exit_code == 2


def test_every_error_class_has_a_documented_exit_code() -> None:
    def classes(base: type[BundleError]) -> list[type[BundleError]]:
        return [base, *(c for child in base.__subclasses__() for c in classes(child))]

    assert {c.exit_code for c in classes(BundleError)} <= set(EXIT_CODES)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A HF_HOME with the bundle `tiny`."""
    contents = {"config.json": b"{}"}
    bundle = tiny_bundle(tmp_path / "built", locked_repo("org/m", contents), contents=contents.values())
    install(bundle, tmp_path / "hf-home")
    return tmp_path / "hf-home"


# Without a buffer, it is another place where writing fails.
BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


@BUFFERING
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 141),
        ("list --help", 141),
        ("--version", 141),
        ("list", 141),
        ("list --json", 141),
        ("env tiny", 141),
        # What says why a command failed may be lost, its exit code is not.
        ("fetch nothing.yaml 2>&1", 3),
    ],
)
def test_a_reader_that_went_away_ends_a_command_quietly_as_sigpipe_does(
    home: Path, words: str, code: int, unbuffered: str
) -> None:
    # The reader is gone before the command starts, so that each write fails.
    line = f'{{ sleep 0.1; exec "$0" -m bundler {words}; }} | exec true; echo "${{PIPESTATUS[0]}}"'
    env = {"HF_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    done = run(["bash", "-c", line, sys.executable], env=env)
    assert (done.stdout, done.stderr) == (f"{code}\n", "")


@BUFFERING
@pytest.mark.parametrize("words", ["--help", "list", "list --json", "inspect --help"])
def test_output_to_a_full_device_is_an_error_with_a_message(home: Path, words: str, unbuffered: str) -> None:
    line = f'exec "$0" -m bundler {words} > /dev/full'
    env = {"HF_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    done = run(["bash", "-c", line, sys.executable], env=env, check=False)
    assert done.returncode == 15
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_a_bundle_to_a_closed_standard_output_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("version: 1\nname: m\ntokenizers:\n  - repo_id: org/m\n")
    line = 'exec "$0" -m bundler fetch "$1" -o - >&-'
    done = run(
        ["bash", "-c", line, sys.executable, tmp_path / "m.yaml"], env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 2 and "standard output is closed" in done.stderr


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("m.yaml", "lock m.yaml"),
        ("m.yaml", "fetch m.yaml"),
        ("m.lock", "lock m.yaml --check"),
        ("m.lock", "fetch m.yaml --locked"),
        ("old.tar.zst", "fetch m.yaml --base old.tar.zst"),
        ("old.lock", "fetch m.yaml --base old.lock"),
        ("old.tar.zst", "inspect old.tar.zst"),
        ("old.tar.zst", "digest old.tar.zst"),
    ],
)
def test_an_input_that_the_system_does_not_let_be_read_is_named_with_one_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text("version: 1\nname: m\ntokenizers:\n  - repo_id: org/m\n")
    Path(broken).unlink(missing_ok=True)
    # Permissions mean nothing to root; a link to itself nobody can read.
    Path(broken).symlink_to(broken)
    done = CliRunner().invoke(main, words.split())
    assert done.exit_code == 18 and f"{broken}: " in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("lock gone.yaml", 3),
        ("fetch gone.yaml", 3),
        ("lock m.yaml --check", 3),
        ("fetch m.yaml --locked", 3),
        ("fetch m.yaml --base gone.lock", 7),
        ("inspect gone.tar.zst", 7),
        ("digest gone.tar.zst", 7),
        ("verify gone.tar.zst", 7),
        ("install gone.tar.zst", 7),
        ("split gone.tar.zst --volume-size 1M", 7),
        ("join gone.tar.zst.001", 7),
        ("serve gone", 7),
        ("verify gone", 9),
    ],
)
def test_an_input_that_is_not_there_has_the_exit_code_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    Path("m.yaml").write_text("version: 1\nname: m\ntokenizers:\n  - repo_id: org/m\n")
    done = CliRunner().invoke(main, words.split())
    assert done.exit_code == code and "error: " in done.stderr, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "parity https://files.example.org/demo.tar.zst",
        "repair oci://registry.example.org/demo:1",
        "split s3://models/demo.tar.zst --volume-size 1M",
        "pack https://files.example.org/run",
    ],
)
def test_an_address_where_only_a_path_will_do_is_refused_with_what_to_do(words: str) -> None:
    done = CliRunner().invoke(main, words.split())
    assert done.exit_code == 2
    assert "is an address, and this takes a path: bring it first (`bundle pull`)" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["lock", ""],
        ["fetch", "m.yaml", "-o", ""],
        ["fetch", "m.yaml", "--base", ""],
        ["fetch", "m.yaml", "--cache-dir", ""],
        ["install", ""],
        ["run", "--allow-net", "", "--", "true"],
        ["inspect", ""],
        ["serve", ""],
        ["run", "--report", "", "--", "true"],
    ],
)
def test_a_path_that_is_named_by_an_empty_variable_is_refused_before_any_work(words: list[str]) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "it is empty; is a variable in the command line empty?" in done.stderr


def test_no_path_of_any_command_may_be_empty() -> None:
    paths = {}
    for group in (main, infini_llama_main):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command
            for param in command.params:
                if isinstance(param.type, click.Path):
                    paths[f"{name} {param.name}"] = isinstance(param.type, GivenPath)
    assert len(paths) > 20 and all(paths.values()), paths
