"""A refusal is what a program gets on a machine without a network, at the first try, and is counted all the same."""

from __future__ import annotations

import pytest

from tests.offline.conftest import OUTSIDE
from tests.offline.guard.conftest import Guarded


@pytest.mark.parametrize("first", ["", "import bundler.errors"])
@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ('urllib.request.urlopen("http://{outside}/")', "urllib.error.URLError"),
        ('http.client.HTTPConnection("{outside}").connect()', "OSError"),
        ('socket.getaddrinfo("name.invalid", 80)', "socket.gaierror"),
        ('socket.create_connection(("name.invalid", 80))', "socket.gaierror"),
        ('asyncio.run(asyncio.open_connection("name.invalid", 80))', "socket.gaierror"),
        ('ftplib.FTP("{outside}")', "OSError"),
        ('smtplib.SMTP("{outside}")', "OSError"),
    ],
)
def test_a_refusal_is_what_python_raises_without_a_network(
    guarded: Guarded, first: str, statement: str, error: str
) -> None:
    attempts = guarded.run(f"""
        {first}
        import asyncio, ftplib, http.client, smtplib, socket, urllib.error, urllib.request
        try:
            {statement.format(outside=OUTSIDE)}
        except {error} as error:
            assert "was refused before anything left this machine" in str(error)
            print("as without a network", getattr(error, "errno", None))
    """)
    said, _, number = guarded.out.strip().rpartition(" ")
    assert said == "as without a network", guarded.err
    assert number == {"OSError": "101", "socket.gaierror": "-3"}.get(error, "None")
    assert len(attempts) == 1


@pytest.mark.parametrize(
    ("library", "call", "error"),
    [
        ("requests", 'requests.get("http://name.invalid/")', "requests.ConnectionError"),
        ("requests", 'requests.get("http://{outside}/")', "requests.ConnectionError"),
        ("requests", 'with_retries().get("https://{outside}/")', "requests.ConnectionError"),
        (
            "urllib3",
            'urllib3.PoolManager().request("GET", "http://{outside}/")',
            "urllib3.exceptions.MaxRetryError",
        ),
        (
            "urllib3",
            'urllib3.PoolManager().request("GET", "http://name.invalid/", retries=False)',
            "urllib3.exceptions.NewConnectionError",
        ),
        ("httpx", 'httpx.get("http://name.invalid/")', "httpx.ConnectError"),
        ("httpx", 'asyncio.run(httpx.AsyncClient().get("http://{outside}/"))', "httpx.ConnectError"),
        ("httpx2", 'httpx2.get("http://{outside}/")', "httpx2.ConnectError"),
        ("aiohttp", 'asyncio.run(ask("http://name.invalid/"))', "aiohttp.ClientConnectorError"),
        ("aiohttp", 'asyncio.run(ask("http://{outside}/"))', "aiohttp.ClientConnectorError"),
    ],
)
def test_an_http_library_raises_what_it_raises_without_a_network_at_the_first_try(
    guarded: Guarded, library: str, call: str, error: str
) -> None:
    pytest.importorskip(library)
    attempts = guarded.run(f"""
        import asyncio
        import {library}

        def with_retries():
            from requests.adapters import HTTPAdapter, Retry
            session = requests.Session()
            session.mount("https://", HTTPAdapter(max_retries=Retry(total=10, connect=10, backoff_factor=60)))
            return session

        async def ask(url):
            async with aiohttp.ClientSession() as session:
                await session.get(url)

        try:
            {call.format(outside=OUTSIDE)}
        except {error}:
            print("as without a network")
    """)
    assert guarded.out == "as without a network\n", guarded.err
    assert len(attempts) == 1, "whatever retries were asked for"


def test_pip_and_nltk_say_that_they_reach_nothing(guarded: Guarded) -> None:
    """pip has a urllib3 of its own; it looks at its index once, and ends with the words that it has for that."""
    attempts = guarded.run("""
        import sys
        from pip._internal.cli.main import main
        sys.exit(main(["download", "--disable-pip-version-check", "--no-deps", "six"]))
    """)
    assert guarded.code == 1 and "Traceback" not in guarded.err
    assert "No matching distribution found for six" in guarded.err
    assert {attempt.target for attempt in attempts} == {"pypi.org:443"}
    pytest.importorskip("nltk")
    guarded.run("import nltk\nprint(nltk.download('stopwords', download_dir='nltk', quiet=True))")
    assert (guarded.code, guarded.out) == (0, "False\n"), guarded.err


def test_torch_and_tiktoken_go_on_with_what_they_have(guarded: Guarded) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tiktoken")
    repo = guarded.folder / "torch/hub/own_tiny_main"
    repo.mkdir(parents=True)
    (repo / "hubconf.py").write_text("def one():\n    return 1\n")
    env = {"TORCH_HOME": str(guarded.folder / "torch"), "TIKTOKEN_CACHE_DIR": str(guarded.folder / "tiktoken")}
    attempts = guarded.run(
        """
        import requests, tiktoken, torch
        assert torch.hub.load("own/tiny", "one") == 1
        try:
            tiktoken.get_encoding("gpt2")
        except requests.ConnectionError:
            print("as without a network")
        """,
        env=env,
    )
    assert guarded.out == "as without a network\n", guarded.err
    assert [attempt.target for attempt in attempts] == [
        "github.com:443",
        "openaipublic.blob.core.windows.net:443",
    ]
