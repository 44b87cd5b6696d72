"""`bundle doctor`: what it makes of environments and caches that are wrong in known ways."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from bundler.doctor import cache, network
from bundler.doctor.diagnosis import Diagnosis
from bundler.doctor.examine import examine
from bundler.home.install import install
from bundler.home.journal import note_unfinished
from bundler.home.set_aside import move_aside
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle, tree
from tests.support.hub import RunningHub
from tests.support.listener import tls_listener
from tests.support.process import run, script
from tests.support.proxy import Proxy

FILES = {"config.json": b"{}", "tokenizer.json": b'{"x": 1}'}
HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    repo = locked_repo("org/tiny", FILES, kind="tokenizer")
    install(tiny_bundle(tmp_path / "built", repo, contents=FILES.values()), tmp_path / "hf")
    return tmp_path / "hf"


def only(findings: object, check: str, state: str) -> Diagnosis:
    assert hasattr(findings, "__iter__")
    found = list(findings)
    (finding,) = [f for f in found if (f.check, f.state) == (check, state)]
    assert state == "ok" or finding.advice
    return finding


def test_a_sound_environment_has_no_problem_and_nothing_is_changed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    before = tree(home)
    findings = examine({**HUB, "HF_HOME": str(home)}, home)
    assert {f.state for f in findings} <= {"ok", "note"} or [
        f.check for f in findings if f.state == "warning"
    ] == ["isolation"]
    assert "tiny: 2 files" in only(findings, "bundles", "ok").message
    assert tree(home) == before


@pytest.mark.parametrize(
    ("environment", "state"),
    [
        ({}, "ok"),
        ({"HF_HUB_OFFLINE": "1"}, "ok"),
        ({"HF_HUB_OFFLINE": "0"}, "note"),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, "problem"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "yes"}, "ok"),
        ({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "0"}, "problem"),
    ],
)
def test_switches_that_contradict_each_other_are_a_problem(environment: Mapping[str, str], state: str) -> None:
    assert [finding.state for finding in network.switches(environment)] == [state]


@pytest.mark.parametrize("address", ["huggingface.co", "ftp://x", "https://:80", "http://[x"])
def test_an_endpoint_that_is_no_address_is_a_problem(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert address in only(network.endpoint({"HF_ENDPOINT": address}), "endpoint", "problem").message
    # The others look past it.
    assert [f.check for f in network.proxies({"HF_ENDPOINT": address}) if f.state == "problem"] == []
    assert list(network.connection({"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "1"})) == []


def test_the_password_in_an_endpoint_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("http://me:secret@127.0.0.1:9", "http://me:secret@[::1", "ftp://me:secret@x"):
        environment = {"HF_ENDPOINT": address}
        monkeypatch.setenv("HF_ENDPOINT", address)
        found = [*network.endpoint(environment), *network.proxies(environment), *network.connection(environment)]
        assert "secret" not in str(found) and "***" in str(found)


def test_a_hub_that_answers_is_told_with_its_status(demo_hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", demo_hub.endpoint)
    host = demo_hub.endpoint.removeprefix("http://")
    assert only(network.connection({}), "connection", "ok").message == f"{host} answers (HTTP 200)"


def test_a_hub_that_takes_connections_and_never_answers_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy("hangs") as silent:
        monkeypatch.setenv("HF_ENDPOINT", silent.url)
        assert "cannot be reached" in only(network.connection({}), "connection", "note").message
        assert silent.asked == ["HEAD / HTTP/1.1"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
def test_a_hub_whose_certificate_is_not_trusted_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_listener(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        monkeypatch.setenv("HF_ENDPOINT", f"https://localhost:{port}")
        finding = only(network.connection({}), "connection", "problem")
    assert "is not trusted: self-signed certificate" in finding.message and "SSL_CERT_FILE" in finding.advice


def test_a_proxy_that_refuses_is_a_problem_with_both_ways_out_and_no_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Proxy("refuses") as proxy:
        url = proxy.url.replace("http://", "http://me:secret@")
        monkeypatch.setenv("HTTPS_PROXY", url)
        finding = only(network.proxies({"HTTPS_PROXY": url}), "proxy", "problem")
        assert "me:***@" in finding.message and "refused" in finding.message
        assert "unset HTTPS_PROXY, or list huggingface.co in NO_PROXY" in finding.advice
    assert "secret" not in str(finding)


def test_a_proxy_is_not_asked_in_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy("refuses") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        (finding,) = network.proxies({"HTTPS_PROXY": proxy.url, "HF_HUB_OFFLINE": "1"})
    assert finding.state == "note" and proxy.asked == []


def test_no_proxy_without_loopback_and_with_odd_entries_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "https://a.example, *.b.example,c.example"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    messages = [f.message for f in network.proxies(environment) if f.check == "no_proxy"]
    assert "https://a.example, *.b.example" in messages[0]
    assert "does not except this machine itself" in messages[1]
    differing = network.proxies({**environment, "HTTP_PROXY": "http://127.0.0.1:10"})
    assert "http_proxy wins" in only(differing, "proxy", "warning").message


def test_certificates_that_cannot_be_read_or_are_not_read_are_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (tmp_path / "none.pem", empty):
        assert (
            str(path)
            in only(network.certificates({"SSL_CERT_FILE": str(path)}), "certificates", "problem").message
        )
    ignored = only(network.certificates({"REQUESTS_CA_BUNDLE": "x"}), "certificates", "warning")
    assert ignored.advice == "set SSL_CERT_FILE=$REQUESTS_CA_BUNDLE as well"


def test_a_token_is_told_to_be_there_and_never_shown(tmp_path: Path) -> None:
    secret = "hf_veryverysecret"
    by_variable = list(network.token({"HF_TOKEN": secret}, tmp_path))
    (tmp_path / "token").write_text(secret)
    (tmp_path / "token").chmod(0o644)
    by_file = only(network.token({}, tmp_path), "token", "warning")
    assert "which others may read" in by_file.message and by_file.advice.startswith("chmod 600")
    assert "set by HF_TOKEN" in by_variable[0].message
    assert secret not in str([*by_variable, by_file])
    (tmp_path / "token").unlink()
    assert "none" in only(network.token({}, tmp_path), "token", "ok").message


def test_an_installation_that_did_not_end_and_files_that_were_moved_aside_are_told(home: Path) -> None:
    assert only(cache.traces(home), "traces", "ok").message == "none of interrupted work"
    note_unfinished(home, "other", [])
    move_aside(home, f"hub/models--org--tiny/snapshots/{COMMIT}/tokenizer.json")
    found = list(cache.traces(home))
    assert "of other did not end" in only(found, "traces", "warning").message
    assert f"bundles/set-aside/hub/models--org--tiny/snapshots/{COMMIT}" in only(found, "traces", "note").message


def test_a_damaged_receipt_and_a_missing_file_are_problems(home: Path) -> None:
    snapshot = home / "hub/models--org--tiny/snapshots" / COMMIT
    (snapshot / "tokenizer.json").unlink()
    assert "tokenizer.json" in only(cache.bundles(home), "bundles", "problem").message
    receipt = home / "bundles/tiny.json"
    receipt.write_bytes(receipt.read_bytes().replace(b"org/tiny", b"org/tinx"))
    assert "receipt was changed" in only(cache.bundles(home), "bundles", "problem").message


def test_refs_with_a_newline_dangling_links_and_unfiltered_trees_are_named(home: Path) -> None:
    assert [f.state for f in cache.repos(home)] == ["ok"]
    folder = home / "hub/models--org--tiny"
    (folder / "refs/main").write_text(f"{COMMIT}\n")
    assert "models--org--tiny/refs/main" in only(cache.repos(home), "refs", "problem").message
    (folder / "snapshots" / COMMIT / "lost.bin").symlink_to("../../blobs/none")
    assert "lost.bin" in only(cache.repos(home), "snapshots", "problem").message
    listing = folder / "trees" / f"{COMMIT}.json"
    content = json.loads(listing.read_text())
    content["files"]["chat_template.jinja"] = {"size": 1, "blob_id": "0" * 40}
    listing.write_text(json.dumps(content))
    assert "chat templates vanish" in only(cache.repos(home), "trees", "warning").message


def test_traces_of_interrupted_work_are_named(home: Path) -> None:
    assert [f.state for f in cache.traces(home)] == ["ok"]
    (home / "hub/models--org--tiny/blobs/abc.123.incomplete").touch()
    assert "abc.123.incomplete" in only(cache.traces(home), "traces", "note").message


def test_a_variable_that_moves_the_cache_away_is_a_warning(home: Path, tmp_path: Path) -> None:
    inside = {"HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")}
    assert [f.state for f in cache.place(inside, home)] == ["ok"]
    moved = {"HF_HOME": str(home), "HF_HUB_CACHE": str(tmp_path / "other/hub")}
    assert "moves a part of the cache" in only(cache.place(moved, home), "cache", "warning").message


def test_the_command_ends_with_its_own_exit_code_and_speaks_json(home: Path) -> None:
    sound = run([script("bundle"), "doctor", "--hf-home", home, "--json"], env=HUB)
    assert json.loads(sound.stdout)["ok"] is True
    (home / "hub/models--org--tiny/refs/main").write_text(f"{COMMIT}\n")
    done = run([script("bundle"), "doctor", "--hf-home", home], env=HUB, check=False)
    assert done.returncode == 16
    assert "PROBLEM  refs" in done.stdout
