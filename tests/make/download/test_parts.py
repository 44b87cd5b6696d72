"""One large file over several connections: from servers that can, cannot, and can no longer send ranges of it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest
from huggingface_hub import constants

from bundler.errors import HubError, IntegrityError, NetworkError
from bundler.files.digest import sha256_bytes
from bundler.hub.connection.crew import Crew
from bundler.make.download import parts as parts_module
from bundler.make.download import request as request_module
from bundler.make.download.download import Downloader
from bundler.make.download.request import Control, StoppedError
from bundler.make.store import Store
from bundler.plan.lock import LockedFile, LockedRepo
from tests.make.download.ranged import Answer, Asked, RangedOrigin
from tests.support.process import Child

PART = 64 << 10
CONTENT = random.Random(3).randbytes(10 * PART + 123)
FILE = LockedFile(
    path="model.safetensors", size_bytes=len(CONTENT), blob_id="a" * 40, lfs_sha256=sha256_bytes(CONTENT)
)
REPO = LockedRepo(
    kind="model", repo_id="org/m", revision="main", commit="c" * 40, aliases=(), files=(FILE,), absent=()
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "PART_BYTES", PART)
    monkeypatch.setattr(parts_module, "_NOTE_BYTES", PART // 4)
    # Waiting between tries is not what is tested here.
    monkeypatch.setattr(request_module, "RETRIES_WITHOUT_PROGRESS", 2)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@dataclass
class Fetched:
    """A download of FILE, and what it told."""

    store: Store
    progress: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stop: Event = field(default_factory=Event)

    def run(self, endpoint: str, *, jobs: int = 4) -> None:
        crew = Crew(jobs, self.stop)
        downloader = Downloader(
            store=self.store,
            endpoint=endpoint,
            token="hf_secret",
            control=Control(stop=self.stop, on_progress=self.progress.append, on_received=self.received.append),
            on_note=self.notes.append,
            crew=crew,
        )
        crew.run([lambda: downloader.download(REPO, FILE) and None])

    @property
    def is_whole(self) -> bool:
        """Whether exactly the content is stored, once, with its record, and all of it was reported."""
        files = sorted(path.name for path in self.store.root.rglob("*") if path.is_file())
        stored = self.store.find_verified(FILE.etag) is not None and files == [FILE.etag, f"{FILE.etag}.json"]
        return stored and sum(self.progress) == len(CONTENT)


@pytest.fixture
def fetched(tmp_path: Path) -> Fetched:
    return Fetched(Store(tmp_path / "store"))


def faultless(asked: Asked) -> Answer:
    return Answer(CONTENT)


def abandon(store: Store) -> None:
    """Make this process's partial download one of a dead process of another machine."""
    (left,) = (store.root / "partial").iterdir()
    dead = left.rename(left.with_name(f"{FILE.etag}.othermachine-1-0-x"))
    os.utime(dead, (1_000_000_000, 1_000_000_000))


def test_each_part_is_asked_for_once_from_the_address_that_the_hub_named_once(fetched: Fetched) -> None:
    with RangedOrigin(faultless) as origin:
        fetched.run(origin.endpoint)
    assert fetched.is_whole and sum(fetched.received) == len(CONTENT)
    starts = [asked.range[0] for asked in origin.asked if asked.range]
    assert starts[0] == 0 and sorted(starts) == [number * PART for number in range(11)]
    assert origin.resolved == 1 and origin.tokens == ["Bearer hf_secret"]
    assert all("authorization" not in asked.headers for asked in origin.asked), "it is another origin"
    assert [asked.headers.get("if-range") for asked in origin.asked] == [None, *['"one"'] * 10]


def test_parts_come_over_as_many_connections_as_there_are_jobs(fetched: Fetched) -> None:
    meeting = threading.Barrier(4)

    def meet(asked: Asked) -> Answer:
        if 1 <= asked.number <= 4:
            # Only if four are asked for at the same time does any of them get its bytes.
            meeting.wait(timeout=30)
        return Answer(CONTENT)

    with RangedOrigin(meet) as origin:
        fetched.run(origin.endpoint, jobs=4)
    assert fetched.is_whole


