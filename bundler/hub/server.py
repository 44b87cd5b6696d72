"""The Hub over HTTP, read-only: what the stock huggingface_hub client asks, answered from a `Source`.

    GET  /api/{models,datasets}                                 search
    GET  /api/{models,datasets}/ID[/revision/REV]               repo info
    GET  /api/{models,datasets}/ID/tree/REV[/FOLDER]            files, by pages
    POST /api/{models,datasets}/ID/paths-info/REV               some files
    GET  /api/{models,datasets}/ID/{refs,commits/REV,discussions,auth-check}
    GET  /[datasets/]ID/resolve/REV/FILE                        a file; also HEAD, ranges
    GET  /api/agent-harnesses, HEAD /api/telemetry/...          harmless answers

Rule book:

* addresses are split at their raw slashes and decoded piece by piece: a branch or folder arrives as one piece with
  its slashes encoded;
* a request for an old name is redirected, with a relative 307, to the present one;
* as on the Hub, the listing of a gated repo is public and its files are not;
* no header speaks of Xet, so that clients use plain HTTP;
* nothing can be changed: other methods get 405 and an explanation.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import parse_qs, quote, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bundler.hub import responses
from bundler.hub.git_objects import COMMIT_DATE, COMMIT_TITLE, lfs_pointer
from bundler.hub.source import (
    DEFAULT_BRANCH,
    ContentChangedError,
    RepoKey,
    ServedFile,
    Snapshot,
    Source,
    UnknownFileError,
    UnknownRepoError,
    UnknownRevisionError,
)
from bundler.lock import RepoType

PAGE_SIZE = 1000
# The Hub's own limit where each entry brings its last commit along.
EXPANDED_PAGE_SIZE = 50
MAX_FORM_BYTES = 16 << 20

_API_VERBS = frozenset(
    {"revision", "tree", "paths-info", "refs", "commits", "discussions", "auth-check", "resolve"}
)
_REPO_TYPES: dict[str, RepoType] = {f"{repo_type}s": repo_type for repo_type in get_args(RepoType)}


def create_app(source: Source, *, page_size: int = PAGE_SIZE) -> Starlette:
    """Return the ASGI application that serves `source`.

    Args:
        source: Where repos come from.
        page_size: Most entries in one page of a listing.
    """
    return Starlette(routes=[Route("/{address:path}", _Hub(source, page_size))])


@dataclass(frozen=True)
class _Address:
    """A request's target in a repo.

    Attributes:
        key: The repo as the client named it.
        prefix: What stands before the repo's id, for redirects.
        verb: What is asked of the repo; "" for its info.
        arguments: Decoded pieces after the verb.
        raw_tail: Everything after the repo's id as it was sent, from its slash on.
    """

    key: RepoKey
    prefix: str
    verb: str
    arguments: tuple[str, ...]
    raw_tail: str

    @classmethod
    def split(cls, repo_type: RepoType, prefix: str, pieces: list[str], verbs: frozenset[str]) -> _Address | None:
        """Find where the repo's id ends: it has two pieces, unless the second is a verb."""
        count = 1 if len(pieces) < 2 or pieces[1] in verbs else 2
        repo_id = "/".join(unquote(piece) for piece in pieces[:count])
        tail = pieces[count:]
        if not repo_id or (tail and tail[0] not in verbs):
            return None
        return cls(
            key=RepoKey(repo_type, repo_id),
            prefix=prefix,
            verb=tail[0] if tail else "",
            arguments=tuple(unquote(piece) for piece in tail[1:]),
            raw_tail="".join(f"/{piece}" for piece in tail),
        )


