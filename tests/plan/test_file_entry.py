"""`files:` of a manifest: where each goes, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import jsonschema
import pytest
import yaml

from bundler.errors import LockError
from bundler.plan.file_entry import FileEntry
from bundler.plan.file_rules import Into, file_name
from bundler.plan.git_objects import commit_id
from bundler.plan.lock import Lock, LockedRepo, Origin
from bundler.plan.lockfile import list_differences
from bundler.plan.manifest import InvalidManifestError, Manifest, manifest_schema
from bundler.plan.names import is_repo_id
from tests.support.bundles import locked_file

HEAD = "version: 1\nname: demo\n"
TIKTOKEN = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
VISION = "https://github.com/pytorch/vision/zipball/v0.10.0"


def parse(lines: str) -> FileEntry:
    [entry] = Manifest.parse(f"{HEAD}files: [{{{lines}}}]").files
    return entry


@pytest.mark.parametrize(
    ("lines", "destination"),
    [
        # The name that tiktoken's own cache has for it.
        (f"url: '{TIKTOKEN}', into: tiktoken", "tiktoken/9b5ad71b2ce5302211f9c61530b329a4922fc6a4"),
        (
            "url: 'https://download.pytorch.org/models/a-0123abcd.pth?x=1', into: torch_hub",
            "torch/hub/checkpoints/a-0123abcd.pth",
        ),
        ("url: 'https://a.example/x', into: torch_hub, path: b.pth", "torch/hub/checkpoints/b.pth"),
        (f"url: '{VISION}', into: torch_hub", "torch/hub/pytorch_vision_v0.10.0"),
        ("url: 'https://github.com/a/b/archive/refs/heads/dev/x.zip', into: torch_hub", "torch/hub/a_b_dev_x"),
        ("url: 'https://codeload.github.com/a/b/zip/refs/tags/v1', into: torch_hub", "torch/hub/a_b_v1"),
        ("url: 'https://a.example/z', into: torch_hub, repo: 'a/b:main'", "torch/hub/a_b_main"),
        (
            "url: 'https://raw.example/nltk_data/gh-pages/packages/tokenizers/punkt_tab.zip', into: nltk_data",
            "nltk_data/tokenizers/punkt_tab.zip",
        ),
        ("url: 'https://a.example/x.zip', into: nltk_data, path: corpora/x.zip", "nltk_data/corpora/x.zip"),
        ("url: 'https://a.example/d/words.txt'", "files/words.txt"),
        ("url: 'https://a.example/', path: a/b.txt", "files/a/b.txt"),
    ],
)
def test_it_goes_where_its_library_looks(lines: str, destination: str) -> None:
    entry = parse(lines)
    assert entry.destination == destination
    assert is_repo_id(entry.name)


@pytest.mark.parametrize(
    ("lines", "key", "expected"),
    [
        ("url: 'http://a.example/x'", "url", "write https, or sha256"),
        ("url: 'ftp://a.example/x'", "url", "expected an address"),
        ("url: 'https://user:secret@a.example/x'", "url", "would stand in the lock"),
        ("url: 'https://a.example/x#y'", "url", "fragment"),
        ("url: '/etc/passwd'", "url", "expected an address"),
        ("url: 'https://a.example/x', path: ../y", "path", "'..'"),
        ("url: 'https://a.example/x', path: /y", "path", "absolute"),
        ("url: 'https://a.example/'", "path", "missing"),
        ("url: 'https://a.example/..'", "path", "missing"),
        ("url: 'https://a.example/x.zip', into: nltk_data", "path", "corpora/stopwords.zip"),
        ("url: 'https://a.example/x', into: tiktoken, path: y", "path", "has no meaning here"),
        ("url: 'https://a.example/x', repo: 'a/b:c'", "repo", "is for into: torch_hub"),
        ("url: 'https://a.example/x', into: torch_hub, repo: a/b", "repo", "owner/name:ref"),
        ("url: 'https://a.example/x', into: torch_hub, repo: 'a/b:../c'", "repo", "owner/name:ref"),
        ("url: 'https://a.example/x', into: timm", "into", "expected one of tiktoken, torch_hub"),
        ("url: 'https://a.example/x', sha256: abc", "sha256", "64 lower-case hex digits"),
        ("into: tiktoken", "url", "missing; write url"),
    ],
)
def test_a_fault_says_what_to_write(lines: str, key: str, expected: str) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        parse(lines)
    [fault] = caught.value.faults
    assert fault.path == f"files[0].{key}"
    assert expected in fault.message


def test_two_files_for_one_place_are_refused() -> None:
    with pytest.raises(InvalidManifestError) as caught:
        Manifest.parse(f"{HEAD}files: [{{url: 'https://a.example/x'}}, {{url: 'https://b.example/x'}}]")
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        ("files[1].url", "goes to the same place as files[0]: files/x")
    ]


def test_http_is_taken_of_this_machine_and_where_the_hash_is_known() -> None:
    assert parse("url: 'http://127.0.0.1:8000/x'").destination == "files/x"
    assert parse(f"url: 'http://a.example/x', sha256: {'f' * 64}").destination == "files/x"


def test_the_schema_takes_what_is_taken() -> None:
    import json

    schema = json.loads(manifest_schema())
    for text in (
        f"files: [{{url: '{TIKTOKEN}', into: tiktoken}}]",
        f"files: [{{url: '{VISION}', repo: 'a/b:c', into: torch_hub}}]",
    ):
        jsonschema.validate(yaml.safe_load(HEAD + text), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(f"{HEAD}files: [{{url: 'ftp://a.example/x'}}]"), schema)


def test_the_digest_depends_on_files_only_where_there_are_some() -> None:
    models = f"{HEAD}models: [{{repo_id: a/b}}]\n"
    plain = Manifest.parse(models).digest()
    assert Manifest.parse(f"{models}files: []").digest() == plain
    one = Manifest.parse(f"{models}files: [{{url: '{TIKTOKEN}', into: tiktoken}}]").digest()
    other = Manifest.parse(f"{models}files: [{{url: '{TIKTOKEN}'}}]").digest()
    assert len({plain, one, other}) == 3


def locked(url: str = TIKTOKEN, into: Into = "tiktoken", path: str = "tiktoken/x") -> LockedRepo:
    file = locked_file(path, b"content", lfs=True)
    assert file.sha256
    return LockedRepo(
        kind="file",
        repo_id=file_name(url, into),
        revision="main",
        commit=commit_id({path: file.blob_id}),
        origin=Origin(url=url, into=into, size_bytes=7, sha256=file.sha256, unpacked=False),
        files=(file,),
    )


def lock_of(repo: LockedRepo) -> Lock:
    return Lock(name="demo", manifest_sha256="0" * 64, repos=(repo,))


def test_a_lock_with_files_is_read_as_it_was_written() -> None:
    lock = lock_of(locked())
    assert lock.version == 2
    assert Lock.loads(lock.dumps()) == lock


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"repo_id": "a.example/other-0123456789ab"}, "repos[0].repo_id"),
        ({"commit": "0" * 40}, "repos[0].commit"),
        ({"origin": None}, "repos[0].origin"),
        ({"kind": "model"}, "repos[0].origin"),
        ({"aliases": ("a/b",)}, "repos[0].aliases"),
    ],
)
def test_a_lock_that_claims_something_else_is_refused(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(LockError, match=fault.replace("[", r"\[")):
        Lock.loads(lock_of(replace(locked(), **changes)).dumps())  # type: ignore[arg-type]


def test_files_of_a_library_stay_in_its_folder() -> None:
    with pytest.raises(LockError, match="expected paths below tiktoken/"):
        Lock.loads(lock_of(locked(path="torch/hub/checkpoints/x.pth")).dumps())


def test_a_lock_is_compared_with_the_files_of_its_manifest() -> None:
    lock = lock_of(locked())
    same = Manifest.parse(f"{HEAD}files: [{{url: '{TIKTOKEN}', into: tiktoken}}]")
    fitting = replace(lock, manifest_sha256=same.digest())
    assert list_differences(fitting, same) == []
    pinned = Manifest.parse(f"{HEAD}files: [{{url: '{TIKTOKEN}', into: tiktoken, sha256: {'f' * 64}}}]")
    assert "in the lock another" in list_differences(fitting, pinned)[0]
    other = Manifest.parse(f"{HEAD}files: [{{url: '{TIKTOKEN}x', into: tiktoken}}]")
    assert [line.partition(":")[0] for line in list_differences(fitting, other)] == [
        f"files[0] ({TIKTOKEN}x)".partition(":")[0],
        f"file {locked().repo_id} at main",
    ]
