"""Installing what is stored as differences: from a file and a pipe, in part, with its base installed and without."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import ChangedError, IntegrityError, UsageError
from bundler.format.contents.files import FileContents
from bundler.format.reader import BundleReader
from bundler.home.installation.install import install
from bundler.home.installation.plan import plan_install
from bundler.make.delta import Base
from bundler.make.pack import pack
from bundler.verify.files import verify_files
from tests.support.bundles import OTHER_COMMIT, blob_store, lock_of, locked_repo, tree
from tests.support.fine_tunes import make_weights, safetensors_bytes, tune
from tests.support.messages import Told

WORDS = make_weights(1)
BASE = safetensors_bytes({"w": WORDS})
TUNED = safetensors_bytes({"w": tune(WORDS, 2)})
NEWER = safetensors_bytes({"w": tune(tune(WORDS, 2), 3)})
FILE = "model.safetensors"

Opener = Callable[[Path], Any]
from_both = pytest.mark.parametrize(
    "opened", [lambda path: path, lambda path: io.BytesIO(path.read_bytes())], ids=["file", "pipe"]
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of a base and a fine-tune, and a delta of it with a newer fine-tune."""
    folder = tmp_path_factory.mktemp("made")
    store = blob_store(folder / "store", [BASE, TUNED, NEWER])
    a, b = locked_repo("org/a", {FILE: BASE}), locked_repo("org/b", {FILE: TUNED})
    pack(lock_of(a, b, name="old"), store, folder / "old.tar.zst")
    newer = locked_repo("org/b", {FILE: NEWER}, commit=OTHER_COMMIT)
    pack(lock_of(newer, name="new"), store, folder / "new.tar.zst", base=Base.open(folder / "old.tar.zst"))
    pack(lock_of(newer, name="new"), store, folder / "whole.tar.zst")
    return folder


def content_of(home: Path, repo: str) -> bytes:
    [path] = (home / "hub" / f"models--org--{repo}" / "snapshots").glob(f"*/{FILE}")
    return path.read_bytes()


@from_both
@pytest.mark.parametrize("jobs", [1, 3])
def test_base_and_fine_tune_are_installed_together(made: Path, tmp_path: Path, opened: Opener, jobs: int) -> None:
    done = install(opened(made / "old.tar.zst"), tmp_path, jobs=jobs)
    assert done.bundle.verify().ok
    assert (content_of(tmp_path, "a"), content_of(tmp_path, "b")) == (BASE, TUNED)


@from_both
def test_a_fine_tune_alone_needs_no_room_for_its_base(made: Path, tmp_path: Path, opened: Opener) -> None:
    done = install(opened(made / "old.tar.zst"), tmp_path, only=["org/b"])
    assert done.bundle.verify().ok
    assert content_of(tmp_path, "b") == TUNED
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if not path.is_symlink()) < 1.5 * len(TUNED)


