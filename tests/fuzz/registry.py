"""Fuzzes what a registry answers with: manifests and indexes, tokens, and files of logins to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

from bundler.remote.address import Address
from bundler.remote.oci.credentials import find_credentials
from bundler.remote.oci.login import RegistryLogin
from bundler.remote.oci.manifest import Manifest
from bundler.remote.oci.reference import Reference
from tests.fuzz.targets import accepts

_HOST = "registry.example"
REFERENCE = Reference.parse(Address(f"oci://{_HOST}/org/demo:1"))
_DIGEST = b'"digest": "sha256:' + b"a" * 64 + b'", "size": 9'
_LAYER = b'{"mediaType": "application/vnd.example.bundle.v1+zstd", ' + _DIGEST + b', "annotations": {"a": "b"}}'


class _Answer:
    """An answer that is there."""

    status = 200

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, most_bytes: int) -> bytes:
        return self._content[:most_bytes]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _Client:
    """Answers every request with the same bytes: a server would take a hundred times as long."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def send(self, *arguments: object, **options: object) -> _Answer:
        return _Answer(self._content)


def fuzz_registry(data: bytes, folder: Path) -> None:
    """A manifest; or a challenge, a token and a file of logins, a line each."""
    mode, rest = data[:1], data[1:]
    if mode == b"m":
        accepts(lambda: _read_manifest(rest))
        return
    challenge, _, more = rest.partition(b"\n")
    token, _, logins = more.partition(b"\n")
    path = folder / "logins.json"
    path.write_bytes(logins)
    with (
        mock.patch.dict(os.environ, {"REGISTRY_AUTH_FILE": str(path)}),
        # No program is started whose name comes from a fuzzer.
        mock.patch("subprocess.run", side_effect=FileNotFoundError),
    ):
        _log_in(challenge, token)


def _log_in(challenge: bytes, token: bytes) -> None:
    accepts(lambda: find_credentials(_HOST, "org/demo"))
    client: Any = _Client(token)
    login = RegistryLogin(client, REFERENCE)
    accepts(lambda: login.renew(challenge.decode("latin-1")))
    _check_headers(login.headers())


def _read_manifest(content: bytes) -> None:
    manifest = Manifest.parse(content, f"sha256:{'a' * 64}", "fuzzed")
    for key in ("manifests", "layers"):
        for one in manifest.list_descriptors(key, "fuzzed"):
            one.to_json()
    found = manifest.find_bundle("fuzzed")
    assert found.size_bytes >= 0
    manifest.find_bundle_digest("fuzzed")


def _check_headers(headers: Mapping[str, str]) -> None:
    for value in headers.values():
        assert value.isascii(), value
        assert value.isprintable(), value


def registry_seeds() -> list[bytes]:
    """Return a manifest, an index, and answers to somebody who logs in."""
    bearer = b'Bearer realm="https://auth.example/token",service="r",scope="repository:org/demo:pull"\n'
    logins = [
        b'{"auths": {"registry.example": {"auth": "dXNlcjpzZWNyZXQ="}}}',
        b'{"auths": {"https://registry.example/v1/": {"auth": "dTpw", "identitytoken": "t"}}, "credHelpers": {}}',
        b'{"credsStore": "none", "auths": {"registry.example/org": {}}}',
    ]
    return [
        b'm{"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [' + _LAYER + b"]}",
        b'm{"manifests": [' + _LAYER + b", " + _LAYER + b'], "annotations": {}}',
        *(b"t" + bearer + b'{"token": "abc", "expires_in": 60}\n' + each for each in logins),
        b"t" + b'Basic realm="x"\n{"access_token": "a b"}\n' + logins[0],
    ]
