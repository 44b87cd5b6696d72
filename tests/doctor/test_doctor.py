"""`bundle doctor`: what it makes of environments and caches that are wrong in known ways."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.doctor import cache, machine, network
from bundler.doctor.diagnosis import Diagnosis
from bundler.doctor.examine import examine
from bundler.format.codec.words import numpy_way
from bundler.home.common.journal import note_unfinished
from bundler.home.common.set_aside import move_aside
from bundler.home.installation.install import install
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle, tree
from tests.support.hub import RunningHub
from tests.support.messages import Told
from tests.support.network.listener import tls_listener
from tests.support.network.proxy import Proxy
from tests.support.process import run, script

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


def words(finding: Diagnosis) -> str:
    """A finding as it stands in a golden file."""
    return "\n".join(filter(None, [f"{finding.state}  {finding.check}: {finding.message}", finding.advice]))


def test_a_sound_environment_has_no_problem_and_nothing_is_changed(
    home: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    before = tree(home)
    findings = examine({**HUB, "HF_HOME": str(home)}, home)
    assert {f.state for f in findings} <= {"ok", "note"} or [
        f.check for f in findings if f.state == "warning"
    ] == ["isolation"]
    told("doctor", "a bundle that is whole", words(only(findings, "bundles", "ok")), home=home)
    assert tree(home) == before


def test_the_code_that_takes_weights_apart_is_named(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    compiled = replace(numpy_way(), name="compiled")
    cases = {
        "compiled code that is used": (compiled, compiled),
        "compiled code that a variable rules out": (numpy_way(), compiled),
        "compiled code that was not built": (numpy_way(), None),
    }
    for case, (chosen, built) in cases.items():
        monkeypatch.setattr(machine, "chosen_way", lambda chosen=chosen: chosen)
        monkeypatch.setattr(machine, "compiled_way", lambda built=built: built)
        state = "ok" if chosen is built else "note"
        told("doctor", case, words(only(machine.check_compiled(), "compiled", state)))


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
    assert [finding.state for finding in network.check_switches(environment)] == [state]


@pytest.mark.parametrize("address", ["huggingface.co", "ftp://x", "https://:80", "http://[x"])
def test_an_endpoint_that_is_no_address_is_a_problem(
    address: str, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    finding = only(network.check_endpoint({"HF_ENDPOINT": address}), "endpoint", "problem")
    told("doctor", f"the endpoint {address}", words(finding))
    # The others look past it.
    assert [f.check for f in network.check_proxies({"HF_ENDPOINT": address}) if f.state == "problem"] == []
    assert list(network.check_connection({"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "1"})) == []


def test_the_password_in_an_endpoint_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("http://me:secret@127.0.0.1:9", "http://me:secret@[::1", "ftp://me:secret@x"):
        environment = {"HF_ENDPOINT": address}
        monkeypatch.setenv("HF_ENDPOINT", address)
        found = [
            *network.check_endpoint(environment),
            *network.check_proxies(environment),
            *network.check_connection(environment),
        ]
        assert "secret" not in str(found) and "***" in str(found)


def test_a_hub_that_answers_is_told_with_its_status(
    demo_hub: RunningHub, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", demo_hub.endpoint)
    finding = only(network.check_connection({}), "connection", "ok")
    told("doctor", "a hub that answers", words(finding), host=demo_hub.endpoint.removeprefix("http://"))


def test_a_hub_that_takes_connections_and_never_answers_is_not_reached(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    with Proxy("hangs") as silent:
        monkeypatch.setenv("HF_ENDPOINT", silent.url)
        finding = only(network.check_connection({}), "connection", "note")
        told("doctor", "a hub that never answers", words(finding), host=silent.url.removeprefix("http://"))
        assert silent.asked == ["HEAD / HTTP/1.1"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
def test_a_hub_whose_certificate_is_not_trusted_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    with tls_listener(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        monkeypatch.setenv("HF_ENDPOINT", f"https://localhost:{port}")
        finding = only(network.check_connection({}), "connection", "problem")
    told("doctor", "a certificate that is not trusted", words(finding), host=f"localhost:{port}")


def test_a_proxy_that_refuses_is_a_problem_with_both_ways_out_and_no_password(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    with Proxy("refuses") as proxy:
        url = proxy.url.replace("http://", "http://me:secret@")
        monkeypatch.setenv("HTTPS_PROXY", url)
        finding = only(network.check_proxies({"HTTPS_PROXY": url}), "proxy", "problem")
        told("doctor", "a proxy that refuses", words(finding), host=proxy.url.removeprefix("http://"))
    assert "secret" not in str(finding)


def test_a_proxy_is_not_asked_in_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy("refuses") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        (finding,) = network.check_proxies({"HTTPS_PROXY": proxy.url, "HF_HUB_OFFLINE": "1"})
    assert finding.state == "note" and proxy.asked == []


def test_networks_and_default_ports_in_no_proxy_are_told(told: Told) -> None:
    environment = {"NO_PROXY": "10.0.0.0/8,mirror.example:443,localhost,127.0.0.1,mirror.example:8080"}
    (finding,) = [one for one in network.check_proxies(environment) if one.check == "no_proxy"]
    assert finding.state == "warning"
    told("doctor", "no_proxy with entries that the client does not read", words(finding))


def test_no_proxy_without_loopback_and_with_odd_entries_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    environment = {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "https://a.example, *.b.example,c.example"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    odd, loopback = [finding for finding in network.check_proxies(environment) if finding.check == "no_proxy"]
    assert (odd.state, loopback.state) == ("warning", "warning")
    told("doctor", "no_proxy with odd entries", words(odd))
    told("doctor", "no_proxy without loopback", words(loopback))
    differing = network.check_proxies({**environment, "HTTP_PROXY": "http://127.0.0.1:10"})
    told("doctor", "two proxies that differ", words(only(differing, "proxy", "warning")))


def test_certificates_that_cannot_be_read_or_are_not_read_are_told(tmp_path: Path, told: Told) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (tmp_path / "none.pem", empty):
        finding = only(network.check_certificates({"SSL_CERT_FILE": str(path)}), "certificates", "problem")
        told("doctor", f"certificates in {path.name}", words(finding), folder=tmp_path)
    ignored = only(network.check_certificates({"REQUESTS_CA_BUNDLE": "x"}), "certificates", "warning")
    told("doctor", "certificates that are not read", words(ignored))


def test_a_token_is_told_to_be_there_and_never_shown(tmp_path: Path, told: Told) -> None:
    secret = "hf_veryverysecret"
    by_variable = list(network.check_token({"HF_TOKEN": secret}, tmp_path))
    (tmp_path / "token").write_text(secret)
    (tmp_path / "token").chmod(0o644)
    by_file = only(network.check_token({}, tmp_path), "token", "warning")
    told("doctor", "a token in a file that others may read", words(by_file), folder=tmp_path)
    told("doctor", "a token in a variable", words(by_variable[0]))
    assert secret not in str([*by_variable, by_file])
    (tmp_path / "token").unlink()
    told("doctor", "no token", words(only(network.check_token({}, tmp_path), "token", "ok")))


def test_an_installation_that_did_not_end_and_files_that_were_moved_aside_are_told(home: Path, told: Told) -> None:
    told("doctor", "no traces", words(only(cache.check_traces(home), "traces", "ok")))
    note_unfinished(home, "other", [])
    move_aside(home, f"hub/models--org--tiny/snapshots/{COMMIT}/tokenizer.json")
    found = list(cache.check_traces(home))
    told("doctor", "an installation that did not end", words(only(found, "traces", "warning")), home=home)
    told("doctor", "a file that was moved aside", words(only(found, "traces", "note")), home=home, commit=COMMIT)


def test_a_damaged_receipt_and_a_missing_file_are_problems(home: Path, told: Told) -> None:
    snapshot = home / "hub/models--org--tiny/snapshots" / COMMIT
    (snapshot / "tokenizer.json").unlink()
    finding = only(cache.check_bundles(home), "bundles", "problem")
    told("doctor", "a bundle that lacks a file", words(finding), home=home, commit=COMMIT)
    receipt = home / "bundles/tiny.json"
    receipt.write_bytes(receipt.read_bytes().replace(b"org/tiny", b"org/tinx"))
    told(
        "doctor",
        "a receipt that was changed",
        words(only(cache.check_bundles(home), "bundles", "problem")),
        home=home,
    )


def test_refs_with_a_newline_dangling_links_and_unfiltered_trees_are_named(home: Path, told: Told) -> None:
    assert [f.state for f in cache.check_repos(home)] == ["ok"]
    folder = home / "hub/models--org--tiny"
    (folder / "refs/main").write_text(f"{COMMIT}\n")
    told("doctor", "a ref with a newline", words(only(cache.check_repos(home), "refs", "problem")), home=home)
    (folder / "snapshots" / COMMIT / "lost.bin").symlink_to("../../blobs/none")
    dangling = only(cache.check_repos(home), "snapshots", "problem")
    told("doctor", "a dangling link", words(dangling), home=home, commit=COMMIT)
    listing = folder / "trees" / f"{COMMIT}.json"
    content = json.loads(listing.read_text())
    content["files"]["chat_template.jinja"] = {"size": 1, "blob_id": "0" * 40}
    listing.write_text(json.dumps(content))
    told(
        "doctor",
        "a tree that is not filtered",
        words(only(cache.check_repos(home), "trees", "warning")),
        home=home,
    )


def test_traces_of_interrupted_work_are_named(home: Path, told: Told) -> None:
    assert [f.state for f in cache.check_traces(home)] == ["ok"]
    (home / "hub/models--org--tiny/blobs/abc.123.incomplete").touch()
    told(
        "doctor", "a download that did not end", words(only(cache.check_traces(home), "traces", "note")), home=home
    )


def test_a_variable_that_moves_the_cache_away_is_a_warning(home: Path, tmp_path: Path, told: Told) -> None:
    inside = {"HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")}
    assert [f.state for f in cache.check_place(inside, home)] == ["ok"]
    moved = {"HF_HOME": str(home), "HF_HUB_CACHE": str(tmp_path / "other/hub")}
    finding = only(cache.check_place(moved, home), "cache", "warning")
    told("doctor", "a variable that moves the cache away", words(finding), home=home, other=tmp_path / "other")


def test_the_command_ends_with_its_own_exit_code_and_speaks_json(home: Path) -> None:
    sound = run([script("bundle"), "doctor", "--hf-home", home, "--json"], env=HUB)
    assert json.loads(sound.stdout)["ok"] is True
    (home / "hub/models--org--tiny/refs/main").write_text(f"{COMMIT}\n")
    done = run([script("bundle"), "doctor", "--hf-home", home], env=HUB, check=False)
    assert done.returncode == 16
    assert "PROBLEM  refs" in done.stdout
