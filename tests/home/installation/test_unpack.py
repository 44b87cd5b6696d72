"""bundler.home.installation.unpack: content comes to where no library sees it, hashed, and none is read in vain."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import DamagedError, IntegrityError
from bundler.files.atomic import TEMPORARY_PREFIX
from bundler.files.digest import sha256_bytes
from bundler.format import cut
from bundler.format.reader import BundleReader
from bundler.home.home import Home
from bundler.home.installation.base_content import find_base_content
from bundler.home.installation.install import install
from bundler.home.installation.unpack import Staging, locate, write_blobs
from bundler.make.delta import Base
from bundler.make.pack import pack
from bundler.plan.layout import Blob, Layout, layout
from bundler.verify.report import no_progress
from tests.hostile.forge import forge, honest_stream
from tests.support.bundles import blob_store, lock_of, locked_repo, put_blobs, tiny_bundle, tree
from tests.support.messages import Told
from tests.support.process import run_python

LARGE = bytes(range(256)) * 8192
FILES = {"large.bin": LARGE, "a.txt": b"a", "b.txt": b"b", "empty": b""}
ARROW = {"default/0.0.0/h/d.arrow": b"arrow" * 100}
REPOS = (
    locked_repo("org/m", FILES),
    locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared=ARROW),
)
CONTENTS = [*FILES.values(), b"d", *ARROW.values()]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[BundleReader]:
    with BundleReader(tiny_bundle(tmp_path / "made", *REPOS, contents=CONTENTS)) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/bundles").mkdir(parents=True)
    return tmp_path / "home"


def write_all(reader: BundleReader, home: Path, wanted: list[Blob] | None = None, *, is_part: bool = False) -> int:
    """Write blobs, and return how many bytes were counted."""
    counted: list[int] = []
    staging = Staging(home)
    blobs = reader.plan.layout.blobs if wanted is None else wanted
    write_blobs(reader, staging, blobs, {}, 2, counted.append, is_part=is_part)
    return sum(counted)


def test_blobs_are_written_to_their_place_and_prepared_files_aside(reader: BundleReader, home: Path) -> None:
    expected = {(blob.path.startswith("datasets/"), blob.sha256) for blob in reader.plan.layout.blobs}
    assert write_all(reader, home) == sum(blob.size_bytes for blob in reader.plan.layout.blobs)
    found = tree(home)
    assert set(found.values()) == {sha256 for _, sha256 in expected}
    assert not (home / "datasets").exists()
    aside = {path for path in found if path.startswith(f"bundles/{TEMPORARY_PREFIX}")}
    assert {found[path] for path in aside} == {sha256 for is_prepared, sha256 in expected if is_prepared}


def test_only_what_is_wanted_is_written_and_of_a_part_nothing_else_is_read(
    reader: BundleReader, home: Path, tmp_path: Path
) -> None:
    [large] = [blob for blob in reader.plan.layout.blobs if blob.size_bytes == len(LARGE)]
    member = reader.member_of(large)
    content = bytearray(reader.path.read_bytes())
    needed = set(reader.chunk_span(member.offset, member.offset + member.size_bytes))
    starts = reader.index.stored_starts()
    # The lock is needed too: its chunk is the first.
    for number in set(range(1, len(starts))) - needed:
        content[starts[number]] ^= 1
    damaged = tmp_path / "damaged.tar.zst"
    damaged.write_bytes(content)
    with BundleReader(damaged) as opened:
        assert write_all(opened, home, [large], is_part=True) == len(LARGE)
    assert tree(home) == {large.path: large.sha256}


def test_content_that_is_there_is_linked_and_not_read(reader: BundleReader, home: Path, tmp_path: Path) -> None:
    [large] = [blob for blob in reader.plan.layout.blobs if blob.size_bytes == len(LARGE)]
    there = tmp_path / "there"
    there.write_bytes(LARGE)
    write_blobs(reader, Staging(home), [large], {large.sha256: there}, 1, no_progress, is_part=True)
    assert (home / large.path).samefile(there)


@pytest.mark.parametrize("path", ["large.bin", "a.txt"])
def test_content_that_is_not_what_the_lock_names_is_not_left_under_its_name(
    tmp_path: Path, home: Path, path: str, told: Told
) -> None:
    lock = lock_of(REPOS[0])
    stream = honest_stream(lock, FILES.values())
    at = stream.index(LARGE) if path == "large.bin" else stream.index(b"\0a\0") + 1
    stream = stream[:at] + b"X" + stream[at + 1 :]
    bundle = forge(tmp_path / "x.tar.zst", name="tiny", lock_text=lock.dumps().encode(), stream=stream)
    with BundleReader(bundle) as reader:
        blob = next(blob for blob in reader.plan.layout.blobs if blob.sha256 == sha256_bytes(FILES[path]))
        with pytest.raises(IntegrityError) as caught:
            write_all(reader, home, [blob])
    assert caught.value.exit_code == 6
    told("unpack", f"{path} is not what the lock names", caught.value, bundle=bundle)
    assert tree(home) == {}


def test_what_stands_there_is_found_by_its_hash_alone(home: Path) -> None:
    content = layout(lock_of(*REPOS))
    put_blobs(home, content, CONTENTS)
    right = {blob.path: home / blob.path for blob in content.blobs}
    changed = next(path for path in right if right[path].stat().st_size == len(LARGE))
    shorter = next(path for path in right if right[path].read_bytes() == b"d")
    right.pop(changed).write_bytes(bytes(len(LARGE)))
    right.pop(shorter).write_bytes(b"")
    counted: list[int] = []
    assert locate(Staging(home), content, frozenset(), 2, counted.append) == {
        path: str(found) for path, found in right.items()
    }
    assert sum(counted) == sum(blob.size_bytes for blob in content.blobs if blob.path in right)


def test_a_snapshot_file_that_is_the_only_copy_is_found_and_a_link_is_not_followed(home: Path) -> None:
    content = layout(lock_of(locked_repo("org/m", {"a.txt": b"a", "b.txt": b"b"})))
    first, second = (home / file.path for file in content.repos[0].snapshots)
    first.parent.mkdir(parents=True)
    first.write_bytes(b"a")
    (home / "elsewhere").write_bytes(b"b")
    second.symlink_to(home / "elsewhere")
    [blob] = [file.blob.path for file in content.repos[0].snapshots if file.path.endswith("a.txt")]
    assert locate(Staging(home), content, frozenset(), 1, no_progress) == {blob: str(first)}


def test_what_a_killed_run_had_verified_aside_is_taken_over_once(home: Path) -> None:
    run_python(
        """
        import sys
        from pathlib import Path
        from bundler.home.installation.unpack import Staging
        folder = Staging(Path(sys.argv[1])).folder
        folder.mkdir()
        (folder / "f00d").write_bytes(b"verified")
        """,
        home,
    )
    heir, late = Staging(home), Staging(home)
    assert [path.name for path in heir.folder.iterdir()] == ["f00d"]
    assert not late.folder.exists()


def delta(folder: Path, base: Path) -> Path:
    """A bundle that leaves `large.bin` and others to its base."""
    files = FILES | {"new.txt": b"new"}
    store = blob_store(folder / "store", files.values())
    lock = lock_of(locked_repo("org/m", files), name="next")
    return pack(lock, store, folder / "next.tar.zst", base=Base.open(base)).path


def test_what_a_delta_omits_is_found_in_any_bundle_that_is_installed(
    reader: BundleReader, home: Path, tmp_path: Path
) -> None:
    install(reader.path, home)
    with BundleReader(delta(tmp_path / "delta", reader.path)) as opened:
        content: Layout = opened.plan.layout
        found = find_base_content(opened, content, Home(home), {}, 2)
        assert found.keys() == opened.omitted
        assert all(blob.sha256 not in found or Path(found[blob.sha256]).is_file() for blob in content.blobs)
        assert find_base_content(opened, content, Home(home), found, 2) == {}


def test_what_a_delta_omits_and_nobody_has_is_named_file_by_file(
    reader: BundleReader, home: Path, tmp_path: Path, told: Told
) -> None:
    installed = install(reader.path, home).bundle
    for blob in installed.layout.blobs:
        if blob.size_bytes in (len(LARGE), 1):
            (home / blob.path).write_bytes(b"?" * blob.size_bytes)
    with BundleReader(delta(tmp_path / "delta", reader.path)) as opened:
        with pytest.raises(IntegrityError) as caught:
            find_base_content(opened, opened.plan.layout, Home(home), {}, 2)
        places = {"delta": opened.label, "home": home, "digest": reader.digest.removeprefix("sha256:")}
    assert caught.value.exit_code == 6
    told("unpack", "a delta whose base is damaged", caught.value, **places)


def test_small_files_that_lie_in_two_chunks_are_whole(tmp_path: Path) -> None:
    # With one job the second chunk is decoded into the memory of the first.
    files = {f"{number:02}": random.Random(number).randbytes(200_000) for number in range(50)}
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", files), contents=files.values())
    with BundleReader(bundle) as reader:
        assert len(reader.index.chunks) > 2
    assert install(bundle, tmp_path / "home", jobs=1).bundle.verify().ok


@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
def test_however_many_threads_write_each_file_is_whole(
    tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut, "CHUNK_BYTES", 300_000)
    sizes = [1, 300_000, 200_000, 1_200_000, 0, 300_001, 2_000_000, 5, 1_500_000, 250_000]
    files = {f"{number:02}": random.Random(number).randbytes(size) for number, size in enumerate(sizes)}
    lfs = [path for path, content in files.items() if len(content) > 1_000_000]
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", files, lfs=lfs), contents=files.values())
    result = install(bundle, tmp_path / "home", jobs=jobs)
    snapshot = tmp_path / "home" / result.bundle.layout.repos[0].snapshots[0].path
    assert {path: (snapshot.parent / path).read_bytes() for path in files} == files
    assert result.bundle.verify().ok


@pytest.mark.parametrize("jobs", [1, 8])
def test_files_that_were_whole_before_the_damage_are_kept_and_no_part_of_one(
    tmp_path: Path, home: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut, "CHUNK_BYTES", 300_000)
    files = {f"{number}": random.Random(number).randbytes(1_200_000) for number in range(4)}
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", files, lfs=files), contents=files.values())
    with BundleReader(bundle) as reader:
        last = reader.plan.layout.blobs[-1]
        member = reader.member_of(last)
        number = reader.chunk_span(member.offset, member.offset + last.size_bytes)[-1]
        place = reader.index.stored_starts()[number]
    content = bytearray(bundle.read_bytes())
    content[place] ^= 1
    bundle.write_bytes(content)
    with BundleReader(bundle) as reader:
        places: dict[str, str] = {}
        with pytest.raises(DamagedError) as caught:
            write_blobs(reader, Staging(home), reader.plan.layout.blobs, places, jobs, no_progress, is_part=False)
    assert caught.value.chunk == number
    assert tree(home) == {blob.path: blob.sha256 for blob in reader.plan.layout.blobs[:-1]}