class _Hub:
    """The application behind every address."""

    def __init__(self, source: Source, page_size: int) -> None:
        self._source = source
        self._page_size = page_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        # The sources block on disks, and hash: never in the event loop.
        body = await _form_body(request) if request.method == "POST" else b""
        response = await run_in_threadpool(self._answer, request, body)
        await response(scope, receive, send)

    def _answer(self, request: Request, body: bytes | None) -> Response:
        raw_path = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
        pieces = raw_path.decode("ascii", "replace").lstrip("/").split("/")
        is_question = request.method == "POST" and "paths-info" in pieces
        if request.method not in ("GET", "HEAD") and not is_question:
            return responses.error_response(
                405,
                f"This Hub is read-only: {request.method} is refused. It serves downloads only.",
                headers={"Allow": "GET, HEAD"},
            )
        if body is None:
            return responses.error_response(413, f"The form is larger than {MAX_FORM_BYTES} bytes")
        match pieces:
            case [""]:
                return self._index()
            case ["api", "agent-harnesses"]:
                # huggingface_hub asks which coding agents there are, to name them in its user agent.
                return JSONResponse({"harnesses": {}, "standardEnvVars": []})
            case ["api", "telemetry", *_]:
                return Response(status_code=204)
            case ["api", plural] if plural in _REPO_TYPES:
                return self._search(request, _REPO_TYPES[plural])
            case ["api", plural, *rest] if plural in _REPO_TYPES:
                address = _Address.split(_REPO_TYPES[plural], f"/api/{plural}/", rest, _API_VERBS)
            case ["api", *_]:
                address = None
            case ["datasets", *rest]:
                address = _Address.split("dataset", "/datasets/", rest, frozenset({"resolve"}))
            case rest:
                address = _Address.split("model", "/", rest, frozenset({"resolve"}))
        if address is None or (not address.prefix.startswith("/api/") and address.verb != "resolve"):
            return responses.error_response(404, "This read-only Hub has nothing at this address")
        return self._repo(request, address, body)

    def _repo(self, request: Request, address: _Address, body: bytes) -> Response:
        try:
            key = self._source.canonical(address.key)
            if key != address.key:
                query = f"?{request.url.query}" if request.url.query else ""
                return RedirectResponse(f"{address.prefix}{quote(key.repo_id)}{address.raw_tail}{query}", 307)
            match address.verb, address.arguments:
                case "resolve", (revision, *path):
                    return self._resolve(request, key, revision, "/".join(path))
                case "", ():
                    return self._info(request, key, DEFAULT_BRANCH)
                case "revision", (revision,):
                    return self._info(request, key, revision)
                case "tree", (revision, *path):
                    return self._tree(request, key, revision, "/".join(path))
                case "paths-info", (revision,):
                    return self._paths_info(key, revision, _form(body, request.headers.get("content-type", "")))
                case "refs", ():
                    return self._refs(key)
                case "commits", (revision,):
                    return self._commits(key, revision)
                case "discussions", ():
                    return JSONResponse({"discussions": [], "count": 0, "start": 0, "numClosedDiscussions": 0})
                case "auth-check", ():
                    return self._refusal(request, key) or JSONResponse({})
        except (UnknownRepoError, UnknownRevisionError) as error:
            return responses.error_response(404, error.message, code=error.code)
        except ContentChangedError as error:
            return responses.error_response(503, error.message, headers={"Retry-After": "1"})
        return responses.error_response(404, "This read-only Hub has nothing at this address")

    def _index(self) -> Response:
        """Tell a person with a browser what this is."""
        lines = ["A read-only Hugging Face Hub. Use it with HF_ENDPOINT set to this address.", ""]
        return PlainTextResponse("\n".join([*lines, *map(str, self._source.repos()), ""]))

    def _search(self, request: Request, repo_type: RepoType) -> Response:
        words = request.query_params.get("search", "").lower()
        author = request.query_params.get("author", "")
        keys = [
            key
            for key in self._source.repos()
            if key.repo_type == repo_type
            and words in key.repo_id.lower()
            and (not author or key.repo_id.startswith(f"{author}/"))
        ]
        limit = request.query_params.get("limit", "")
        keys = keys[: int(limit)] if limit.isdecimal() else keys
        return JSONResponse([_repo_facts(key, self._source) for key in keys])

    def _info(self, request: Request, key: RepoKey, revision: str) -> Response:
        snapshot = self._source.snapshot(key, revision)
        with_blobs = _flag(request.query_params.get("blobs"))
        facts = _repo_facts(key, self._source) | {
            "sha": snapshot.commit,
            "siblings": [_sibling(file, with_blobs) for file in snapshot.files.values()],
            "usedStorage": sum(file.size_bytes for file in snapshot.files.values()),
        }
        if wanted := request.query_params.getlist("expand") + request.query_params.getlist("expand[]"):
            facts = {name: value for name, value in facts.items() if name in {"id", *wanted}}
        return JSONResponse(facts)

    def _tree(self, request: Request, key: RepoKey, revision: str, folder: str) -> Response:
        snapshot = self._source.snapshot(key, revision)
        folder = folder.strip("/")
        if folder and folder not in snapshot.folders:
            return _no_entry(key, snapshot, folder)
        recursive, expand = (_flag(request.query_params.get(name)) for name in ("recursive", "expand"))
        prefix = f"{folder}/" if folder else ""
        paths = sorted(
            path
            for path in (*snapshot.files, *snapshot.folders)
            if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])
        )
        # The cursor is the last path of the page before: it stays right whatever happens in between.
        start = bisect_right(paths, request.query_params.get("cursor", ""))
        size = min(self._page_size, EXPANDED_PAGE_SIZE if expand else PAGE_SIZE)
        if (limit := request.query_params.get("limit", "")).isdecimal() and int(limit):
            size = min(size, int(limit))
        page = paths[start : start + size]
        headers = {}
        if start + size < len(paths):
            # Absolute, since clients do not resolve it against the page's own address.
            following = request.url.include_query_params(cursor=page[-1])
            headers["Link"] = f'<{following}>; rel="next"'
        return JSONResponse([_entry(snapshot, path, expand) for path in page], headers=headers)

    def _paths_info(self, key: RepoKey, revision: str, form: Mapping[str, list[str]]) -> Response:
        snapshot = self._source.snapshot(key, revision)
        expand = _flag(*form.get("expand", [""])[:1])
        paths = dict.fromkeys(path.strip("/") for path in form.get("paths", []))
        # Paths that do not exist are left out: that is how clients find out.
        known = [path for path in paths if path in snapshot.files or path in snapshot.folders]
        return JSONResponse([_entry(snapshot, path, expand) for path in known])

    def _refs(self, key: RepoKey) -> Response:
        refs = self._source.refs(key)
        return JSONResponse(
            {
                "branches": [_ref(name, "heads", commit) for name, commit in refs.branches.items()],
                "tags": [_ref(name, "tags", commit) for name, commit in refs.tags.items()],
                "converts": [],
                "pullRequests": [],
            }
        )

    def _commits(self, key: RepoKey, revision: str) -> Response:
        commit = self._source.snapshot(key, revision).commit
        return JSONResponse([_commit(commit) | {"message": "", "authors": [{"user": "bundle"}]}])

    def _resolve(self, request: Request, key: RepoKey, revision: str, path: str) -> Response:
        # Before the revision: whoever may not read the repo learns nothing of it.
        if refusal := self._refusal(request, key):
            return refusal
        snapshot = self._source.snapshot(key, revision)
        try:
            file = snapshot.file(path)
        except UnknownFileError:
            return _no_entry(key, snapshot, path)
        if responses.is_not_modified(file, request.headers.get("if-none-match")):
            return responses.not_modified_response(file, snapshot.commit)
        if request.method == "HEAD":
            return responses.head_response(file, snapshot.commit)
        try:
            span = responses.requested_range(request.headers, file)
        except responses.UnsatisfiableRangeError:
            return responses.range_error_response(file, snapshot.commit)
        content = self._source.open(key, snapshot, path)
        return responses.content_response(content, file, snapshot.commit, span)

    def _refusal(self, request: Request, key: RepoKey) -> Response | None:
        tokens = self._source.tokens(key)
        token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if tokens is None or token in tokens:
            return None
        if not token:
            return responses.error_response(401, f"Access to {key} is restricted: log in first", code="GatedRepo")
        return responses.error_response(403, f"Access to {key} is restricted: ask for it first", code="GatedRepo")