def test_with_one_job_a_file_comes_in_order(fetched: Fetched) -> None:
    with RangedOrigin(faultless) as origin:
        fetched.run(origin.endpoint, jobs=1)
    assert fetched.is_whole and [asked.range for asked in origin.asked] == [None]


def test_a_connection_that_breaks_in_a_part_is_continued_there(fetched: Fetched) -> None:
    def break_one(asked: Asked) -> Answer:
        return Answer(CONTENT, after_bytes=1000 if asked.number == 3 else None)

    with RangedOrigin(break_one) as origin:
        fetched.run(origin.endpoint)
    assert fetched.is_whole and sum(fetched.received) == len(CONTENT)
    starts = [asked.range[0] % PART for asked in origin.asked if asked.range]
    assert sorted(starts) == [0] * 11 + [1000]


def test_a_signed_address_that_expires_is_asked_for_again(fetched: Fetched) -> None:
    uses: dict[str, int] = {}

    def expire(asked: Asked) -> Answer:
        uses[asked.key] = uses.get(asked.key, 0) + 1
        return Answer(CONTENT, status=403 if uses[asked.key] > 4 else None)

    with RangedOrigin(expire) as origin:
        fetched.run(origin.endpoint, jobs=2)
    assert fetched.is_whole and origin.resolved > 1


def test_an_address_that_is_refused_when_it_is_new_is_an_error(fetched: Fetched) -> None:
    with RangedOrigin(lambda asked: Answer(CONTENT, status=403)) as origin, pytest.raises(HubError):
        fetched.run(origin.endpoint)
    assert len(origin.asked) == 1


def whole_always(asked: Asked) -> Answer:
    return Answer(CONTENT, status=200)


def whole_after_some_parts(asked: Asked) -> Answer:
    return Answer(CONTENT, status=200 if asked.number >= 3 else None)


def changed_tag(asked: Asked) -> Answer:
    return Answer(CONTENT, headers={"ETag": f'"{asked.number}"'})


def another_length(asked: Asked) -> Answer:
    wrong = {"Content-Range": f"bytes {asked.range[0]}-{asked.range[1]}/{2 * len(CONTENT)}"} if asked.range else {}
    return Answer(CONTENT, headers=wrong if asked.number == 2 else {})


def no_such_range(asked: Asked) -> Answer:
    return Answer(CONTENT, status=416 if asked.number == 4 else None)


@pytest.mark.parametrize(
    "decide", [whole_always, whole_after_some_parts, changed_tag, another_length, no_such_range]
)
def test_a_server_that_does_not_send_the_part_of_this_file_is_asked_for_it_in_order(
    fetched: Fetched, decide: Callable[[Asked], Answer]
) -> None:
    with RangedOrigin(decide) as origin:
        fetched.run(origin.endpoint)
    assert fetched.is_whole
    last = origin.asked[-1].range
    assert last is None or last[1] == -1, "to the end, over one connection"


def test_a_part_of_other_content_is_found_and_the_file_fetched_once_more_in_order(fetched: Fetched) -> None:
    other = bytes(len(CONTENT))

    def lie_once(asked: Asked) -> Answer:
        return Answer(other if asked.number == 5 else CONTENT)

    with RangedOrigin(lie_once) as origin:
        fetched.run(origin.endpoint)
    assert fetched.is_whole and origin.asked[-1].range is None
    [note] = fetched.notes
    assert "model.safetensors arrived damaged (expected sha256" in note


def test_other_content_twice_is_refused_and_nothing_stays(fetched: Fetched) -> None:
    with RangedOrigin(lambda asked: Answer(bytes(len(CONTENT)))) as origin, pytest.raises(IntegrityError):
        fetched.run(origin.endpoint)
    assert [path for path in fetched.store.root.rglob("*") if path.is_file()] == []
    assert sum(fetched.progress) == 0


def test_a_rate_limit_is_waited_out_by_each_part(fetched: Fetched) -> None:
    def limit(asked: Asked) -> Answer:
        busy = asked.number in (2, 3, 5)
        return Answer(CONTENT, status=429 if busy else None, headers={"Retry-After": "0"} if busy else {})

    with RangedOrigin(limit) as origin:
        fetched.run(origin.endpoint)
    assert fetched.is_whole and len(origin.asked) == 11 + 3