@from_both
def test_what_a_killed_run_left_of_the_base_is_used(made: Path, tmp_path: Path, opened: Opener) -> None:
    with BundleReader(made / "old.tar.zst") as reader:
        path = tmp_path / reader.plan.layout.blobs[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(BASE)
    done = install(opened(made / "old.tar.zst"), tmp_path)
    assert done.bundle.verify().ok
    assert done.written_files == 1


@from_both
def test_a_delta_is_read_over_what_is_installed(made: Path, tmp_path: Path, opened: Opener) -> None:
    assert (made / "new.tar.zst").stat().st_size < (made / "whole.tar.zst").stat().st_size / 3
    install(made / "old.tar.zst", tmp_path)
    done = install(opened(made / "new.tar.zst"), tmp_path)
    assert done.bundle.verify().ok
    with BundleReader(made / "whole.tar.zst") as whole:
        assert done.bundle.digest == whole.digest


@from_both
@pytest.mark.parametrize("there", ["nothing", "a damaged base"])
def test_a_base_that_is_not_there_is_named_before_anything_is_written(
    made: Path, tmp_path: Path, opened: Opener, there: str, told: Told
) -> None:
    home = tmp_path / "home"
    if there == "a damaged base":
        for blob in install(made / "old.tar.zst", home).bundle.layout.blobs:
            (home / blob.path).write_bytes(bytes(blob.size_bytes))
    before = tree(home)
    source = opened(made / "new.tar.zst")
    with pytest.raises(IntegrityError) as caught:
        install(source, home)
    assert [path for path in tree(home) if path not in before and not path.endswith(".lock")] == []
    with BundleReader(made / "new.tar.zst") as reader:
        [[base]] = reader.bases.values()
    places = {"home": home, "bundle": made / "new.tar.zst", "base": base}
    told("unpack", f"a difference without its base, {type(source).__name__}", caught.value, **places)


def test_a_plan_names_it_too(made: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        plan_install(made / "new.tar.zst", tmp_path / "home")
    install(made / "old.tar.zst", tmp_path / "home")
    assert plan_install(made / "new.tar.zst", tmp_path / "home").written_files == 1


def test_verifying_says_what_it_could_not_decode(made: Path) -> None:
    alone = verify_files(made / "new.tar.zst")
    assert (alone.ok, alone.files, alone.undecoded_files) == (True, 0, 1)
    both = verify_files(made / "new.tar.zst", base=made / "old.tar.zst")
    assert (both.ok, both.files, both.undecoded_files) == (True, 1, 0)
    assert both.size_bytes - alone.size_bytes == len(NEWER)


def test_a_bundle_that_is_not_the_base_of_a_delta_is_refused_with_what_it_lacks(
    made: Path, tmp_path: Path
) -> None:
    # Under the same name as the base.
    store = blob_store(tmp_path / "store", [NEWER])
    pack(lock_of(locked_repo("org/x", {FILE: NEWER}), name="old"), store, tmp_path / "other.tar.zst")
    with BundleReader(made / "new.tar.zst") as reader:
        [[base]] = reader.bases.values()
    with pytest.raises(UsageError) as caught:
        verify_files(made / "new.tar.zst", base=tmp_path / "other.tar.zst")
    assert base in caught.value.message and str(tmp_path / "other.tar.zst") in caught.value.message


def test_a_bundle_without_what_a_delta_leaves_out_is_not_its_base(made: Path, tmp_path: Path) -> None:
    store = blob_store(tmp_path / "store", [NEWER])
    both = lock_of(locked_repo("org/y", {FILE: NEWER}), name="both")
    pack(both, store, tmp_path / "delta.tar.zst", base=Base.open(made / "whole.tar.zst"))
    assert verify_files(tmp_path / "delta.tar.zst", base=made / "whole.tar.zst").ok
    with pytest.raises(UsageError):
        verify_files(tmp_path / "delta.tar.zst", base=made / "old.tar.zst")
    # The delta stands for all of its lock, as the base of the next one.
    pack(
        lock_of(locked_repo("org/z", {FILE: NEWER})),
        store,
        tmp_path / "2.tar.zst",
        base=Base.open(tmp_path / "delta.tar.zst"),
    )
    assert verify_files(tmp_path / "2.tar.zst", base=tmp_path / "delta.tar.zst").ok


@from_both
@pytest.mark.parametrize("cut", [False, True])
def test_a_base_that_changes_while_it_is_read_is_blamed_and_not_the_bundle(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opener, cut: bool
) -> None:
    install(made / "old.tar.zst", tmp_path)
    [base] = (tmp_path / "hub" / "models--org--b" / "snapshots").glob(f"*/{FILE}")
    real = FileContents.read_into

    def change_it_first(self: FileContents, sha256: str, offset: int, room: memoryview) -> None:
        content = base.read_bytes()
        base.resolve().write_bytes(content[:100] if cut else content[:-1] + bytes([content[-1] ^ 1]))
        monkeypatch.setattr(FileContents, "read_into", real)
        real(self, sha256, offset, room)

    monkeypatch.setattr(FileContents, "read_into", change_it_first)
    with pytest.raises(ChangedError, match=rf"{base.resolve().name} changed while it was read, and content of"):
        install(opened(made / "new.tar.zst"), tmp_path, jobs=1)
    assert "bundles/new.json" not in tree(tmp_path)
