"""bundler.home.installation.install: what depends on the number of files is done once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bundler.home.installation.install import install
from bundler.plan import layout, lock
from bundler.text import strict_json
from tests.support.bundles import locked_repo, tiny_bundle


def test_the_lock_is_parsed_laid_out_and_spelled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"config.json": b"{}"}
    bundle = tiny_bundle(tmp_path / "made", locked_repo("org/m", files), contents=files.values())
    seen: list[str] = []

    def note(module: ModuleType, name: str, has_files: Callable[..., bool]) -> None:
        function = getattr(module, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            # A receipt has, besides, the lock without its files.
            seen.extend([name] * has_files(*arguments))
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, noted)

    note(strict_json, "read", lambda text: '"path": "config.json"' in text)
    note(layout, "_lay_out_repo", lambda kind, repo_id, entries: repo_id == "org/m" and any(entries[0].files))
    note(lock, "_repo_lines", lambda repo: repo.repo_id == "org/m" and any(repo.files))
    install(bundle, tmp_path / "home")
    assert sorted(seen) == ["_lay_out_repo", "_repo_lines", "read"]