def test_a_part_that_never_comes_is_an_error_and_the_next_run_asks_for_nothing_but_it(
    fetched: Fetched, tmp_path: Path
) -> None:
    begin, end = 4 * PART, 5 * PART

    def refuse_one(asked: Asked) -> Answer:
        is_hit = asked.range is not None and begin <= asked.range[0] < end
        return Answer(CONTENT, after_bytes=(1000 if asked.range == (begin, end - 1) else 0) if is_hit else None)

    with RangedOrigin(refuse_one) as origin, pytest.raises(NetworkError):
        fetched.run(origin.endpoint, jobs=2)
    # The rest of what was under way may be missing too.
    kept = fetched.store.partial_bytes(FILE.etag, len(CONTENT))
    assert begin + 1000 <= kept < len(CONTENT)
    (left,) = (fetched.store.root / "partial").iterdir()
    assert left.stat().st_size > len(CONTENT), "longer than its content, so that nobody takes it for whole"
    abandon(fetched.store)

    again = Fetched(Store(tmp_path / "store"))
    with RangedOrigin(faultless) as origin:
        again.run(origin.endpoint)
    assert again.is_whole and sum(again.received) == len(CONTENT) - kept
    assert origin.asked[0].range is not None and origin.asked[0].range[0] == begin + 1000


def test_what_a_killed_process_left_has_holes_and_the_next_one_asks_for_these(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from bundler.make.download import parts
        from bundler.make.store import Store
        from huggingface_hub import constants
        from tests.make.download.test_parts import Fetched, PART
        parts.PART_BYTES, parts._NOTE_BYTES, constants.HF_HUB_DISABLE_XET = PART, PART // 4, True
        Fetched(Store(Path(sys.argv[1]))).run(sys.argv[2])
        """

    def hold_one(asked: Asked) -> Answer:
        return Answer(CONTENT, seconds=60 if asked.number == 3 else 0)

    store = Store(tmp_path / "store")
    with RangedOrigin(hold_one) as origin:
        words = [sys.executable, "-c", textwrap.dedent(code), str(store.root), origin.endpoint]
        with Child(words, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            while store.partial_bytes(FILE.etag, len(CONTENT)) < 9 * PART and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()
    kept = store.partial_bytes(FILE.etag, len(CONTENT))
    assert 9 * PART <= kept < len(CONTENT)
    again = Fetched(store)
    with RangedOrigin(faultless) as origin:
        again.run(origin.endpoint)
    assert again.is_whole and sum(again.received) == len(CONTENT) - kept


def test_what_has_holes_is_finished_by_one_job_too(fetched: Fetched) -> None:
    with fetched.store.partial(FILE.etag, len(CONTENT)) as partial:
        assert partial is not None
        partial.note()
        partial.write_at(PART, CONTENT[PART : 3 * PART])
        partial.note()
    abandon(fetched.store)
    with RangedOrigin(faultless) as origin:
        fetched.run(origin.endpoint, jobs=1)
    assert fetched.is_whole and sum(fetched.received) == len(CONTENT) - 2 * PART


def test_one_failure_ends_the_parts_that_are_under_way_before_their_file_is_closed(fetched: Fetched) -> None:
    def slow_or_gone(asked: Asked) -> Answer:
        if asked.number == 1:
            return Answer(CONTENT, status=451)
        return Answer(CONTENT, seconds=0.05 * asked.number)

    with RangedOrigin(slow_or_gone) as origin, pytest.raises(HubError):
        fetched.run(origin.endpoint)
    # A thread that went on would write into whatever file has the number of the closed one.
    before = fetched.received.copy()
    time.sleep(0.2)
    assert fetched.received == before


def test_a_download_that_is_told_to_stop_keeps_its_parts(fetched: Fetched) -> None:
    def stop_later(asked: Asked) -> Answer:
        if asked.number == 6:
            fetched.stop.set()
        return Answer(CONTENT)

    with RangedOrigin(stop_later) as origin, pytest.raises(StoppedError):
        fetched.run(origin.endpoint)
    assert fetched.store.find(FILE.etag) is None
    kept = fetched.store.partial_bytes(FILE.etag, len(CONTENT))
    assert 0 < kept < len(CONTENT) and kept <= sum(fetched.received)