def _no_entry(key: RepoKey, snapshot: Snapshot, path: str) -> Response:
    # With the commit, clients remember that this file does not exist (`.no_exist`).
    return responses.error_response(
        404,
        f"{key} has no {path!r} at {snapshot.commit}",
        code=UnknownFileError.code,
        headers={"X-Repo-Commit": snapshot.commit},
    )


def _repo_facts(key: RepoKey, source: Source) -> dict[str, Any]:
    return {
        "_id": str(key),
        "id": key.repo_id,
        "author": key.repo_id.split("/")[0] if "/" in key.repo_id else None,
        "private": False,
        "gated": "manual" if source.tokens(key) is not None else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "createdAt": COMMIT_DATE,
        "lastModified": COMMIT_DATE,
    }


def _sibling(file: ServedFile, with_blobs: bool) -> dict[str, Any]:
    if not with_blobs:
        return {"rfilename": file.path}
    facts: dict[str, Any] = {"rfilename": file.path, "size": file.size_bytes, "blobId": file.blob_id}
    if file.lfs_sha256:
        facts["lfs"] = _lfs(file) | {"sha256": file.lfs_sha256}
    return facts


def _entry(snapshot: Snapshot, path: str, expand: bool) -> dict[str, Any]:
    facts: dict[str, Any]
    if path in snapshot.folders:
        facts = {"type": "directory", "path": path, "size": 0, "oid": snapshot.folders[path]}
    else:
        file = snapshot.files[path]
        facts = {"type": "file", "path": path, "size": file.size_bytes, "oid": file.blob_id}
        if file.lfs_sha256:
            facts["lfs"] = _lfs(file) | {"oid": file.lfs_sha256}
    if expand:
        facts["lastCommit"] = _commit(snapshot.commit)
    return facts


def _lfs(file: ServedFile) -> dict[str, Any]:
    assert file.lfs_sha256
    return {"size": file.size_bytes, "pointerSize": len(lfs_pointer(file.lfs_sha256, file.size_bytes))}


def _commit(commit: str) -> dict[str, Any]:
    return {"id": commit, "title": COMMIT_TITLE, "date": COMMIT_DATE}


def _ref(name: str, folder: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": commit}


def _flag(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1")


async def _form_body(request: Request) -> bytes | None:
    """Return the body; None when it is larger than any list of paths should be."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MAX_FORM_BYTES:
            return None
    return bytes(body)


def _form(body: bytes, content_type: str) -> dict[str, list[str]]:
    """Read the fields of a form, or of the JSON that other Hub clients send; what is malformed reads as empty."""
    try:
        if not content_type.startswith("application/json"):
            return parse_qs(body.decode())
        fields = {name: value if isinstance(value, list) else [value] for name, value in json.loads(body).items()}
        return {name: [str(value) for value in values] for name, values in fields.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}
