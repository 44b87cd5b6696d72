"""What is asked of other hosts, and what of their answers is believed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx2
import pytest

from bundler.errors import HubError, NetworkError
from bundler.hub.web import answer
from bundler.hub.web.answer import MOST_REDIRECTS, _check_redirect
from bundler.hub.web.download import download
from tests.support.web import WebServer


def test_a_file_is_taken_with_its_length_and_hashes(tmp_path: Path) -> None:
    with WebServer({"/a": b"content"}) as web:
        digests = download(f"{web.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert (digests.size_bytes, digests.sha256) == (7, hashlib.sha256(b"content").hexdigest())


def test_no_token_and_no_cookie_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with WebServer({"/a": "/b", "/b": b"x"}) as web:
        download(f"{web.url}/a", None)
        download(f"{web.url}/b", None)
        headers = [headers for _, headers in web.requests]
    assert web.asked() == ["/a", "/b", "/b"]
    assert not any({"authorization", "cookie"} & sent.keys() for sent in headers)
    assert not any("hf_secret" in value for sent in headers for value in sent.values())


@pytest.mark.parametrize("status", [401, 403, 404, 418])
def test_a_refusal_is_an_error_and_is_not_asked_again(status: int, tmp_path: Path) -> None:
    with WebServer({"/a": status}) as web, pytest.raises(HubError, match=f"/a answered {status}"):
        download(f"{web.url}/a?key=secret", tmp_path / "a")
    assert len(web.requests) == 1


def test_a_query_is_not_shown(tmp_path: Path) -> None:
    with WebServer({}) as web, pytest.raises(HubError) as caught:
        download(f"{web.url}/a?key=secret", tmp_path / "a")
    assert "secret" not in caught.value.message


def test_redirects_have_an_end(tmp_path: Path) -> None:
    with WebServer({"/a": "/a"}) as web, pytest.raises(NetworkError):
        download(f"{web.url}/a", tmp_path / "a")
    assert len(web.requests) == MOST_REDIRECTS


def test_an_answer_has_an_end(tmp_path: Path) -> None:
    with WebServer({"/a": b""}) as web:
        web.endless.add("/a")
        with pytest.raises(HubError, match="more than 1,000,000 bytes"):
            download(f"{web.url}/a", tmp_path / "a", most_bytes=1_000_000)
    assert (tmp_path / "a").stat().st_size <= 1_000_000


@pytest.mark.parametrize(
    ("url", "following"),
    [
        ("https://a.example/x", "http://a.example/x"),
        ("https://a.example/x", "http://127.0.0.1:8080/admin"),
        ("https://a.example/x", "https://localhost/admin"),
        ("https://a.example/x", "https://[::1]/admin"),
        ("https://a.example/x", "file:///etc/passwd"),
        ("https://a.example/x", "ftp://a.example/x"),
        ("https://a.example/x", "https://user:password@a.example/x"),
    ],
)
def test_a_redirect_leads_neither_to_plain_http_nor_into_this_machine(url: str, following: str) -> None:
    with pytest.raises(HubError):
        _check_redirect(url, following, plain_http=False)


def test_with_a_known_hash_plain_http_is_followed() -> None:
    assert _check_redirect("http://a.example/x", "http://b.example/y", plain_http=True) == "http://b.example/y"
    with pytest.raises(HubError):
        _check_redirect("http://a.example/x", "http://127.0.0.1/y", plain_http=True)


def test_nothing_is_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with WebServer({"/a": b"x"}) as web, pytest.raises(NetworkError, match="forbids it"):
        download(f"{web.url}/a", None)
    assert web.requests == []


def test_a_host_that_is_not_there_is_an_error_of_the_network(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="could not be fetched"):
        download("http://127.0.0.1:9/a", tmp_path / "a")


def test_compressed_forms_are_not_asked_for() -> None:
    assert answer.HEADERS["Accept-Encoding"] == "identity"
    assert httpx2.Headers(answer.HEADERS).keys() == {"user-agent", "accept", "accept-encoding"}
