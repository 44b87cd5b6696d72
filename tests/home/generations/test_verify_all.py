"""bundler.home.generations.verify_all: what others change meanwhile is no damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.home.generations import verify_all as module
from bundler.home.generations.prune import prune
from bundler.home.generations.verify_all import verify_all, verify_current
from bundler.home.home import Home
from bundler.home.installation.install import install


@pytest.fixture
def change_first(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Something that is done when the generations are listed, and none is verified."""

    def register(change: Callable[[], object]) -> None:
        real, waiting = module._verify, [change]

        def verify(*arguments: Any) -> Any:
            while waiting:
                waiting.pop()()
            return real(*arguments)

        monkeypatch.setattr(module, "_verify", verify)

    return register


def test_an_upgrade_meanwhile_is_no_damage(
    old: Path, new: Path, tmp_path: Path, change_first: Callable[[Callable[[], object]], None]
) -> None:
    home = tmp_path / "home"
    first = install(old, home).bundle
    change_first(lambda: install(new, home))
    [(generation, report)] = verify_all(Home(home)).reports
    assert (generation.bundle.digest, generation.is_current, report.faults) == (first.digest, False, ())


def test_a_prune_meanwhile_is_no_damage_and_what_is_gone_is_not_reported(
    home: Path, change_first: Callable[[Callable[[], object]], None]
) -> None:
    current = Home(home).bundle("demo")
    change_first(lambda: prune(home))
    found = verify_all(Home(home))
    assert [(one.bundle.digest, report.faults) for one, report in found.reports] == [(current.digest, ())]
    assert found.exit_code == 0


def test_damage_is_found_all_the_same(home: Path, change_first: Callable[[Callable[[], object]], None]) -> None:
    blob = (Home(home).bundle("demo").snapshot_path("m") / "w").resolve()
    blob.write_bytes(blob.read_bytes()[::-1])
    change_first(lambda: None)
    assert verify_all(Home(home)).exit_code == 6


@pytest.mark.parametrize("quick", [True, False])
def test_of_a_bundle_that_is_upgraded_meanwhile_it_is_the_new_generation_that_is_verified(
    old: Path, new: Path, tmp_path: Path, quick: bool
) -> None:
    home = tmp_path / "home"
    install(old, home)
    waiting = [new]

    def upgrade(total: int) -> None:
        while waiting:
            install(waiting.pop(), home)

    bundle, report = verify_current(Home(home), "demo", quick=quick, on_total=upgrade)
    assert (bundle.digest, report.faults) == (Home(home).bundle("demo").digest, ())
    blob = (bundle.snapshot_path("m") / "w").resolve()
    blob.unlink()
    assert [fault.kind for fault in verify_current(Home(home), "demo", quick=quick)[1].faults] == ["missing"]
