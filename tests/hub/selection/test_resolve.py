"""Manifest to lock against a real Hub on loopback: what is locked, and how each refusal is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from bundler.errors import BundleError, HubError, ManifestError, NetworkError
from bundler.files.digest import git_blob_sha1, sha256_bytes
from bundler.hub.connection.client import HubClient
from bundler.hub.selection.resolve import Resolution, resolve
from bundler.plan.lock import Lock, LockedFile, LockedRepo, PreparedFile
from bundler.plan.manifest import Manifest
from tests.support.hub import RunningHub
from tests.support.messages import Told
from tests.support.process import run_python

CONFIG = b'{"model_type": "llama"}'
WEIGHTS = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"
CARD = b"---\nlicense: mit\n---\n"

HUB_YAML = """\
version: 1
renames:
  old-llama: org/llama
  datasets/old-text: datasets/org/text
gated:
  org/gated: [hf_reader]
tags:
  org/llama: {v1.0: main}
branches:
  org/llama: {dev: _branches/dev}
"""


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repos")
    llama = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "tokenizer.json": b"{}", "README.md": CARD}
    write(root / "org/llama", llama)
    write(root / "_branches/dev", {**llama, "config.json": b'{"model_type": "llama", "dev": true}'})
    write(root / "org/gated", llama)
    write(
        root / "datasets/org/text", {"README.md": CARD, "train.jsonl": b'{"text": "a"}\n', "test.jsonl": b"{}\n"}
    )
    auto_map = {"auto_map": {"AutoConfig": "configuration_x.XConfig", "AutoModel": "org/other--modeling_x.XModel"}}
    write(
        root / "org/custom", {**llama, "config.json": json.dumps(auto_map).encode(), "configuration_x.py": b"pass"}
    )
    for name, base in {"adapter": "org/llama", "old-adapter": "llama", "lost-adapter": "org/gone"}.items():
        adapter = {"adapter_config.json": json.dumps({"base_model_name_or_path": base}).encode()}
        write(root / f"org/{name}", {**adapter, "adapter_model.safetensors": WEIGHTS})
    (root / "hub.yaml").write_text(HUB_YAML)
    return root


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[RunningHub]:
    # Pages of two: every listing here is longer than one page.
    with RunningHub(folder, page_size=2) as hub:
        yield hub


@pytest.fixture
def hub(running: RunningHub) -> Iterator[RunningHub]:
    running.clear()
    yield running
    running.release()


Locker = Callable[..., Resolution]


@pytest.fixture
def lock(hub: RunningHub) -> Locker:
    """Resolve the text below the head of a manifest."""

    def run(
        body: str, *, notes: list[str] | None = None, previous: Lock | None = None, upgrade: bool = False
    ) -> Resolution:
        client = HubClient(endpoint=hub.endpoint, on_note=(notes if notes is not None else []).append)
        manifest = Manifest.parse(f"version: 1\nname: demo\n{body}")
        return resolve(manifest, client, previous=previous, upgrade=upgrade)

    return run


def refused(lock: Locker, body: str, kind: type[BundleError] = HubError, **options: object) -> BundleError:
    with pytest.raises(kind) as caught:
        lock(body, **options)
    return caught.value


def test_a_model_is_locked_with_commit_sizes_and_published_hashes(lock: Locker, hub: RunningHub) -> None:
    resolution = lock("models: [{repo_id: org/llama}]")
    (repo,) = resolution.lock.repos
    commit = HubClient(endpoint=hub.endpoint).revision("org/llama", "model", "main").commit
    assert replace(repo, absent=()) == LockedRepo(
        kind="model",
        repo_id="org/llama",
        revision="main",
        commit=commit,
        files=(
            LockedFile(path="README.md", size_bytes=len(CARD), blob_id=git_blob_sha1(CARD)),
            LockedFile(path="config.json", size_bytes=len(CONFIG), blob_id=git_blob_sha1(CONFIG)),
            LockedFile(
                path="model.safetensors",
                size_bytes=len(WEIGHTS),
                blob_id=repo.files[2].blob_id,
                lfs_sha256=sha256_bytes(WEIGHTS),
            ),
            LockedFile(path="tokenizer.json", size_bytes=2, blob_id=git_blob_sha1(b"{}")),
        ),
    )
    assert {"generation_config.json", "model.safetensors.index.json", "chat_template.jinja"} <= set(repo.absent)
    assert resolution.warnings == ()
    assert Lock.loads(resolution.lock.dumps()) == resolution.lock


def test_locking_twice_gives_the_same_bytes_whatever_the_order_of_answers(lock: Locker) -> None:
    body = """
