"""`bundle serve` as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.process import TIMEOUT_SECONDS, run, script


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command; yield it with the first line of its stdout, and end it."""
    process = subprocess.Popen(
        [script("bundle"), "serve", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_the_endpoint_when_ready_and_stops_cleanly_on_a_signal(
    shared_repos: Path, number: signal.Signals
) -> None:
    with serving(shared_repos, "--port", "0") as (process, endpoint):
        assert endpoint.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{endpoint}/org/model/resolve/main/config.json") as response:
            assert response.read() == b'{"model_type": "gpt2"}'
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == [
        f"serving 7 repos of {shared_repos}, read-only; Ctrl-C stops",
        f"  export HF_ENDPOINT={endpoint}",
        "stopped",
    ]


def test_verbose_logs_requests_to_stderr(shared_repos: Path) -> None:
    with serving(shared_repos, "--port", "0", "--verbose") as (process, endpoint):
        urllib.request.urlopen(f"{endpoint}/api/models").close()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert out == ""
    assert '"GET /api/models HTTP/1.1" 200' in err


def test_json_is_one_line_with_the_repos(shared_repos: Path) -> None:
    with serving(shared_repos, "--port", "0", "--json") as (_, line):
        value = json.loads(line)
    assert value["path"] == str(shared_repos)
    assert value["endpoint"].startswith("http://127.0.0.1:")
    assert {"repo_type": "dataset", "repo_id": "org/corpus"} in value["repos"]


def test_listening_beyond_loopback_is_warned_of(shared_repos: Path) -> None:
    with serving(shared_repos, "--port", "0", "--host", "0.0.0.0") as (process, endpoint):
        urllib.request.urlopen(f"{endpoint}/api/models").close()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert "WARNING: listening on 0.0.0.0, not on loopback" in err


def test_a_port_in_use_is_an_error_that_says_so(shared_repos: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run([script("bundle"), "serve", shared_repos, "--port", port], check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in done.stderr


def test_a_path_without_repos_is_an_error(tmp_path: Path) -> None:
    done = run([script("bundle"), "serve", tmp_path, "--port", "0"], check=False)
    assert (done.returncode, done.stdout) == (7, "")
    assert "expected repos in folders" in done.stderr
