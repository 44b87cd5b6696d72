"""Logins to registries: tokens, credential helpers, and who gets to see what."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import DependencyError, RemoteError, UsageError
from bundler.remote import waiting
from bundler.remote.address import Address
from bundler.remote.oci.credentials import find_credentials
from bundler.remote.oci.opening import open_registry
from bundler.remote.oci.reference import Reference
from bundler.transfer.push import push
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.network.ranged import RangedServer
from tests.support.network.spec_registry import SpecRegistry

NESTED = "[" * 300_000
ANSWER = '{"Username": "u", "Secret": "s"}'


@pytest.fixture
def registry() -> Iterator[SpecRegistry]:
    with SpecRegistry("user:secret") as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path / "config.json"


def log_in(config: Path, host: str, login: str = "user:secret") -> None:
    config.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(login.encode()).decode()}}}))


def test_a_token_is_asked_for_once_and_again_when_it_is_refused(
    registry: SpecRegistry, config: Path, tmp_path: Path
) -> None:
    packed = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a" * 99}), contents=[b"a" * 99])
    log_in(config, registry.host)
    pushed = push(packed, Address(registry.address()), tmp_path / "notes")
    assert len(registry.manifests) == 2 * len(pushed.attached) // 2 + 2
    # The password was shown to nobody but who gives out tokens.
    assert {shown for _, _, shown in registry.requests} == {"", "Bearer token-1"}
    found = open_registry(Address(pushed.address))
    registry.token = "token-2"
    data = bytearray(10)
    found.read_into(1, memoryview(data))
    assert data == packed.read_bytes()[1:11]
    found.close()


def test_nobody_and_who_is_wrong_get_no_token_and_no_password_is_told(
    registry: SpecRegistry, config: Path
) -> None:
    for login in (None, "user:wrong-password"):
        if login:
            log_in(config, registry.host, login)
        with pytest.raises(RemoteError) as caught:
            open_registry(Address(registry.address()))
        assert caught.value.status == 401
        assert "wrong-password" not in f"{caught.value}{caught.value.__cause__!r}"


def test_a_refresh_token_is_not_sent_to_where_a_redirect_leads(registry: SpecRegistry, config: Path) -> None:
    with RangedServer({"/token": b""}) as other:
        config.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "refresh-secret"}}}))
        registry.token_leads_to = f"{other.url}/token"
        with pytest.raises(RemoteError) as caught:
            open_registry(Address(registry.address()))
        assert caught.value.status == 307
        assert other.files == {"/token": b""} and not other.requests


def test_a_credential_helper_is_asked(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "bin" / "docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(
        "#!/bin/sh\nread host\ncase $host in\n"
        'a.example) echo \'{"Username": "u", "Secret": "s"}\' ;;\n'
        'b.example) echo \'{"Username": "<token>", "Secret": "t"}\' ;;\n'
        "c.example) echo broken; exit 1 ;;\n"
        f"nested.example) cat {tmp_path}/nested ;;\n"
        "*) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    config.write_text(json.dumps({"credHelpers": {"a.example": "test"}, "credsStore": "test"}))
    one, other = find_credentials("a.example", "x"), find_credentials("b.example", "x")
    assert one is not None
    assert other is not None
    assert (one.user, one.password, one.identity_token) == ("u", "s", None)
    assert other.identity_token == "t"
    assert "s" not in repr(one).replace("Credentials", "")
    assert find_credentials("d.example", "x") is None
    with pytest.raises(RemoteError):
        find_credentials("c.example", "x")
    (tmp_path / "nested").write_text(NESTED)
    with pytest.raises(RemoteError):
        find_credentials("nested.example", "x")
    config.write_text(json.dumps({"credHelpers": {"a.example": "absent"}}))
    with pytest.raises(DependencyError):
        find_credentials("a.example", "x")


def test_a_slow_credential_helper_is_named_while_it_is_waited_for(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper, said = tmp_path / "bin" / "docker-credential-slow", tmp_path / "said"
    helper.parent.mkdir()
    os.mkfifo(said)
    helper.write_text(f"#!/bin/sh\ncat {said}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(waiting, "NOTE_SECONDS", 0.01)
    # It answers when it was spoken of, and not before.
    monkeypatch.setattr(waiting, "note", lambda text: (notes.append(text), said.write_text(ANSWER)))
    notes: list[str] = []
    config.write_text(json.dumps({"credsStore": "slow"}))
    found = find_credentials("a.example", "x")
    assert found is not None
    assert found.user == "u"
    assert "docker-credential-slow" in notes[0]


def test_the_login_to_a_namespace_comes_before_that_to_its_registry(config: Path) -> None:
    entries = {"h": "all:1", "h/org/team": "team:2", "h/org/te": "other:3"}
    config.write_text(
        json.dumps({"auths": {key: {"auth": base64.b64encode(v.encode()).decode()} for key, v in entries.items()}})
    )
    found = [find_credentials("h", name) for name in ("org/team/model", "org/x")]
    assert [one and one.user for one in found] == ["team", "all"]


def test_an_answer_that_is_nested_without_end_gives_no_token(
    registry: SpecRegistry, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.network.spec_registry.json.dumps", lambda value: NESTED)
    with pytest.raises(RemoteError):
        open_registry(Address(registry.address()))


@pytest.mark.parametrize(
    "content",
    ["no json", NESTED, '{"auths": {"h": {"auth": "%%"}}}', '{"auths": {"h": {"auth": "\u00e9"}}}'],
)
def test_malformed_logins_name_their_file(config: Path, content: str) -> None:
    config.write_text(content)
    with pytest.raises(RemoteError, match=str(config)):
        find_credentials("h", "x")


def test_a_reference_has_a_registry_a_name_and_a_tag_or_digest() -> None:
    digest = f"sha256:{'a' * 64}"
    found = Reference.parse(Address(f"oci://host:5000/a/b:v1@{digest}"))
    assert (found.url, found.tag, found.wanted) == ("https://host:5000/v2/a/b", "v1", digest)
    assert Reference.parse(Address("oci://host/a")).wanted == "latest"
    assert Reference.parse(Address("oci+http://host/a")).url == "http://host/v2/a"
    assert Reference.parse(Address("oci://localhost:1/a")).url == "http://localhost:1/v2/a"


@pytest.mark.parametrize("rest", ["A/b", "a:-", "a@sha256:1", "a/../b", "a?x=1", "user@host/a"])
def test_what_is_no_reference_is_refused(rest: str) -> None:
    text = f"oci://{rest}" if rest.startswith("user") else f"oci://host/{rest}"
    with pytest.raises(UsageError):
        Reference.parse(Address(text))
