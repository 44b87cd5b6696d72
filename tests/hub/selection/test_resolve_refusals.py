"""Resolving a manifest that the Hub cannot answer: each refusal has its class, its code and its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from huggingface_hub import constants

from bundler.errors import HubError, ManifestError, NetworkError
from bundler.hub.connection.client import HubClient
from bundler.hub.selection.resolve import resolve
from bundler.plan.manifest import Manifest
from tests.hub.selection.conftest import Locker, refused
from tests.support.hub import RunningHub
from tests.support.messages import Told


def test_an_alias_that_is_the_present_name_of_another_repository_is_refused(lock: Locker, told: Told) -> None:
    error = refused(
        lock, "models: [{repo_id: old-llama}, {repo_id: org/custom, aliases: [org/llama]}]", ManifestError
    )
    assert error.exit_code == 3
    told("resolve", "an alias that is the present name of another repository", error)


def test_an_unknown_repository_is_told_with_close_names(lock: Locker, hub: RunningHub, told: Told) -> None:
    error = refused(lock, "models: [{repo_id: org/lama}]")
    assert error.exit_code == 5
    told("resolve", "an unknown repository", error, endpoint=hub.endpoint)


def test_a_dataset_among_the_models_is_told_where_it_belongs(lock: Locker, hub: RunningHub, told: Told) -> None:
    for body, what in (
        ("models: [{repo_id: org/text}]", "a dataset among the models"),
        ("datasets: [{repo_id: org/llama}]", "a model among the datasets"),
    ):
        told("resolve", what, refused(lock, body), endpoint=hub.endpoint)


def test_an_unknown_revision_is_told_with_close_names(lock: Locker, told: Told) -> None:
    error = refused(lock, "models: [{repo_id: org/llama, revision: mian}]")
    told("resolve", "an unknown revision with a close name", error)
    error = refused(lock, "models: [{repo_id: org/llama, revision: release-7}]")
    assert error.hint is not None
    assert set(error.hint.removeprefix("its branches and tags: ").split(", ")) == {"main", "dev", "v1.0"}


def test_a_pinned_commit_that_is_gone_points_at_upgrade(lock: Locker, hub: RunningHub, told: Told) -> None:
    fresh = lock("models: [{repo_id: org/llama}]").lock
    previous = fresh.with_repos((replace(fresh.repos[0], commit="0" * 40),))
    error = refused(lock, "models: [{repo_id: org/llama}]", previous=previous)
    told("resolve", "a pinned commit that is gone", error, commit="0" * 40, endpoint=hub.endpoint)


def test_a_gated_repository_says_where_to_ask_and_how_to_log_in(lock: Locker, hub: RunningHub, told: Told) -> None:
    error = refused(lock, "models: [{repo_id: org/gated}]")
    told("resolve", "a gated repository without a token", error, endpoint=hub.endpoint)


def test_a_gated_repository_opens_to_a_token_on_its_list(
    lock: Locker, hub: RunningHub, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert lock("models: [{repo_id: org/gated}]").lock.repos[0].repo_id == "org/gated"
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    error = refused(lock, "models: [{repo_id: org/gated}]")
    told("resolve", "a gated repository with the token of a stranger", error, endpoint=hub.endpoint)


def test_the_faults_of_all_entries_are_reported_together(lock: Locker, hub: RunningHub, told: Told) -> None:
    error = refused(
        lock,
        "models: [{repo_id: org/lama}, {repo_id: org/llama, allow_patterns: [nope]}, "
        "{repo_id: org/llama, revision: x}]",
    )
    keys = [line.strip().partition(":")[0] for line in error.message.splitlines() if "models[" in line]
    assert keys == ["models[0]", "models[1].allow_patterns[0]", "models[2]"]
    told("resolve", "faults of three entries", error, endpoint=hub.endpoint)


def test_a_rate_limit_is_waited_out_and_announced(lock: Locker, hub: RunningHub) -> None:
    notes: list[str] = []
    hub.fault("rate_limit", "/revision/main", times=2, retry_after="0")
    assert lock("models: [{repo_id: org/llama}]", notes=notes).lock.repos
    assert notes == [f"{hub.endpoint} is limiting the rate of requests; waiting 0 s"] * 2


def test_a_rate_limit_beyond_patience_is_an_error(lock: Locker, hub: RunningHub, told: Told) -> None:
    hub.fault("rate_limit", "/revision/main", times=None, retry_after="86400")
    error = refused(lock, "models: [{repo_id: org/llama}]")
    told("resolve", "a rate limit beyond patience", error, endpoint=hub.endpoint)


def test_a_server_that_stumbles_once_is_asked_again(lock: Locker, hub: RunningHub) -> None:
    hub.fault("status", "/revision/main", status=503)
    assert lock("models: [{repo_id: org/llama}]").lock.repos
    assert [r.status for r in hub.asked("GET", "/revision/main")] == [503, 200]


def test_a_server_that_does_not_answer_is_given_up_within_the_time_limit(
    lock: Locker, hub: RunningHub, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.fault("hang", "/tree/" + HubClient(endpoint=hub.endpoint).revision("org/llama", "model", "main").commit)
    error = refused(lock, "models: [{repo_id: org/llama}]", NetworkError)
    assert error.exit_code == 4
    told("resolve", "a server that does not answer", error, host=hub.endpoint.removeprefix("http://"))


def test_offline_mode_is_an_error_that_names_the_variable(
    lock: Locker, hub: RunningHub, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = refused(lock, "models: [{repo_id: org/llama}]", NetworkError)
    assert error.exit_code == 4
    told("resolve", "offline mode", error)
    assert hub.requests == []


def test_the_token_stays_with_the_endpoint_when_a_listing_links_elsewhere() -> None:
    seen: list[str] = []

    async def app(scope: dict, receive: object, send: Callable) -> None:  # type: ignore[type-arg]
        query = scope["query_string"].decode()
        seen.append(query)
        row = {"type": "file", "path": f"{len(seen)}.json", "size": 1, "oid": "a" * 40}
        link = [(b"link", b'<https://elsewhere.invalid/api/x?cursor=2&recursive=true>; rel="next"')]
        headers = [(b"content-type", b"application/json"), *(link if len(seen) == 1 else [])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps([row]).encode()})

    with RunningHub(app) as hub:
        files = HubClient(endpoint=hub.endpoint, token="hf_x").files("org/llama", "model", "a" * 40)
    assert [file.path for file in files] == ["1.json", "2.json"]
    assert seen == ["recursive=true&expand=false", "cursor=2&recursive=true"]


@pytest.mark.parametrize(
    "row",
    [
        {"type": "file", "path": "../x", "size": 1, "oid": "a" * 40},
        {"type": "file", "path": "/x", "size": 1, "oid": "a" * 40},
        {"type": "file", "path": "x", "size": -1, "oid": "a" * 40},
        {"type": "file", "path": "x", "size": 1, "oid": "../../etc"},
        {"type": "file", "path": "x", "size": 1, "oid": "a" * 40, "lfs": {"oid": "../x"}},
        {"type": "file", "path": "x"},
    ],
)
def test_a_hostile_listing_is_refused(row: dict[str, object], told: Told) -> None:
    async def app(scope: object, receive: object, send: Callable) -> None:  # type: ignore[type-arg]
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps([row]).encode()})

    with RunningHub(app) as hub, pytest.raises(HubError) as caught:
        endpoint = hub.endpoint
        HubClient(endpoint=endpoint).files("org/llama", "model", "a" * 40)
    assert (type(caught.value), caught.value.exit_code) == (HubError, 5)
    told("resolve", f"the Hub lists {json.dumps(row)}", caught.value, endpoint=endpoint)


def _listed(*paths: str) -> Callable:  # type: ignore[type-arg]
    """Return a Hub with one repo, of empty files with these names."""

    async def app(scope: dict[str, str], receive: object, send: Callable) -> None:  # type: ignore[type-arg]
        rows = [{"type": "file", "path": path, "size": 2, "oid": "a" * 40} for path in paths]
        answer = rows if "/tree/" in scope["path"] else {"id": "org/odd", "sha": "b" * 40}
        body = b"{}" if "/resolve/" in scope["path"] else json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


ODD = ["notes\\old.safetensors", "a\nb.safetensors", "n" * 300 + ".safetensors", "\ud800.safetensors"]


@pytest.mark.parametrize("odd", ODD)
def test_a_name_that_no_bundle_can_hold_blocks_only_who_wants_that_file(odd: str, told: Told) -> None:
    with RunningHub(_listed("config.json", "model.safetensors", odd)) as hub:

        def lock(keys: str) -> list[str]:
            manifest = Manifest.parse(f"version: 1\nname: odd\nmodels: [{{repo_id: org/odd{keys}}}]\n")
            found = resolve(manifest, HubClient(endpoint=hub.endpoint)).lock
            return [file.path for file in found.repos[0].files]

        assert lock(", allow_patterns: [config.json, 'model.*']") == ["config.json", "model.safetensors"]
        with pytest.raises(ManifestError) as caught:
            lock("")
        told("resolve", f"a file with a name that no bundle can hold {ODD.index(odd)}", caught.value)
        pattern = caught.value.message.partition("ignore_patterns: ")[2]
        assert lock(f", ignore_patterns: {pattern}") == ["config.json", "model.safetensors"]


def test_a_page_that_is_no_hub_is_told_so(told: Told) -> None:
    async def app(scope: object, receive: object, send: Callable) -> None:  # type: ignore[type-arg]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<html>Please log in</html>"})

    with RunningHub(app) as hub, pytest.raises(HubError) as caught:
        endpoint = hub.endpoint
        HubClient(endpoint=endpoint).revision("org/llama", "model", "main")
    assert (type(caught.value), caught.value.exit_code) == (HubError, 5)
    told("resolve", "a page that is no Hub", caught.value, endpoint=endpoint)
