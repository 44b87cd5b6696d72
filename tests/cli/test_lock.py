"""`bundle lock` as a process: what it writes, prints and exits with, and how fast it gives up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from bundler.plan.lock import Lock
from tests.support.hub import RunningHub
from tests.support.network.listener import free_port, listener, tls_listener
from tests.support.process import Child, run, script

MANIFEST = """\
version: 1
name: demo
tokenizers:
  - repo_id: gpt2
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(MANIFEST)
    return path


class Bundle:
    """`bundle lock` with an environment."""

    def __init__(self, **env: str) -> None:
        self.env = env

    def lock(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return run([script("bundle"), "lock", *words], env=self.env, check=False)


@pytest.fixture
def bundle(demo_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle(**demo_hub.environment(tmp_path_factory.mktemp("hf")))


def test_the_lock_is_written_beside_the_manifest_and_reported(bundle: Bundle, manifest: Path) -> None:
    done = bundle.lock(manifest)
    lock = Lock.loads(manifest.with_suffix(".lock").read_text())
    (repo,) = lock.repos
    assert (repo.repo_id, repo.aliases) == ("openai-community/gpt2", ("gpt2",))
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr == (
        f"  added     tokenizer openai-community/gpt2 main: {repo.commit[:12]}, 4 files, 1.5 MB\n"
        f"{manifest.with_suffix('.lock')}: written\n"
    )
    assert sorted(path.name for path in manifest.parent.iterdir()) == ["demo.lock", "demo.yaml"]


def _state(path: Path) -> tuple[int, int, int]:
    """What writing a file changes; the access time, which reading it changes, is left out."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def test_locking_again_asks_nobody_and_touches_nothing(
    bundle: Bundle, manifest: Path, demo_hub: RunningHub
) -> None:
    bundle.lock(manifest)
    before = _state(manifest.with_suffix(".lock"))
    demo_hub.clear()
    manifest.write_text(f"# a comment\n{MANIFEST}")
    done = bundle.lock(manifest)
    assert done.stderr.splitlines()[-1] == f"{manifest.with_suffix('.lock')}: up to date"
    assert _state(manifest.with_suffix(".lock")) == before
    assert demo_hub.requests == []


def test_json_on_stdout_says_what_changed(bundle: Bundle, manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "sub" / "other.lock"
    output.parent.mkdir()
    bundle.lock(manifest, "-o", output)
    manifest.write_text(
        MANIFEST.replace("repo_id: gpt2", "repo_id: gpt2\n    ignore_patterns: [config.json]")
        + "datasets:\n  - repo_id: infini-llama/cpython-docs\n"
    )
    done = bundle.lock(manifest, "-o", output, "--json")
    data = json.loads(done.stdout)
    lock = Lock.loads(output.read_text())
    assert [(row["repo_id"], row["status"], row["files"]) for row in data["repos"]] == [
        ("openai-community/gpt2", "updated", 3),
        ("infini-llama/cpython-docs", "added", 3),
    ]
    assert data["repos"][0]["previous_commit"] == data["repos"][0]["commit"] == lock.repos[0].commit
    assert data["repos"][1]["previous_commit"] is None
    assert (data["lock"], data["name"], data["written"], data["warnings"]) == (str(output), "demo", True, [])
    assert data["size_bytes"] == sum(repo.size_bytes for repo in lock.repos)


def test_an_entry_that_left_the_manifest_leaves_the_lock(bundle: Bundle, manifest: Path) -> None:
    manifest.write_text(f"{MANIFEST}datasets:\n  - repo_id: infini-llama/cpython-docs\n")
    bundle.lock(manifest)
    manifest.write_text(MANIFEST)
    done = bundle.lock(manifest)
    assert "  removed   dataset infini-llama/cpython-docs main\n" in done.stderr
    assert len(Lock.loads(manifest.with_suffix(".lock").read_text()).repos) == 1


def test_check_tells_whether_the_lock_fits_without_network(bundle: Bundle, manifest: Path) -> None:
    unreachable = Bundle(HF_ENDPOINT="http://127.0.0.1:9")
    missing = unreachable.lock(manifest, "--check")
    assert (missing.returncode, "there is no lock yet" in missing.stderr) == (3, True)

    assert bundle.lock(manifest).returncode == 0
    fits = unreachable.lock(manifest, "--check", "--json")
    assert fits.returncode == 0
    assert json.loads(fits.stdout)["matches"] is True

    before = manifest.with_suffix(".lock").read_bytes()
    manifest.write_text(MANIFEST.replace("name: demo", "name: other").replace("repo_id: gpt2", "repo_id: a/b"))
    stale = unreachable.lock(manifest, "--check", "--json")
    assert stale.returncode == 3
    assert json.loads(stale.stdout)["differences"] == [
        "name: the manifest says other, the lock demo",
        "tokenizers[0] (a/b) at main: not in the lock",
        "tokenizer openai-community/gpt2 at main: in the lock, no longer in the manifest",
    ]
    assert f"hint: write it with: bundle lock {manifest}" in stale.stderr
    assert manifest.with_suffix(".lock").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("repo_id: gpt2", "repo_id: gpt2\n    aliases: [x]", "aliases x are not in the lock"),
        (
            "repo_id: gpt2",
            "repo_id: gpt2\n    trust_remote_code: true",
            "trust_remote_code is true, in the lock false",
        ),
        ("repo_id: gpt2", "repo_id: gpt2\n    revision: v1", "tokenizers[0] (gpt2) at v1: not in the lock"),
        ("repo_id: gpt2", "repo_id: gpt2\n    ignore_patterns: [x]", "the choice of files (allow_patterns or"),
    ],
)
def test_check_says_in_what_the_lock_differs(
    bundle: Bundle, manifest: Path, old: str, new: str, expected: str
) -> None:
    bundle.lock(manifest)
    manifest.write_text(MANIFEST.replace(old, new))
    done = bundle.lock(manifest, "--check")
    assert done.returncode == 3
    assert expected in done.stderr


def test_a_damaged_lock_is_not_replaced_unless_asked(bundle: Bundle, manifest: Path) -> None:
    manifest.with_suffix(".lock").write_text("{")
    done = bundle.lock(manifest)
    assert done.returncode == 3
    assert "hint: bundle lock --upgrade writes it again, with new commits" in done.stderr
    assert manifest.with_suffix(".lock").read_text() == "{"
    assert bundle.lock(manifest, "--upgrade").returncode == 0
    assert Lock.loads(manifest.with_suffix(".lock").read_text()).name == "demo"


def test_a_faulty_manifest_exits_with_3_and_an_unknown_repo_with_5_and_no_lock_is_left(
    bundle: Bundle, manifest: Path
) -> None:
    manifest.write_text("version: 1\nname: X\n")
    assert bundle.lock(manifest).returncode == 3
    manifest.write_text(MANIFEST.replace("gpt2", "gtp2/gtp2"))
    done = bundle.lock(manifest)
    assert done.returncode == 5
    assert done.stderr.startswith("error: tokenizers[0]: no model gtp2/gtp2 at http://127.0.0.1")
    assert "Traceback" not in done.stderr
    assert [path.name for path in manifest.parent.iterdir()] == ["demo.yaml"]


def test_wrong_usage_exits_with_2(manifest: Path) -> None:
    done = Bundle().lock(manifest, "--check", "--upgrade")
    assert done.returncode == 2
    assert Bundle().lock(manifest, "-o", manifest).returncode == 2
    assert manifest.read_text() == MANIFEST


def test_a_proxy_that_refuses_is_named_with_its_variable(manifest: Path) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with listener(refuse) as port:
        proxy = f"http://me:secret@127.0.0.1:{port}"
        done = Bundle(HTTPS_PROXY=proxy, HF_ENDPOINT="https://hub.invalid").lock(manifest)
    assert done.returncode == 4
    assert done.stderr == (
        f"error: the proxy http://me:***@127.0.0.1:{port} (from HTTPS_PROXY) refused the connection to "
        "hub.invalid: 403 Forbidden\n"
        "hint: correct or unset HTTPS_PROXY, or list hub.invalid in NO_PROXY if it can be reached directly\n"
    )


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_an_unreachable_proxy_is_named_with_its_variable(manifest: Path, variable: str) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    done = Bundle(**{variable: proxy}, HF_ENDPOINT="http://hub.invalid").lock(manifest)
    assert done.returncode == 4
    assert f"the proxy {proxy} (from {variable}) cannot be reached" in done.stderr


def test_a_proxy_that_does_not_apply_is_not_blamed(manifest: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    done = Bundle(HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="127.0.0.1", HF_ENDPOINT=endpoint).lock(manifest)
    assert done.returncode == 4
    assert f"cannot connect to {endpoint.removeprefix('http://')}" in done.stderr
    assert "from HTTP_PROXY" not in done.stderr


def test_a_proxy_that_the_client_cannot_use_is_named_with_its_variable(manifest: Path) -> None:
    done = Bundle(ALL_PROXY="ftp://proxy.invalid", HF_ENDPOINT="http://hub.invalid").lock(manifest)
    assert done.returncode == 4
    assert "the proxy ftp://proxy.invalid (from ALL_PROXY) cannot be used" in done.stderr


def test_a_hub_that_accepts_and_says_nothing_is_given_up_within_the_time_limit(manifest: Path) -> None:
    finished = threading.Event()
    with listener(lambda connection: finished.wait(60) and None) as port:
        done = Bundle(HF_ENDPOINT=f"http://127.0.0.1:{port}", HF_HUB_DOWNLOAD_TIMEOUT="1").lock(manifest)
        finished.set()
    assert done.returncode == 4
    assert f"127.0.0.1:{port} did not answer within 1 s" in done.stderr


@pytest.mark.parametrize("command", ["lock", "fetch"])
def test_a_hub_that_says_nothing_is_not_waited_for_after_a_signal(command: str, manifest: Path) -> None:
    asked, finished = threading.Event(), threading.Event()

    def hold(connection: socket.socket) -> None:
        asked.set()
        finished.wait(60)

    with listener(hold) as port:
        env = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_DOWNLOAD_TIMEOUT": "120"}
        with Child([script("bundle"), command, manifest], env=env, stderr=subprocess.DEVNULL) as child:
            assert asked.wait(60)
            child.send_signal(signal.SIGTERM)
            # An answer would be waited for twice as long.
            assert child.wait(60) == 143
        finished.set()


def test_a_host_that_does_not_exist_is_told(manifest: Path) -> None:
    done = Bundle(HF_ENDPOINT="https://hub.invalid").lock(manifest)
    assert (done.returncode, "cannot connect to hub.invalid" in done.stderr) == (4, True)
    assert "behind a proxy set HTTPS_PROXY" in done.stderr


@pytest.mark.parametrize("command", ["lock", "fetch"])
@pytest.mark.parametrize(
    ("address", "shown", "reason"),
    [
        ("hub.invalid", "hub.invalid", "it begins with neither https:// nor http://"),
        ("https://", "https:", "it names no host"),
        ("http://[::1", "http://[::1", "Invalid IPv6 URL"),
        (
            "http://hub.invalid:port",
            "http://hub.invalid:port",
            "Port could not be cast to integer value as 'port'",
        ),
        ("http://me:secret@[::1", "http://***@[::1", "Invalid IPv6 URL"),
    ],
)
def test_an_endpoint_that_is_no_address_is_told_before_any_library_reads_it(
    manifest: Path, command: str, address: str, shown: str, reason: str
) -> None:
    done = run([script("bundle"), command, manifest], env={"HF_ENDPOINT": address}, check=False)
    assert (done.returncode, done.stderr) == (
        4,
        f"error: HF_ENDPOINT is {shown!r}: {reason}\n"
        "hint: HF_ENDPOINT looks like https://huggingface.co: correct or unset it\n",
    )


def test_the_password_in_an_endpoint_is_not_shown(manifest: Path) -> None:
    done = Bundle(HF_ENDPOINT=f"http://me:secret@127.0.0.1:{free_port()}").lock(manifest)
    assert (done.returncode, "cannot connect to 127.0.0.1" in done.stderr) == (4, True)
    assert "secret" not in done.stderr


def test_offline_mode_is_an_error_that_names_its_variable(manifest: Path) -> None:
    done = Bundle(TRANSFORMERS_OFFLINE="1").lock(manifest)
    assert done.returncode == 4
    assert "this needs the network, and TRANSFORMERS_OFFLINE=1 forbids it" in done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
def test_an_untrusted_certificate_points_at_the_variable_that_the_client_reads(
    manifest: Path, tmp_path: Path
) -> None:
    with tls_listener(
        tmp_path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nX-Error-Code: RepoNotFound\r\n\r\n"
    ) as port:
        endpoint = f"https://localhost:{port}"
        untrusted = Bundle(
            HF_ENDPOINT=endpoint, SSL_CERT_FILE="", SSL_CERT_DIR="", REQUESTS_CA_BUNDLE="/etc/ours.pem"
        ).lock(manifest)
        trusted = Bundle(HF_ENDPOINT=endpoint, SSL_CERT_FILE=str(tmp_path / "cert")).lock(manifest)
    assert untrusted.returncode == 4
    assert f"the certificate of localhost:{port} is not trusted: self-signed certificate" in untrusted.stderr
    assert "REQUESTS_CA_BUNDLE, which you have set, is not read by huggingface_hub" in untrusted.stderr
    assert (trusted.returncode, "no model gpt2" in trusted.stderr) == (5, True)
