"""`bundle serve` and clients that are slow, many, strange or strangers; a real server process on loopback."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.serve.conftest import write_tree

# The command with shorter limits than people have.
LAUNCH = """
import resource, sys
from bundler.cli import main
from bundler.serve import patience, server
patience.HEAD_SECONDS, patience.STALLED_SECONDS, server.BODY_SECONDS = map(float, sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[4]),) * 2)
sys.argv = ["bundle", *sys.argv[5:]]
main()
"""


@contextmanager
def serving(
    root: Path, *options: object, head: float = 60, stalled: float = 60, body: float = 60, files: int = 1024
) -> Iterator[str]:
    """Run `bundle serve` on `root` and yield its address."""
    words = [
        sys.executable,
        "-c",
        LAUNCH,
        head,
        stalled,
        body,
        files,
        "serve",
        root,
        "--port",
        0,
        "--json",
        *options,
    ]
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with process:
        try:
            yield json.loads(process.stdout.readline())["endpoint"]
        finally:
            process.terminate()


def connect(endpoint: str, text: str = "", *, receive_bytes: int | None = None) -> socket.socket:
    """Connect and send; the caller closes it."""
    made = socket.socket()
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.settimeout(20)
    made.connect(("127.0.0.1", int(endpoint.rpartition(":")[2])))
    made.sendall(text.encode())
    return made


def read_all(made: socket.socket) -> bytes:
    """Return what comes until the server ends the connection, in whatever way."""
    content = bytearray()
    try:
        while block := made.recv(1 << 20):
            content += block
    except ConnectionResetError:
        pass
    return bytes(content)


def status(endpoint: str, path: str = "/", host: str = "localhost", more: str = "") -> int:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    with closing(connect(endpoint, request)) as made:
        return int(read_all(made).split(b" ", 2)[1])


@pytest.fixture
def repos(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "repos", {"org/m/config.json": b"{}", "org/m/large.bin": bytes(16 << 20)})


def test_it_answers_beside_more_half_requests_than_it_may_have_files(repos: Path) -> None:
    with serving(repos, files=128) as endpoint:
        half = [connect(endpoint, "GET / HTTP/1.1\r\nX-A: ") for _ in range(300)]
        assert status(endpoint) == 200
        for made in half:
            made.close()


@pytest.mark.parametrize("begun", ["", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"])
def test_a_head_that_does_not_arrive_in_time_ends_the_connection(repos: Path, begun: str) -> None:
    with serving(repos, head=0.3) as endpoint, closing(connect(endpoint, begun)) as made:
        answer = read_all(made)
    assert answer.count(b"HTTP/1.1 200") == begun.count("\r\n\r\n")


def test_a_head_that_drips_ends_in_time_too(repos: Path) -> None:
    with serving(repos, head=0.5) as endpoint, closing(connect(endpoint, "GET / HTTP/1.1\r\n")) as made:
        made.settimeout(0.05)
        ended = False
        while not ended:
            try:
                made.sendall(b"X-A: a\r\n")
                ended = made.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                ended = True


def test_a_body_that_does_not_end_is_refused(repos: Path) -> None:
    head = (
        "POST /api/models/org/m/paths-info/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\npaths="
    )
    with serving(repos, body=0.3) as endpoint, closing(connect(endpoint, head)) as made:
        assert read_all(made).startswith(b"HTTP/1.1 408")


def test_a_client_that_takes_nothing_of_a_file_is_let_go(repos: Path) -> None:
    request = "GET /org/m/resolve/main/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(repos, stalled=0.3) as endpoint, closing(connect(endpoint, request, receive_bytes=4096)) as made:
        # By the server's own account: it has as many connections as before once it has let go.
        established = _connections(endpoint)
        assert established == 1
        while _connections(endpoint):
            assert status(endpoint) == 200
        assert len(read_all(made)) < 16 << 20


def _connections(endpoint: str) -> int:
    """Count the server's ends of open connections, by the kernel's table."""
    port = f"{int(endpoint.rpartition(':')[2]):04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port}") and row[3] == "01" for row in rows)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8470", 200),
        ("LOCALHOST.", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8470", 200),
        ("hub.internal", 200),
        ("hub.internal:80", 200),
        ("evil.example", 421),
        ("evil.example:8470", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ],
)
def test_only_names_that_were_given_are_served(strict: str, host: str, expected: int) -> None:
    assert status(strict, host=host) == expected


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = write_tree(tmp_path_factory.mktemp("repos"), {"org/m/config.json": b"{}"})
    with serving(root, "--host-name", "hub.internal") as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    "path", ["/api/models?limit=", "/api/models/org/m/tree/main?limit=", "/api/models?limit=%C2%B2"]
)
def test_numbers_of_any_length_are_no_fault_of_the_server(strict: str, path: str) -> None:
    assert status(strict, path + "9" * 5000) == 200
    assert status(strict, "/org/m/resolve/main/config.json", more=f"Range: bytes={'9' * 5000}-\r\n") == 200


def test_with_a_token_nobody_is_answered_without_it(repos: Path, tmp_path: Path) -> None:
    token = tmp_path / "token.txt"
    token.write_text("0123456789abcdef\n")
    with serving(repos, "--token-file", token) as endpoint:
        path = "/org/m/resolve/main/config.json"
        assert status(endpoint, path) == status(endpoint, path, more="Authorization: Bearer no\r\n") == 401
        assert status(endpoint, path, more="Authorization: Bearer 0123456789abcdef\r\n") == 200


def test_a_certificate_makes_it_https(repos: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    words = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        certificate,
        *subject,
    )
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.create_default_context(cafile=certificate)
    with serving(repos, "--tls-cert", certificate, "--tls-key", key) as endpoint:
        assert endpoint.startswith("https://127.0.0.1:")
        with urllib.request.urlopen(f"{endpoint}/org/m/resolve/main/config.json", context=context) as answer:
            assert answer.read() == b"{}"
        with pytest.raises(OSError):
            urllib.request.urlopen(endpoint.replace("https", "http"))


@pytest.mark.parametrize(
    "options", [("--tls-cert", "repos"), ("--tls-cert", "x.pem", "--tls-key", "x.pem"), ("--token-file", "x.pem")]
)
def test_what_cannot_be_used_is_wrong_usage(repos: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "x.pem").write_text("no secret")
    words = [sys.executable, "-c", LAUNCH, "1", "1", "1", "1024", "serve", str(repos), "--port", "0", *options]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 2 and re.search(r"--tls-key|--token-file", done.stderr)