tokenizers: [{repo_id: org/llama}]
models: [{repo_id: org/llama, revision: dev}]
datasets: [{repo_id: org/text}]
"""
    first, second = lock(body).lock, lock(body).lock
    assert first.dumps() == second.dumps()
    assert [repo.kind for repo in first.repos] == ["tokenizer", "model", "dataset"]


def test_branch_tag_and_commit_are_revisions(lock: Locker) -> None:
    main = lock("models: [{repo_id: org/llama}]").lock.repos[0].commit
    tag, dev, full = lock(
        f"models: [{{repo_id: org/llama, revision: v1.0}}, {{repo_id: org/llama, revision: dev}}, "
        f"{{repo_id: org/llama, revision: {main}}}]"
    ).lock.repos
    assert (tag.commit, full.commit) == (main, main)
    assert dev.commit != main


def test_a_renamed_repository_is_locked_under_its_present_name_with_the_asked_one_as_alias(lock: Locker) -> None:
    model, dataset = lock(
        "models: [{repo_id: old-llama, aliases: [x/llama]}]\ndatasets: [{repo_id: old-text}]"
    ).lock.repos
    assert (model.repo_id, model.aliases) == ("org/llama", ("old-llama", "x/llama"))
    assert (dataset.repo_id, dataset.aliases) == ("org/text", ("old-text",))


def test_an_alias_that_is_the_present_name_of_another_repository_is_refused(lock: Locker, told: Told) -> None:
    error = refused(
        lock, "models: [{repo_id: old-llama}, {repo_id: org/custom, aliases: [org/llama]}]", ManifestError
    )
    assert error.exit_code == 3
    told("resolve", "an alias that is the present name of another repository", error)


def test_entries_that_share_a_repository_ask_for_it_once(lock: Locker, hub: RunningHub) -> None:
    tokenizer, model = lock("tokenizers: [{repo_id: org/llama}]\nmodels: [{repo_id: org/llama}]").lock.repos
    assert tokenizer.commit == model.commit
    assert len(hub.asked("GET", "/api/models/org/llama/revision/main")) == 1


def test_a_dataset_keeps_the_configurations_that_were_named(lock: Locker) -> None:
    (repo,) = lock("datasets: [{repo_id: org/text, configs: [b, a], allow_patterns: [train*]}]").lock.repos
    assert repo.configs == ("a", "b")
    assert [file.path for file in repo.files] == ["README.md", "train.jsonl"]


def test_a_dataset_keeps_the_choices_of_files_that_were_named(lock: Locker) -> None:
    text = "datasets: [{repo_id: org/text, data_files: [train.jsonl, {x: test.jsonl}]}]"
    found = lock(text).lock
    assert found.repos[0].data_files == ('"train.jsonl"', '{"x": "test.jsonl"}')
    assert Lock.loads(found.dumps()) == found
    assert "data_files" not in lock("datasets: [{repo_id: org/text}]").lock.dumps()


def test_remote_code_left_out_and_code_of_other_repositories_are_pointed_out(lock: Locker, told: Told) -> None:
    left_out = lock("models: [{repo_id: org/custom}]")
    assert "configuration_x.py" not in [file.path for file in left_out.lock.repos[0].files]
    own, other = left_out.warnings
    told("resolve", "remote code that is left out", own)
    told("resolve", "remote code of another repository, where its own is left out", other)
    trusted = lock("models: [{repo_id: org/custom, trust_remote_code: true}]")
    assert "configuration_x.py" in [file.path for file in trusted.lock.repos[0].files]
    (only,) = trusted.warnings
    told("resolve", "remote code of another repository", only)


def test_an_adapter_s_base_model_that_the_manifest_lacks_is_named_with_what_to_write(
    lock: Locker, told: Told
) -> None:
    found = lock("models: [{repo_id: org/adapter}, {repo_id: org/lost-adapter}]").warnings
    assert [warning.partition(":")[0] for warning in found] == [
        "models[0] (org/adapter)",
        "models[1] (org/lost-adapter)",
    ]
    told("resolve", "adapters whose base models the manifest lacks", "\n".join(found))
    (alias,) = lock("models: [{repo_id: org/old-adapter}, {repo_id: org/llama}]").warnings
    told("resolve", "an adapter whose base model has another name in the manifest", alias)


def test_an_adapter_whose_base_model_is_in_the_manifest_by_any_name_is_no_worry(lock: Locker) -> None:
    assert lock("models: [{repo_id: org/adapter}, {repo_id: old-llama}]").warnings == ()
    assert lock("models: [{repo_id: org/old-adapter}, {repo_id: org/llama, aliases: [llama]}]").warnings == ()
    # A tokenizer entry has no weights to put an adapter on.
    assert lock("models: [{repo_id: org/adapter}]\ntokenizers: [{repo_id: org/llama}]").warnings != ()


def test_pinned_commits_stay_until_upgraded_and_known_digests_stay_with_their_files(lock: Locker) -> None:
    fresh = lock("models: [{repo_id: org/llama}]").lock
    dev = lock("models: [{repo_id: org/llama, revision: dev}]").lock.repos[0].commit
    known = tuple(
        replace(file, sha256=file.lfs_sha256 or "1" * 64, blake3="2" * 64) for file in fresh.repos[0].files
    )
    # As if main had been at dev's commit when the lock was written.
    previous = fresh.with_repos((replace(fresh.repos[0], commit=dev, files=known),))

    kept = lock("models: [{repo_id: org/llama}]\ntokenizers: [{repo_id: org/llama}]", previous=previous).lock
    assert [repo.commit for repo in kept.repos] == [dev, dev], "one repository at one revision has one commit"
    by_path = {file.path: file for file in kept.repos[1].files}
    assert by_path["model.safetensors"] == known[2]
    assert by_path["config.json"].blake3 is None, "its content differs at that commit"

    upgraded = lock("models: [{repo_id: org/llama}]", previous=previous, upgrade=True).lock
    assert upgraded.repos[0].commit == fresh.repos[0].commit
    assert upgraded.is_complete


def test_the_prepared_form_of_a_dataset_stays_only_while_its_files_and_configurations_do(lock: Locker) -> None:
    fresh = lock("datasets: [{repo_id: org/text}]").lock
    prepared = (PreparedFile(path="default/x.arrow", size_bytes=1, sha256="1" * 64, blake3="2" * 64),)
    previous = fresh.with_repos((replace(fresh.repos[0], prepared=prepared),))
    assert lock("datasets: [{repo_id: org/text}]", previous=previous).lock.repos[0].prepared == prepared
    for change in ("configs: [a]", "ignore_patterns: [test.jsonl]"):
        changed = lock(f"datasets: [{{repo_id: org/text, {change}}}]", previous=previous).lock
        assert changed.repos[0].prepared == ()


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


def test_a_page_that_is_no_hub_is_told_so(told: Told) -> None:
    async def app(scope: object, receive: object, send: Callable) -> None:  # type: ignore[type-arg]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<html>Please log in</html>"})

    with RunningHub(app) as hub, pytest.raises(HubError) as caught:
        endpoint = hub.endpoint
        HubClient(endpoint=endpoint).revision("org/llama", "model", "main")
    assert (type(caught.value), caught.value.exit_code) == (HubError, 5)
    told("resolve", "a page that is no Hub", caught.value, endpoint=endpoint)


def test_what_the_libraries_read_and_probe_is_in_the_lock(demo_hub: RunningHub, tmp_path: Path) -> None:
    """The stock libraries load online; what they took and what they missed must be in the lock."""
    run_python(
        """
        from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer
        AutoTokenizer.from_pretrained("openai-community/gpt2")
        AutoConfig.from_pretrained("openai-community/gpt2")
        for cls in AutoTokenizer, AutoModel, AutoProcessor:
            cls.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
        """,
        env=demo_hub.environment(tmp_path / "hf"),
    )
    manifest = Manifest.parse(
        "version: 1\nname: x\ntokenizers: [{repo_id: openai-community/gpt2}]\n"
        "models: [{repo_id: sentence-transformers/all-MiniLM-L6-v2}]"
    )
    for repo in resolve(manifest, HubClient(endpoint=demo_hub.endpoint)).lock.repos:
        folder = tmp_path / "hf/hub" / f"models--{repo.repo_id.replace('/', '--')}"
        read = names_below(folder / "snapshots" / repo.commit)
        probed = names_below(folder / ".no_exist" / repo.commit)
        assert read and probed
        assert read <= {file.path for file in repo.files}
        assert probed <= set(repo.absent)


def names_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
