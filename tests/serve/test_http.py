"""The server's answers, byte by byte, to requests that are not tidied up by any client."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.serve.conftest import WEIGHTS, write_tree
from tests.support.hub import RunningHub

MODEL = "/org/model/resolve/main"


def test_a_file_is_sent_with_its_ids(hub: RunningHub) -> None:
    answer = hub.ask("GET", f"{MODEL}/config.json")
    commit = hub.ask("GET", "/api/models/org/model").json["sha"]
    assert (answer.status, answer.body) == (200, b'{"model_type": "gpt2"}')
    sha1 = hashlib.sha1(b"blob 22\0" + answer.body).hexdigest()
    assert answer.headers["etag"] == f'"{sha1}"'
    assert answer.headers["x-repo-commit"] == commit
    assert "x-linked-etag" not in answer.headers


def test_head_of_an_lfs_file_gives_its_sha256_and_size_without_a_body(hub: RunningHub) -> None:
    answer = hub.ask("HEAD", f"{MODEL}/model.safetensors")
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert (answer.status, answer.body) == (200, b"")
    assert {
        name: answer.headers[name] for name in ("etag", "x-linked-etag", "x-linked-size", "content-length")
    } == {
        "etag": f'"{sha256}"',
        "x-linked-etag": f'"{sha256}"',
        "x-linked-size": str(len(WEIGHTS)),
        "content-length": str(len(WEIGHTS)),
    }


def test_no_answer_speaks_of_xet(hub: RunningHub) -> None:
    for path in (f"{MODEL}/model.safetensors", "/api/models/org/model/tree/main?recursive=true"):
        answer = hub.ask("GET", path)
        assert not [name for name in answer.headers if "xet" in name]
        assert b"xetHash" not in answer.body


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-", 1000, None),
        ("bytes=-5", -5, None),
        ("bytes=1048000-99999999", 1048000, None),
    ],
)
def test_a_range_is_sent_as_partial_content(hub: RunningHub, asked: str, start: int, end: int | None) -> None:
    answer = hub.ask("GET", f"{MODEL}/model.safetensors", headers={"Range": asked})
    first, stop, _ = slice(start, end).indices(len(WEIGHTS))
    assert (answer.status, answer.body) == (206, WEIGHTS[first:stop])
    assert answer.headers["content-range"] == f"bytes {first}-{stop - 1}/{len(WEIGHTS)}"


@pytest.mark.parametrize("asked", ["bytes=1048576-", "bytes=99999999-", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(hub: RunningHub, asked: str) -> None:
    answer = hub.ask("GET", f"{MODEL}/model.safetensors", headers={"Range": asked})
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(WEIGHTS)}")


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=5-2", "bytes=-", "lines=1-2", "bytes=x-y"])
def test_a_range_that_is_not_understood_gets_the_whole_file(hub: RunningHub, asked: str) -> None:
    answer = hub.ask("GET", f"{MODEL}/config.json", headers={"Range": asked})
    assert (answer.status, len(answer.body)) == (200, 22)


def test_a_range_of_other_content_gets_the_whole_file(hub: RunningHub) -> None:
    answer = hub.ask("GET", f"{MODEL}/config.json", headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (answer.status, len(answer.body)) == (200, 22)


def test_content_that_the_client_has_is_not_sent_again(hub: RunningHub) -> None:
    etag = hub.ask("HEAD", f"{MODEL}/config.json").headers["etag"]
    answer = hub.ask("GET", f"{MODEL}/config.json", headers={"If-None-Match": f'"x", W/{etag}'})
    assert (answer.status, answer.body) == (304, b"")


def test_an_empty_file_is_sent(repos: Path) -> None:
    write_tree(repos, {"org/model/empty": b""})
    with RunningHub(repos) as hub:
        answer = hub.ask("GET", f"{MODEL}/empty")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/models/org/none", "RepoNotFound"),
        ("/api/models/none", "RepoNotFound"),
        ("/api/datasets/org/model", "RepoNotFound"),
        ("/org/none/resolve/main/config.json", "RepoNotFound"),
        ("/api/models/org/model/revision/none", "RevisionNotFound"),
        ("/api/models/org/model/tree/" + "0" * 40, "RevisionNotFound"),
        ("/org/model/resolve/none/config.json", "RevisionNotFound"),
        ("/org/model/resolve/main/none.json", "EntryNotFound"),
        ("/org/model/resolve/main/onnx", "EntryNotFound"),
        ("/api/models/org/model/tree/main/none", "EntryNotFound"),
        ("/api/models/org/model/tree/main/config.json", "EntryNotFound"),
    ],
)
def test_what_is_not_there_is_refused_in_the_hubs_words(hub: RunningHub, path: str, code: str) -> None:
    answer = hub.ask("GET", path)
    assert (answer.status, answer.headers["x-error-code"]) == (404, code)
    assert answer.json["error"] == answer.headers["x-error-message"]
    assert ("x-repo-commit" in answer.headers) == (code == "EntryNotFound")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/api/models/old-model", "/api/models/org/model"),
        (
            "/api/models/old-model/tree/feature%2Fdev?recursive=true",
            "/api/models/org/model/tree/feature%2Fdev?recursive=true",
        ),
        ("/old-model/resolve/main/onnx/config.json", "/org/model/resolve/main/onnx/config.json"),
        ("/datasets/old-corpus/resolve/main/train.jsonl", "/datasets/org/corpus/resolve/main/train.jsonl"),
    ],
)
def test_an_old_name_redirects_to_the_present_one(hub: RunningHub, old: str, new: str) -> None:
    answer = hub.ask("GET", old)
    assert (answer.status, answer.headers["location"]) == (307, new)


def test_the_files_of_a_gated_repo_need_a_granted_token(hub: RunningHub) -> None:
    path = "/org/secret/resolve/main/config.json"
    statuses = {}
    for token in (None, "hf_other", "hf_granted"):
        answer = hub.ask("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        statuses[token] = (answer.status, answer.headers.get("x-error-code"), answer.body == b'{"secret": true}')
    assert statuses == {
        None: (401, "GatedRepo", False),
        "hf_other": (403, "GatedRepo", False),
        "hf_granted": (200, None, True),
    }


def test_a_gated_repo_does_not_tell_which_files_exist(hub: RunningHub) -> None:
    assert hub.ask("HEAD", "/org/secret/resolve/main/none").status == 401
    assert hub.ask("HEAD", "/org/secret/resolve/none/none").status == 401


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/repos/create",
        f"{MODEL}/config.json",
        "/api/models/org/model/commit/main",
        "/api/models/org/model",
    ],
)
def test_writing_is_refused(hub: RunningHub, shared_repos: Path, method: str, path: str) -> None:
    before = {file: file.read_bytes() for file in shared_repos.rglob("*") if file.is_file()}
    answer = hub.ask(method, path, body=b"x" * 100)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert "read-only" in answer.json["error"]
    assert {file: file.read_bytes() for file in shared_repos.rglob("*") if file.is_file()} == before


def test_a_tree_is_listed_by_folders_or_whole(hub: RunningHub) -> None:
    def paths(query: str) -> list[tuple[str, str]]:
        return [(e["type"], e["path"]) for e in hub.ask("GET", f"/api/models/org/model/tree/{query}").json]

    assert paths("main/onnx") == [("file", "onnx/config.json"), ("directory", "onnx/fp16")]
    assert paths("main/onnx%2Ffp16") == paths("main/onnx/fp16") == [("file", "onnx/fp16/model.onnx")]
    assert paths("main/onnx?recursive=true") == [
        ("file", "onnx/config.json"),
        ("directory", "onnx/fp16"),
        ("file", "onnx/fp16/model.onnx"),
    ]
    assert paths("feature%2Fdev?recursive=true") == [("file", "config.json")]


def test_a_listing_is_cut_into_pages_that_link_on(repos: Path) -> None:
    with RunningHub(repos, page_size=3) as hub:
        url: str | None = "/api/models/org/model/tree/main?recursive=true&expand=false"
        sizes, paths = [], []
        while url:
            answer = hub.ask("GET", url)
            sizes.append(len(answer.json))
            paths += [entry["path"] for entry in answer.json]
            link = answer.headers.get("link")
            assert link is None or (link.startswith(f"<{hub.endpoint}/") and link.endswith('>; rel="next"'))
            following = urlsplit(link[1 : link.index(">")]) if link else None
            url = f"{following.path}?{following.query}" if following else None
    with RunningHub(repos) as hub:
        whole = hub.ask("GET", "/api/models/org/model/tree/main?recursive=true&expand=false")
    assert "link" not in whole.headers
    assert paths == [entry["path"] for entry in whole.json]
    assert sizes == [3, 3, 3]


def test_paths_info_takes_forms_and_json(hub: RunningHub) -> None:
    path = "/api/models/org/model/paths-info/main"
    form = hub.ask(
        "POST",
        path,
        body=b"paths=onnx&paths=none&paths=config.json&expand=False",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    as_json = hub.ask(
        "POST",
        path,
        body=b'{"paths": ["onnx", "none", "config.json"], "expand": false}',
        headers={"Content-Type": "application/json"},
    )
    assert form.json == as_json.json
    assert [(entry["type"], entry["path"]) for entry in form.json] == [
        ("directory", "onnx"),
        ("file", "config.json"),
    ]


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[1]", b"{", b"[" * 100_000])
def test_a_malformed_form_asks_for_nothing(hub: RunningHub, body: bytes) -> None:
    for content_type in ("application/json", "application/x-www-form-urlencoded"):
        answer = hub.ask(
            "POST", "/api/models/org/model/paths-info/main", body=body, headers={"Content-Type": content_type}
        )
        assert (answer.status, answer.json) == (200, [])


def test_repos_can_be_searched(hub: RunningHub) -> None:
    def ids(query: str) -> list[str]:
        return [repo["id"] for repo in hub.ask("GET", f"/api/{query}").json]

    assert ids("models") == ["legacy", "org/model", "org/secret"]
    assert ids("models?search=MOD") == ["org/model"]
    assert ids("models?author=org&limit=1") == ["org/model"]
    assert ids("datasets") == ["org/corpus", "squad"]


def test_what_clients_ask_by_the_way_gets_harmless_answers(hub: RunningHub) -> None:
    assert hub.ask("GET", "/api/agent-harnesses").json == {"harnesses": {}, "standardEnvVars": []}
    assert hub.ask("HEAD", "/api/telemetry/transformers/x").status == 204
    assert hub.ask("GET", "/api/models/org/model/discussions?p=0").json["discussions"] == []
    assert hub.ask("GET", "/api/models/org/model/commits/main").json[0]["authors"] == [{"user": "bundle"}]
    assert b"org/model" in hub.ask("GET", "/").body


TRAVERSALS = [
    "/org/model/resolve/main/../../../secret.txt",
    "/org/model/resolve/main/%2e%2e/%2e%2e/%2e%2e/secret.txt",
    "/org/model/resolve/main/..%2f..%2f..%2fsecret.txt",
    "/org/model/resolve/main/%2e%2e%2fsecret/config.json",
    "/org/model/resolve/main/%252e%252e/secret.txt",
    "/org/model/resolve/main/..%5c..%5csecret.txt",
    "/org/model/resolve/main//etc/passwd",
    "/org/model/resolve/main/%2fetc%2fpasswd",
    "/org/model/resolve/main/config.json%00.txt",
    "/org/model/resolve/..%2f..%2fmain/config.json",
    "/../../etc/passwd",
    "/..%2f/x/resolve/main/secret.txt",
    "/../repos/resolve/main/hub.yaml",
    "/%2e%2e/resolve/main/secret.txt",
    "/./org/resolve/main/model/config.json",
    "/org/resolve/main/model/config.json",
    "/_branches/model-dev/resolve/main/config.json",
    "/datasets/org/resolve/main/corpus/train.jsonl",
    "/legacy/onnx/resolve/main/model.onnx",
    "/datasets/corpus/resolve/main/train.jsonl",
    "/api/models/../models/org/secret/tree/main",
    "/api/models/org/model/tree/main/..%2fsecret",
    "/org/model/resolve/main/%ff%fe",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_address_leads_out_of_a_repo(hub: RunningHub, path: str) -> None:
    answer = hub.ask("GET", path)
    assert answer.status in (400, 404)
    assert not any(word in answer.body for word in (b"outside", b"root:", b'"secret": true', b'"text": "one"'))


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET http://example.org/org/model/resolve/main/../../secret.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET \\..\\..\\secret.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /org/model/resolve/main/../../../secret.txt HTTP/1.0\r\n\r\n",
    ],
)
def test_no_request_line_leads_out_of_a_repo(hub: RunningHub, request_text: bytes) -> None:
    host, port = hub.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request_text)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"outside" not in answer
    assert not answer or answer.split()[1] in (b"400", b"404")


def test_odd_characters_in_names_are_found_encoded(hub: RunningHub) -> None:
    answer = hub.ask("GET", f"{MODEL}/name%20with%20spaces+plus%2520.txt")
    assert (answer.status, answer.body) == (200, b"odd name")
