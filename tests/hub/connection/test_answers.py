"""A Hub that never ends, drips, inflates or lies about shapes: an error within a time and a size, and no traceback."""

from __future__ import annotations

import gzip
import json
import socketserver
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bundler.errors import BundleError, HubError, NetworkError
from bundler.hub.connection import answers, client
from bundler.hub.connection.client import HubClient

COMMIT = "a" * 40
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
Write = Callable[[bytes], object]


@contextmanager
def hostile(answer: Callable[[str, Write], None]) -> Iterator[HubClient]:
    """Serve what `answer` writes for each request's path, byte for byte, on loopback."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            path = self.rfile.readline().split()[1].decode()
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):  # the client goes, as it should
                answer(path, self.wfile.write)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield HubClient(endpoint=f"http://127.0.0.1:{server.server_address[1]}", token=False)
        server.shutdown()


def always(head: bytes, body: bytes = b"", *, endless: bytes = b"") -> Callable[[str, Write], None]:
    def answer(path: str, write: Write) -> None:
        write(head + b"\r\n" + body)
        while endless:
            write(endless)

    return answer


def page(rows: object, following: str = "") -> bytes:
    link = f'Link: <http://x/?cursor={following}>; rel="next"\r\n'.encode() if following else b""
    return OK + link + b"\r\n" + json.dumps(rows).encode()


def file(path: str = "a.json", **changes: object) -> dict[str, object]:
    return {"type": "file", "path": path, "size": 1, "oid": COMMIT, **changes}


def test_an_answer_without_end_ends_at_the_size_that_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_ANSWER_BYTES", 1 << 20)
    with hostile(always(OK, b"{", endless=b" " * 65536)) as hub:
        with pytest.raises(HubError, match="more than 33,554,432 bytes"):
            hub.revision("org/m", "model", "main")
        with pytest.raises(HubError, match="more than 10 bytes"):
            hub.read("org/m", "model", COMMIT, "config.json", size_bytes=10)


@pytest.mark.parametrize(
    "head", [OK + b"Content-Encoding: gzip\r\n", b"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\n"]
)
def test_an_answer_that_inflates_ends_at_that_size_too(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = deflater.compress(b" " * (100 << 20)) + deflater.flush()
    assert len(bomb) < 200_000
    monkeypatch.setattr(client, "_TRIES", 1)
    largest = 0
    decode = answers.decoded_blocks

    def watched(response: object) -> Iterator[bytes]:
        nonlocal largest
        for block in decode(response):  # type: ignore[arg-type]
            largest = max(largest, len(block))
            yield block

    monkeypatch.setattr(answers, "decoded_blocks", watched)
    with hostile(always(head, bomb)) as hub, pytest.raises(HubError):
        hub.revision("org/m", "model", "main")
    assert largest <= answers.BLOCK_BYTES


def test_a_gzip_answer_is_read_and_other_forms_are_refused() -> None:
    found = json.dumps({"id": "org/m", "sha": COMMIT}).encode()
    with hostile(always(OK + b"Content-Encoding: gzip\r\n", gzip.compress(found))) as hub:
        assert hub.revision("org/m", "model", "main").commit == COMMIT
    for form, body in {
        "br": b"x",
        "zstd": b"x",
        "gzip": b"no gzip",
        "x-gzip": gzip.compress(found)[:-9],
        "GZIP": gzip.compress(found) + bytes(99_999),
    }.items():
        head = OK + f"Content-Encoding: {form}\r\n".encode()
        with hostile(always(head, body)) as hub, pytest.raises(BundleError, match=r"form 'br'|form 'zstd'|gzip"):
            hub.revision("org/m", "model", "main")


def test_an_answer_that_drips_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "WATCHED_SECONDS", 0.2)
    pause = threading.Event()

    def drip(path: str, write: Write) -> None:
        write(OK + b"\r\n{")
        while not pause.wait(0.02):
            write(b" ")

    with hostile(drip) as hub, pytest.raises(NetworkError, match="expected 1,000 a second"):
        hub.revision("org/m", "model", "main")
    pause.set()


def test_a_head_that_never_ends_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers.within, "__kwdefaults__", {"seconds": 0.5})
    pause = threading.Event()

    def drip(path: str, write: Write) -> None:
        write(OK)
        while not pause.wait(0.02):
            write(b"X-A: a\r\n")

    with hostile(drip) as hub, pytest.raises(NetworkError, match="did not finish its answer within"):
        hub.revision("org/m", "model", "main")
    pause.set()


def test_a_listing_without_end_ends() -> None:
    count = iter(range(10**9))

    def pages(path: str, write: Write) -> None:
        number = next(count)
        write(page([file(f"f{number}")], str(number + 1)))

    with hostile(pages) as hub, pytest.raises(HubError, match="no end within 300 pages"):
        hub.files("org/m", "model", COMMIT)
    assert next(count) == 300
    with hostile(lambda path, write: write(page([], "same"))) as hub, pytest.raises(HubError, match="is itself"):
        hub.files("org/m", "model", COMMIT)


def test_a_redirect_to_itself_with_a_body_without_end_ends() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nConnection: close\r\n"
    with hostile(always(head, endless=b" " * 65536)) as hub, pytest.raises(BundleError, match="redirects"):
        hub.revision("org/m", "model", "main")


@pytest.mark.parametrize("body", [b"[]", b"3", b'"x"', b"[" * 100_000, b"9" * 5000, b"{", b'{"id": 3}', b"\xff"])
def test_a_repo_of_another_shape_is_refused(body: bytes) -> None:
    with hostile(always(OK, body)) as hub, pytest.raises(HubError):
        hub.revision("org/m", "model", "main")


@pytest.mark.parametrize(
    "body", [b"[]", b'{"error": [1]}', b'{"errors": 3}', b"[" * 100_000, b'{"error": {"a": 1}}']
)
def test_a_refusal_of_another_shape_is_a_refusal(body: bytes) -> None:
    head = b"HTTP/1.1 403 No\r\nConnection: close\r\n"
    with hostile(always(head, body)) as hub, pytest.raises(HubError, match="answered 403"):
        hub.revision("org/m", "model", "main")


def test_what_a_refusal_says_is_shown_in_part() -> None:
    body = json.dumps({"error": "words " * 10_000}).encode()
    head = b"HTTP/1.1 403 No\r\nConnection: close\r\n"
    with (
        hostile(always(head, body)) as hub,
        pytest.raises(HubError, match=r"answered 403 .*words words") as caught,
    ):
        hub.revision("org/m", "model", "main")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "rows",
    [
        {"a": 1},
        ["x"],
        [file(size=10**400)],
        [file(size=2**63)],
        [file(size=-1)],
        [file(size="12")],
        [file(size=1.5)],
        [file(size=True)],
        [file(size=float("inf"))],
        [file(path=3)],
        [file(oid=None)],
        [file(oid="A" * 40)],
        [file(lfs=[3])],
        [file(lfs={"oid": 3})],
        [file(lfs={"oid": "0" * 63})],
        [{"type": "file"}],
        [file(), file(size=2)],
        [file("a"), file("a/b")],
    ],
)
def test_a_listing_of_another_shape_is_refused_in_a_few_words(rows: object) -> None:
    with hostile(lambda path, write: write(page(rows))) as hub, pytest.raises(HubError) as caught:
        hub.files("org/m", "model", COMMIT)
    assert (len(str(caught.value)) < 400 and str(caught.value).isprintable()) or "\n" in str(caught.value)


def test_a_wait_that_no_clock_has_is_not_waited_for() -> None:
    import httpx2

    for headers in ({"Retry-After": "x"}, {"ratelimit": f'"api";r=0;t={"9" * 5000}'}):
        assert answers.wait_seconds(httpx2.Headers(headers), default=1.5) == 1.5
    assert answers.wait_seconds(httpx2.Headers({"Retry-After": "7"}), default=1.5) == 7


def test_a_download_that_inflates_or_redirects_for_ever_ends(tmp_path: Path) -> None:
    from bundler.make.download.download import Downloader
    from bundler.make.store import Store
    from bundler.plan.lock import LockedFile, LockedRepo

    locked = LockedFile(path="m.bin", size_bytes=1000, blob_id=COMMIT, lfs_sha256="0" * 64)
    repo = LockedRepo(kind="model", repo_id="org/m", revision="main", commit=COMMIT, files=(locked,))
    bomb = gzip.compress(bytes(50 << 20))
    heads = (
        OK + b"Content-Encoding: gzip\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /again\r\nConnection: close\r\n",
    )
    for head in heads:
        with hostile(always(head, bomb)) as hub:
            downloader = Downloader(store=Store(tmp_path / "s"), endpoint=hub.endpoint, token=False)
            with pytest.raises(BundleError):
                downloader.download(repo, locked)
