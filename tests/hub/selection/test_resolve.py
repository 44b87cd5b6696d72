"""Manifest to lock against a real Hub on loopback: what is locked, and what is pointed out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bundler.files.digest import git_blob_sha1, sha256_bytes
from bundler.hub.connection.client import HubClient
from bundler.hub.selection.resolve import resolve
from bundler.plan.lock import Card, Lock, LockedFile, LockedRepo, PreparedFile
from bundler.plan.manifest import Manifest
from tests.hub.selection.conftest import CARD, CONFIG, WEIGHTS, Locker
from tests.support.hub import RunningHub
from tests.support.messages import Told
from tests.support.process import run_python


def test_a_model_is_locked_with_commit_sizes_and_published_hashes(lock: Locker, hub: RunningHub) -> None:
    resolution = lock("models: [{repo_id: org/llama}]")
    (repo,) = resolution.lock.repos
    commit = HubClient(endpoint=hub.endpoint).revision("org/llama", "model", "main").commit
    assert replace(repo, absent=()) == LockedRepo(
        kind="model",
        repo_id="org/llama",
        revision="main",
        commit=commit,
        card=Card(licenses=("mit",)),
        endpoint=hub.endpoint,
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


def test_what_is_there_by_one_commit_only_is_found_without_a_revision_too(lock: Locker) -> None:
    main = lock("models: [{repo_id: org/llama}]").lock.repos[0].commit
    dev = lock("models: [{repo_id: org/llama, revision: dev}]").lock.repos[0].commit
    pinned = f"{{repo_id: org/llama, revision: {main}}}"
    found = lock(f"tokenizers: [{pinned}]\nmodels: [{pinned}]\ndatasets: [{{repo_id: org/text}}]").lock
    assert [repo.refs for repo in found.repos] == [("main",), ("main",), ()]
    assert Lock.loads(found.dumps()) == found
    # By another name of the repository, too: what counts is the repository.
    assert lock(f"models: [{{repo_id: old-llama, revision: {dev}}}]").lock.repos[0].refs == ("main",)
    for other in ("revision: main", "revision: v1.0", f"revision: {dev}"):
        text = f"models: [{pinned}, {{repo_id: org/llama, {other}}}]"
        assert [repo.refs for repo in lock(text).lock.repos] == [(), ()], other
    assert '"refs"' not in lock("models: [{repo_id: org/llama}]").lock.dumps()


def test_a_renamed_repository_is_locked_under_its_present_name_with_the_asked_one_as_alias(lock: Locker) -> None:
    model, dataset = lock(
        "models: [{repo_id: old-llama, aliases: [x/llama]}]\ndatasets: [{repo_id: old-text}]"
    ).lock.repos
    assert (model.repo_id, model.aliases) == ("org/llama", ("old-llama", "x/llama"))
    assert (dataset.repo_id, dataset.aliases) == ("org/text", ("old-text",))


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


def test_remote_code_left_out_and_code_of_other_repositories_are_pointed_out(
    lock: Locker, hub: RunningHub, told: Told
) -> None:
    left_out = lock("models: [{repo_id: org/custom}]")
    assert "configuration_x.py" not in [file.path for file in left_out.lock.repos[0].files]
    own, other = left_out.warnings
    told("resolve", "remote code that is left out", own)
    told("resolve", "remote code of another repository, where its own is left out", other)
    trusted = lock("models: [{repo_id: org/custom, trust_remote_code: true}]")
    assert "configuration_x.py" in [file.path for file in trusted.lock.repos[0].files]
    (only,) = trusted.warnings
    told("resolve", "remote code of another repository", only.replace(hub.endpoint, "{endpoint}"))


def test_code_of_another_repository_comes_with_the_entry_that_trusts_it(lock: Locker, told: Told) -> None:
    found = lock("models: [{repo_id: org/st, trust_remote_code: true}]\ndatasets: [{repo_id: org/text}]")
    *_, code = found.lock.repos
    assert [repo.repo_id for repo in found.lock.repos] == ["org/st", "org/text", "org/st-code"]
    assert [file.path for file in code.files] == ["custom_st.py"] and code.trust_remote_code and code.has_only_code
    assert found.warnings == () and Lock.loads(found.lock.dumps()) == found.lock
    (note,) = found.notes
    told("resolve", "code of another repository that comes along", note.replace(code.commit, "{commit}"))
    again = lock("models: [{repo_id: org/st, trust_remote_code: true}]", previous=found.lock)
    assert again.lock.repos[-1] == code


@pytest.mark.parametrize(
    "manifest",
    [
        "models: [{repo_id: org/st}]",
        "models: [{repo_id: org/st, trust_remote_code: true}, {repo_id: org/st-code, ignore_patterns: ['*.py']}]",
    ],
)
def test_code_of_another_repository_is_not_taken_without_trust_or_past_its_own_entry(
    lock: Locker, manifest: str
) -> None:
    found = lock(manifest)
    assert not [file for repo in found.lock.repos for file in repo.files if file.path.endswith(".py")]
    assert "modules.json names code of another repository, org/st-code" in found.warnings[0]


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


@pytest.mark.slow
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
