"""The command group: quick to answer, whole in its help, and documented."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import COMMANDS, main
from bundler.errors import EXIT_CODES, BundleError
from tests.process import run, run_python

ROOT = Path(__file__).parent.parent
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
        for name in ("install", "verify", "inspect", "installed", "env", "run", "serve"):
            importlib.import_module(f"bundler.cli.{name}")
        import bundler.install, bundler.verify, bundler.installed
        heavy = {"torch", "transformers", "datasets", "huggingface_hub"} & set(sys.modules)
        assert not heavy, heavy
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
