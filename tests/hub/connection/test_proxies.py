"""bundler.hub.connection.proxies, against real proxies on loopback."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from bundler.errors import NetworkError
from bundler.hub.connection.proxies import Proxy as Setting
from bundler.hub.connection.proxies import check_proxy, probe, proxy_for
from tests.support.hub import RunningHub
from tests.support.messages import Told
from tests.support.network.listener import listener
from tests.support.network.proxy import Behaviour, Proxy
from tests.support.network.socks_proxy import SocksProxy
from tests.support.process import run, script

HUB = "https://hub.invalid"


@pytest.mark.parametrize(
    ("behaviour", "endpoint", "problem"),
    [
        ("refuses", HUB, "refused the connection to hub.invalid: 403 Forbidden"),
        ("refuses", "http://hub.invalid", "refused the connection to hub.invalid: 403 Forbidden"),
        ("hangs", HUB, "accepted the connection but did not answer within 1 s"),
        ("hangs up", HUB, "closed the connection without an answer"),
        ("wants a password", HUB, "wants a user name and a password (407)"),
    ],
)
def test_what_a_proxy_does_is_said(behaviour: Behaviour, endpoint: str, problem: str) -> None:
    with Proxy(behaviour) as proxy:
        found = probe(Setting("HTTPS_PROXY", proxy.url), endpoint, timeout_seconds=1)
    assert found is not None and found.startswith(problem)


def test_a_proxy_that_lets_requests_through_is_no_problem() -> None:
    with Proxy("works") as proxy, socket.create_server(("127.0.0.1", 0)) as hub:
        address = f"127.0.0.1:{hub.getsockname()[1]}"
        assert probe(Setting("HTTPS_PROXY", proxy.url), f"https://{address}") is None
        assert proxy.asked == [f"CONNECT {address} HTTP/1.1"]


@pytest.mark.parametrize(
    ("behaviour", "login", "problem"),
    [
        ("refuses", "", "refused the connection to hub.invalid: not allowed by its rules"),
        ("hangs", "", "accepted the connection but did not answer within 1 s"),
        ("hangs up", "", "closed the connection without an answer"),
        ("wants a password", "", "wants a user name and a password"),
        ("wants a password", "me:wrong@", "does not accept the user name and password in the variable"),
    ],
)
def test_what_a_socks_proxy_does_is_said(behaviour: Behaviour, login: str, problem: str) -> None:
    with SocksProxy(behaviour) as proxy:
        found = probe(Setting("ALL_PROXY", f"socks5://{login}{proxy.address}"), HUB, timeout_seconds=1)
    assert found is not None and found.startswith(problem)


@pytest.mark.parametrize("behaviour", ["works", "wants a password"])
def test_a_socks_proxy_that_connects_is_no_problem(behaviour: Behaviour) -> None:
    with SocksProxy(behaviour) as proxy, socket.create_server(("127.0.0.1", 0)) as hub:
        address = f"127.0.0.1:{hub.getsockname()[1]}"
        assert probe(Setting("ALL_PROXY", f"socks5h://me:s%40cret@{proxy.address}"), f"https://{address}") is None
        assert proxy.asked == [address]


def test_what_is_no_socks_proxy_is_said_to_be_none() -> None:
    with listener(
        lambda connection: connection.recv(3) and connection.sendall(b"HTTP/1.1 400 Bad Request")
    ) as port:
        found = probe(Setting("ALL_PROXY", f"socks5://127.0.0.1:{port}"), HUB)
    assert found == "is not a SOCKS5 proxy: it answers b'HT'"


def test_a_socks_proxy_that_the_client_cannot_use_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = probe(Setting("ALL_PROXY", "socks5://proxy.invalid"), HUB)
    assert found == "cannot be used: the package socksio is not installed (pip install socksio)"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://proxy.invalid", "cannot be used"),
        ("socks4://proxy.invalid", "cannot be used"),
        ("http://", "has no host name"),
        ("http://[", "cannot be used"),
        ("http://127.0.0.1:99999", "cannot be used"),
        ("http://proxy.invalid:3128", "cannot be reached: there is no host proxy.invalid"),
    ],
)
def test_a_setting_that_is_no_proxy_is_said_to_be_none(url: str, problem: str) -> None:
    found = probe(Setting("HTTPS_PROXY", url), HUB)
    assert found is not None and found.startswith(problem)


def test_something_else_that_listens_is_no_proxy(tmp_path: Path) -> None:
    (tmp_path / "org/tiny").mkdir(parents=True)
    (tmp_path / "org/tiny/config.json").write_text("{}")
    with RunningHub(tmp_path) as hub:
        found = probe(Setting("HTTPS_PROXY", hub.endpoint), HUB)
    assert found is not None and found.startswith("refused the connection to hub.invalid: 4")


def test_name_and_password_of_the_address_are_sent_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:s%40cret@{address}")
        listener.settimeout(0.1)
        with pytest.raises(NetworkError) as caught:
            check_proxy(HUB)
        connection, _ = listener.accept()
        # me:s@cret
        assert b"Proxy-Authorization: Basic bWU6c0BjcmV0\r\n" in connection.recv(4096)
        connection.close()
    assert caught.value.exit_code == 4
    assert "cret" not in str(caught.value)
    told("proxies", "a proxy with a password", caught.value, address=address)


def test_the_variable_and_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    with Proxy("refuses") as proxy:
        monkeypatch.setenv("all_proxy", proxy.url)
        with pytest.raises(NetworkError) as caught:
            check_proxy(HUB)
    assert caught.value.exit_code == 4
    told("proxies", "a proxy that refuses", caught.value, proxy=proxy.url)


@pytest.mark.parametrize(
    ("address", "is_direct"),
    [("https://10.1.2.3", True), ("https://11.1.2.3", False), ("https://localhost", False)],
)
def test_a_network_in_no_proxy_holds_for_addresses_as_in_the_client(
    monkeypatch: pytest.MonkeyPatch, address: str, is_direct: bool
) -> None:
    import httpx2

    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,127.0.0.0/8")
    client = httpx2.Client()
    transport = client._transport_for_url(httpx2.URL(address))
    assert (proxy_for(address) is None) == is_direct == (transport is client._transport)


def test_a_proxy_for_other_addresses_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy("refuses") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "hub.invalid")
        assert check_proxy(HUB) is None
        assert proxy_for(HUB) is None
    assert proxy.asked == []


def test_what_no_proxy_has_and_the_client_does_not_read_is_told_with_a_proxy_that_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Proxy("refuses") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "localhost,10.0.0.0/8, hub.example:443 ,hub.example:8443")
        with pytest.raises(NetworkError) as caught:
            check_proxy(HUB)
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(
        "; of NO_PROXY the client does not apply 10.0.0.0/8, hub.example:443 to names"
    )


MANIFEST = "version: 1\nname: tiny\ntokenizers: [{repo_id: org/tiny}]\n"


@pytest.mark.parametrize("behaviour", ["refuses", "hangs"])
def test_fetching_through_a_proxy_that_stands_in_the_way_ends_soon(
    behaviour: Behaviour, tmp_path: Path, told: Told
) -> None:
    (tmp_path / "tiny.yaml").write_text(MANIFEST)
    with Proxy(behaviour) as proxy:
        environment = {"HTTP_PROXY": proxy.url, "HF_ENDPOINT": "http://hub.invalid"}
        begun = time.monotonic()
        done = run([script("bundle"), "fetch", "tiny.yaml"], env=environment, cwd=tmp_path, check=False)
        seconds = time.monotonic() - begun
    assert done.returncode == 4
    told("proxies", f"bundle fetch through a proxy that {behaviour}", done.stderr, proxy=proxy.url)
    # The libraries' own retries go on for fifty seconds; five are promised, the rest is for a busy machine.
    assert seconds < 20
    assert not (tmp_path / "tiny.lock").exists()


@pytest.fixture
def repos(tmp_path: Path) -> Path:
    """Return a folder with the repo that `MANIFEST` names; the manifest is beside it."""
    repo = tmp_path / "repos/org/tiny"
    repo.mkdir(parents=True)
    (repo / "config.json").write_text("{}")
    (repo / "tokenizer.json").write_text("{}")
    (tmp_path / "tiny.yaml").write_text(MANIFEST)
    return tmp_path / "repos"


def test_a_proxy_that_works_is_used_for_all_of_a_lock(repos: Path) -> None:
    with RunningHub(repos) as hub, Proxy("works") as proxy:
        environment = {"http_proxy": proxy.url, "HF_ENDPOINT": hub.endpoint}
        run([script("bundle"), "lock", "tiny.yaml"], env=environment, cwd=repos.parent)
        assert len(hub.requests) == len(proxy.asked)
        assert proxy.asked[0] == f"HEAD {hub.endpoint}/ HTTP/1.1"
    assert (repos.parent / "tiny.lock").exists()


def test_a_socks_proxy_that_works_is_used_for_all_of_a_lock(repos: Path) -> None:
    with RunningHub(repos) as hub, SocksProxy("works") as proxy:
        environment = {"all_proxy": f"socks5h://{proxy.address}", "HF_ENDPOINT": hub.endpoint}
        run([script("bundle"), "lock", "tiny.yaml"], env=environment, cwd=repos.parent)
        assert set(proxy.asked) == {hub.endpoint.removeprefix("http://")}
    assert (repos.parent / "tiny.lock").exists()
