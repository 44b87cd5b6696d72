"""Bundles whose differences lead elsewhere than a writer's: each is refused, and nothing of it is left to be seen."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.errors import BundleError, FormatError, IntegrityError
from bundler.format import tar
from bundler.format.codec import expansion
from bundler.format.codec.safetensors import Run
from bundler.format.contents.bases import BasePlace, Bases, BaseSpan, DifferenceRun
from bundler.format.reader import BundleReader
from bundler.format.tar import tar_plan
from bundler.format.writer import write_bundle
from bundler.home.installation.install import install
from bundler.plan.layout import Blob
from bundler.verify.files import verify_files
from tests.support.bundles import blob_store, lock_of, locked_repo, tree
from tests.support.fine_tunes import make_weights, safetensors_bytes, tune
from tests.support.messages import Told

WORDS = make_weights(1)
FIRST = safetensors_bytes({"w": WORDS})
SECOND = safetensors_bytes({"w": tune(WORDS, 2)})
LOCK = lock_of(*(locked_repo(f"org/{n}", {"w.safetensors": each}) for n, each in enumerate((FIRST, SECOND))))
ONE, TWO = (repo.files[0].sha256 or "" for repo in LOCK.repos)
# Words of a chunk, behind the header.
START, SIZE = len(SECOND) - (1 << 21), 1 << 20


@dataclass
class Anything:
    """Bytes for a writer where there is no content."""

    def __contains__(self, sha256: str) -> bool:
        return True

    def read_into(self, sha256: str, offset: int, room: memoryview) -> None:
        room[:] = SECOND[START : START + len(room)]


def forge(
    path: Path,
    bases: Bases,
    monkeypatch: pytest.MonkeyPatch,
    *,
    number: int = 0,
    offset: int = START,
    of: str = "",
) -> Path:
    """Write a bundle with this list of bases, and one chunk of a content as a difference from this place."""
    store = blob_store(path.parent / "store", [FIRST, SECOND])

    def runs_of(blob: Blob) -> list[Run]:
        if blob.sha256 != (of or TWO):
            return [Run(0, blob.size_bytes, 1)]
        span = BaseSpan(BasePlace(number, offset), ONE, Anything())
        return [
            Run(0, START, 1),
            DifferenceRun(START, START + SIZE, 2, span),
            Run(START + SIZE, blob.size_bytes, 1),
        ]

    with monkeypatch.context() as patch:
        patch.setattr(tar, "check_bases", lambda *_, **__: None)
        plan = tar_plan(LOCK, None, bases)
        with path.open("wb") as stream:
            write_bundle(LOCK, plan, store, stream, runs_of=runs_of)
    return path


CASES: dict[str, tuple[Bases, dict[str, object], type[BundleError]]] = {
    "itself": ({TWO: (TWO,)}, {}, FormatError),
    "a later one": ({ONE: (TWO,)}, {"of": ONE}, FormatError),
    "a circle": ({ONE: (TWO,), TWO: (ONE,)}, {}, FormatError),
    "none of this bundle": ({TWO: ("a" * 64,)}, {}, FormatError),
    "past the end": ({TWO: (ONE,)}, {"offset": len(FIRST) - SIZE + 1}, FormatError),
    "far past the end": ({TWO: (ONE,)}, {"offset": (1 << 64) - 2}, FormatError),
    "a base with no such number": ({TWO: (ONE,)}, {"number": 1}, FormatError),
    "no list at all": ({}, {}, FormatError),
    "the wrong place": ({TWO: (ONE,)}, {"offset": START + 2}, IntegrityError),
}


@pytest.mark.parametrize("how", ["file", "pipe"])
@pytest.mark.parametrize("case", CASES)
def test_a_base_that_cannot_be_is_refused(
    case: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    bases, place, kind = CASES[case]
    bundle = forge(tmp_path / "bad.tar.zst", bases, monkeypatch, **place)  # type: ignore[arg-type]
    home = tmp_path / "home"
    with pytest.raises(kind) as caught:
        install(bundle if how == "file" else io.BytesIO(bundle.read_bytes()), home, jobs=2)
    assert not [path for path in tree(home) if "snapshots" in path or path.endswith(".json")]
    names = {"first": ONE, "second": TWO, "bundle": bundle}
    told("hostile-bases", f"{case}, {how}", caught.value, **names)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][2] is FormatError])
def test_verifying_finds_it_without_installing(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bases, place, _ = CASES[case]
    bundle = forge(tmp_path / "bad.tar.zst", bases, monkeypatch, **place)  # type: ignore[arg-type]
    try:
        report = verify_files(bundle, jobs=1)
    except FormatError:
        return
    assert [fault.path for fault in report.faults] == [next(b.path for b in _blobs() if b.sha256 == TWO)]


def _blobs() -> list[Blob]:
    return tar_plan(LOCK).layout.blobs


class Same(Anything):
    """Content that a difference from is nearly nothing."""

    def read_into(self, sha256: str, offset: int, room: memoryview) -> None:
        room[:] = SECOND[offset : offset + len(room)]


@pytest.mark.parametrize("enough", [True, False])
def test_more_work_than_its_content_is_worth_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    """A few stored bytes for which a chunk of megabytes is decoded, again and again."""
    store = blob_store(tmp_path / "store", [FIRST, SECOND])

    def runs_of(blob: Blob) -> list[Run]:
        if blob.sha256 != TWO:
            return [Run(0, blob.size_bytes, 1)]
        starts = range(START, START + 64 * 4096, 4096)
        steps = [
            DifferenceRun(start, start + 4096, 2, BaseSpan(BasePlace(0, start), ONE, Same())) for start in starts
        ]
        return [Run(0, START, 1), *steps, Run(START + 64 * 4096, blob.size_bytes, 1)]

    bundle = tmp_path / "forged.tar.zst"
    with bundle.open("wb") as stream:
        write_bundle(LOCK, tar_plan(LOCK, None, {TWO: (ONE,)}), store, stream, runs_of=runs_of)
    # Just what it takes, and a chunk less.
    with BundleReader(bundle) as reader:
        [base] = {reader.chunk_span(at, at + 1)[0] for at in [reader.plan.first_of[ONE].offset + START]}
        chunk = reader.index.chunks[base]
        limit = 64 * (chunk.raw_bytes + chunk.stored_bytes + (64 << 10))
        monkeypatch.setattr(expansion, "MOST_TIMES", 0)
        monkeypatch.setattr(expansion, "_FREE_BYTES", limit if enough else limit - 1)
        every = range(len(reader.index.chunks))
        for _ in range(2):
            # What one pass has cost is not counted against the next.
            if enough:
                assert sum(len(raw) for _, raw in reader.chunks(every, jobs=2)) == reader.index.tar_bytes
            else:
                with pytest.raises(FormatError, match="more to be decoded than 0 times its length"):
                    list(reader.chunks(every, jobs=2))
