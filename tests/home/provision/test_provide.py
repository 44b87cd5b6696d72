"""bundler.home.provision.provide: what a launch lacks is installed once, whoever asks for it at the same time."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundler.errors import BundleError, SpaceError, TrustError
from bundler.home.generation import generation_path
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.log import read_log
from bundler.home.provision.provide import Provision
from bundler.make.delta import Base
from bundler.make.pack import pack
from tests.support.bundles import COMMIT, OTHER_COMMIT, blob_store, lock_of, locked_repo, tiny_bundle, tree
from tests.support.network.registry import Registry, needs_registry

BUNDLE = Path(sys.executable).with_name("bundle")
SHOW = "import os; print(os.environ['HF_HUB_CACHE'])"


def run(home: Path, *words: object) -> subprocess.Popen[str]:
    command = [BUNDLE, "run", "--hf-home", home, "--isolate", "none", *words]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def installations(home: Path) -> list[str]:
    return [line.name for line in read_log(home) if line.action == "install"]


def test_what_is_not_there_is_installed_and_what_is_there_is_left_as_it_is(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    [first] = Provision((bundles["a"],)).provide(home)
    assert first.verify().ok
    before = tree(home)
    [second] = Provision((bundles["a"],)).provide(home)
    assert (second.digest, tree(home)) == (first.digest, before)
    assert installations(home) == ["a"]


def test_of_launches_that_begin_at_once_one_installs_and_all_run(bundles: dict[str, Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    started = [run(home, "--from", bundles["a"], "--", sys.executable, "-c", SHOW) for _ in range(4)]
    told = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 4, told
    assert len({out for out, _ in told}) == 1
    assert installations(home) == ["a"]


def test_a_launch_reads_the_generation_that_it_asked_for_though_another_is_current(tmp_path: Path) -> None:
    home = tmp_path / "home"
    old, new = (
        tiny_bundle(
            tmp_path / commit, locked_repo("org/m", {"w": content}, commit=commit), contents=[content], name="demo"
        )
        for commit, content in ((COMMIT, b"old"), (OTHER_COMMIT, b"new"))
    )
    for path in (old, new):
        install(path, home)
    read = (
        "import os, glob; hub = os.environ['HF_HUB_CACHE']; "
        "print(open(glob.glob(hub + '/models--org--m/snapshots/*/w')[0]).read())"
    )
    for path, content in ((old, "old"), (new, "new"), (old, "old")):
        process = run(home, "--from", path, "--", sys.executable, "-c", read)
        out, told = process.communicate()
        assert (process.returncode, out) == (0, f"{content}\n"), told
    assert installations(home) == ["demo", "demo"]


def test_without_views_the_generation_that_a_launch_asks_for_becomes_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: str | Path, target_is_directory: bool = False) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(self))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    home = tmp_path / "home"
    for commit, content in ((COMMIT, b"old"), (OTHER_COMMIT, b"new"), (COMMIT, b"old")):
        repo = locked_repo("org/m", {"w": content}, commit=commit)
        bundle = tiny_bundle(tmp_path / commit, repo, contents=[content], name="demo")
        [provided] = Provision((bundle,)).provide(home)
        assert Home(home).bundle("demo").digest == provided.digest
        assert (home / "hub/models--org--m/refs/main").read_text() == commit


def test_when_the_one_that_installs_is_killed_the_next_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    content = {f"w{number}": os.urandom(1 << 20) for number in range(24)}
    bundle = tiny_bundle(tmp_path / "made", locked_repo("org/m", content), contents=content.values(), name="big")
    first = run(home, "--from", bundle, "-j", 1, "--", "true")
    deadline = time.monotonic() + 60
    while not list(home.glob("hub/*/blobs/*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    second = run(home, "--from", bundle, "--", "true")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, told = second.communicate()
    assert second.returncode == 0, told
    assert Home(home).bundle("big").verify().ok


def test_a_damaged_receipt_is_written_again(bundles: dict[str, Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    [first] = Provision((bundles["a"],)).provide(home)
    generation_path(home, "a", first.digest).write_text("damaged")
    (home / "bundles" / "a.json").write_text("damaged")
    [again] = Provision((bundles["a"],)).provide(home)
    assert again.verify().ok


def test_a_part_that_is_installed_is_completed(bundles: dict[str, Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert install(bundles["a"], home, only=["org/base"]).bundle.left_out == ("org/a",)
    [whole] = Provision((bundles["a"],)).provide(home)
    assert whole.left_out == ()


def test_room_is_made_first_and_nothing_is_written_where_there_can_be_none(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    notes: list[str] = []
    for name in ("c", "a"):
        Provision((bundles[name],), limit_bytes=1999).provide(home, on_note=notes.append)
    assert Home(home).names() == ["a"]
    assert [note for note in notes if note.startswith("deleted c sha256:") and note.endswith(": 1 kB")]
    before = tree(home)
    with pytest.raises(SpaceError):
        Provision((bundles["c"],), limit_bytes=999).provide(home)
    assert tree(home) == before


def test_nothing_is_deleted_for_a_bundle_that_cannot_be_installed(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    install(bundles["c"], home)
    before = tree(home)
    damaged = bytearray(bundles["a"].read_bytes())
    damaged[len(damaged) // 4] ^= 1
    bundles["a"].write_bytes(damaged)
    with pytest.raises(BundleError):
        Provision((bundles["a"],), limit_bytes=1999).provide(home)
    assert Home(home).names() == ["c"]
    assert {path: value for path, value in tree(home).items() if path in before} == before
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrules:\n  - {bundles: ['*'], signature: optional, repos: [other/*]}\n")
    with pytest.raises(TrustError):
        Provision((bundles["b"],), limit_bytes=1999).provide(home, policy=policy)
    assert Home(home).bundle("c").verify().ok


def test_what_one_launch_needs_is_counted_together_and_stays(bundles: dict[str, Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    both = (bundles["a"], bundles["c"])
    for needed, names in (
        (Provision(both, limit_bytes=1999), ()),
        (Provision(both[1:], limit_bytes=1999), ("a",)),
    ):
        with pytest.raises(SpaceError, match="what this launch needs and what launches read there take 2 kB"):
            needed.provide(home, names)
        install(bundles["a"], home)
    assert Home(home).names() == ["a"]
    notes: list[str] = []
    install(bundles["b"], home)
    found = Provision(both, limit_bytes=2000).provide(home, on_note=notes.append)
    assert [one.name for one in found] == Home(home).names() == ["a", "c"]
    assert [note for note in notes if note.startswith("deleted")] == [
        note for note in notes if "deleted b" in note
    ]


def test_the_base_of_a_delta_is_needed_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    kept, old, new = os.urandom(1000), os.urandom(500), os.urandom(500)
    lock = {
        name: locked_repo("org/m", {"kept": kept, "w": content}, commit=commit)
        for name, content, commit in (("old", old, COMMIT), ("new", new, OTHER_COMMIT))
    }
    base = tiny_bundle(tmp_path / "old", lock["old"], contents=[kept, old], name="demo")
    store = blob_store(tmp_path / "blobs", [kept, new])
    delta = tmp_path / "delta.tar.zst"
    pack(lock_of(lock["new"], name="demo"), store, delta, base=Base.open(base))
    install(base, home)
    with pytest.raises(SpaceError):
        Provision((delta,), limit_bytes=1999).provide(home)
    [found] = Provision((delta,), limit_bytes=2000).provide(home)
    assert found.verify().ok


def test_where_the_disk_has_no_room_for_both_the_old_one_goes_first(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    install(bundles["c"], home)
    tried = []

    def refuse_once(*words: object, **options: object) -> object:
        tried.append(Home(home).names())
        if len(tried) == 1:
            raise SpaceError("no room")
        return install(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("bundler.home.provision.provide.install", refuse_once)
    Provision((bundles["a"],), limit_bytes=1999).provide(home)
    assert tried == [["c"], []]
    assert Home(home).names() == ["a"]


def test_nothing_is_installed_for_a_command_that_is_not_there(bundles: dict[str, Path], tmp_path: Path) -> None:
    process = run(tmp_path / "home", "--from", bundles["a"], "--", "no-such-command")
    _, told = process.communicate()
    assert process.returncode != 0
    assert not (tmp_path / "home" / "hub").exists(), told


def test_the_report_names_what_was_provided_and_a_limit_alone_means_nothing(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    process = run(
        tmp_path / "home", "--from", bundles["a"], "--from", bundles["c"], "--report", report, "--", "true"
    )
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert [one["name"] for one in json.loads(report.read_text())["bundles"]] == ["a", "c"]
    process = run(tmp_path / "home", "--keep-below", "1G", "--", "true")
    assert ("--keep-below goes with --from" in process.communicate()[1], process.returncode) == (True, 2)


@needs_registry
def test_what_is_in_a_registry_is_brought_once_and_the_next_launch_reads_its_index_alone(tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    bundle = tiny_bundle(tmp_path / "made", locked_repo("org/m", {"w": content}), contents=[content], name="demo")
    home = tmp_path / "home"
    with Registry(tmp_path / "registry") as registry:
        pushed = [BUNDLE, "push", bundle, registry.address()]
        subprocess.run(list(map(str, pushed)), check=True, capture_output=True)
        sent = [0]
        for _ in range(2):
            process = run(home, "--from", registry.address(), "--", "true")
            _, told = process.communicate()
            assert process.returncode == 0, told
            sent.append(registry.sent_bytes() - sum(sent))
    assert installations(home) == ["demo"]
    assert sent[1] > len(content)
    assert sent[2] < len(content) / 8
