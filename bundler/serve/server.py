"""The Hub over HTTP, read-only: what the stock huggingface_hub client asks, answered from a `RepoSource`.

    GET  /api/KIND                                       search; KIND is models, datasets, kernels or spaces
    GET  /api/KIND/ID[/revision/REV]                     repo info
    GET  /api/KIND/ID/tree/REV[/FOLDER]                  files, by pages
    POST /api/KIND/ID/paths-info/REV                     some files
    GET  /api/KIND/ID/{refs,commits/REV,discussions,auth-check}
    GET  [/KIND]/ID/resolve/REV/PATH                     a file, without KIND a model's; also HEAD, ranges
    GET  /api/agent-harnesses, HEAD /api/telemetry/...   harmless answers

Rule book:

* a request for an old name is redirected, with a relative 307, to the present one;
* as on the Hub, the listing of a gated repo is public and its files are not;
* no header speaks of Xet, so that clients use plain HTTP;
* nothing can be changed: other methods get 405 and an explanation;
* sources block on disks, and hash: they are asked in threads, never in the event loop.

What is sent, and how it is worded, is in `payloads` and `responses`; how addresses are read, in `addresses`.
"""

from __future__ import annotations

import asyncio
import json
import re
from bisect import bisect_right
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bundler.plan.names import RepoType
from bundler.serve import payloads, responses
from bundler.serve.addresses import REPO_TYPES, RepoAddress, split_path
from bundler.serve.source import (
    DEFAULT_BRANCH,
    ContentChangedError,
    FileNotServedError,
    RepoKey,
    RepoNotServedError,
    RepoSource,
    RevisionNotServedError,
    Snapshot,
)

# The Hub's own limits; the second where each entry brings its last commit along.
PAGE_SIZE = 1000
EXPANDED_PAGE_SIZE = 50

_MAX_FORM_BYTES = 1 << 20
BODY_SECONDS = 30.0
# More digits than any length has are no number.
_NUMBER = re.compile(r"[0-9]{1,18}")


def create_app(source: RepoSource, *, page_size: int = PAGE_SIZE) -> Starlette:
    """Return the ASGI application that serves `source`.

    Args:
        source: Where repos come from.
        page_size: Most entries in one page of a listing.
    """
    return Starlette(routes=[Route("/{path:path}", _Hub(source, page_size))])


class _Hub:
    """The ASGI application behind every address."""

    def __init__(self, source: RepoSource, page_size: int) -> None:
        self._source = source
        self._page_size = page_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        pieces = split_path(scope.get("raw_path") or quote(scope["path"]).encode())
        address = RepoAddress.parse(pieces)
        form: dict[str, list[str]] = {}
        response: Response
        if request.method == "POST" and address and address.verb == "paths-info":
            try:
                body = await asyncio.wait_for(_body(request), BODY_SECONDS)
            except TimeoutError:
                response = responses.error_response(
                    408, "The request did not end in time", headers={"Connection": "close"}
                )
                await response(scope, receive, send)
                return
            form = _form(body, request.headers.get("content-type", ""))
        elif request.method not in ("GET", "HEAD"):
            message = f"This Hub is read-only: {request.method} is refused. It serves downloads only."
            response = responses.error_response(405, message, headers={"Allow": "GET, HEAD"})
            await response(scope, receive, send)
            return
        response = await run_in_threadpool(self._answer, request, pieces, address, form)
        await response(scope, receive, send)

    def _answer(
        self, request: Request, pieces: tuple[str, ...], address: RepoAddress | None, form: dict[str, list[str]]
    ) -> Response:
        try:
            if address and (response := self._answer_for_repo(request, address, form)):
                return response
        except (RepoNotServedError, RevisionNotServedError) as error:
            return responses.error_response(404, error.message, code=error.code)
        except ContentChangedError as error:
            return responses.error_response(503, error.message, headers={"Retry-After": "1"})
        match pieces:
            case ("",):
                return self._index()
            case ("api", plural) if plural in REPO_TYPES:
                return self._search(request, REPO_TYPES[plural])
            case ("api", "agent-harnesses"):
                # The client asks by which variables it can tell that a coding agent runs it, for its user agent.
                return JSONResponse({"harnesses": {}, "standardEnvVars": []})
            case ("api", "telemetry", *_):
                return Response(status_code=204)
        return responses.error_response(404, "This read-only Hub has nothing at this address")

    def _answer_for_repo(
        self, request: Request, address: RepoAddress, form: dict[str, list[str]]
    ) -> Response | None:
        key = self._source.canonical(address.key)
        if key != address.key:
            return RedirectResponse(address.moved_to(key, request.url.query), 307)
        match address.verb, address.arguments:
            case "resolve", (revision, *path):
                return self._file(request, key, revision, "/".join(path))
            case "", ():
                return self._info(request, key, DEFAULT_BRANCH)
            case "revision", (revision,):
                return self._info(request, key, revision)
            case "tree", (revision, *path):
                return self._tree(request, key, revision, "/".join(path).strip("/"))
            case "paths-info", (revision,):
                return self._paths_info(key, revision, form)
            case "refs", ():
                return JSONResponse(payloads.refs_payload(self._source.refs(key)))
            case "commits", (revision,):
                return JSONResponse(payloads.history_payload(self._source.snapshot(key, revision).commit))
            case "discussions", ():
                return JSONResponse({"discussions": [], "count": 0, "start": 0, "numClosedDiscussions": 0})
            case "auth-check", ():
                return self._refusal(request, key) or JSONResponse({})
        return None

    def _index(self) -> Response:
        """Tell a person with a browser what this is."""
        lines = ["A read-only Hugging Face Hub. Use it with HF_ENDPOINT set to this address.", ""]
        return PlainTextResponse("\n".join([*lines, *map(str, self._source.repos()), ""]))

    def _search(self, request: Request, repo_type: RepoType) -> Response:
        words = request.query_params.get("search", "").lower()
        author = request.query_params.get("author")
        limit = request.query_params.get("limit", "")
        keys = [
            key
            for key in self._source.repos()
            if key.repo_type == repo_type
            and words in key.repo_id.lower()
            and (not author or key.repo_id.startswith(f"{author}/"))
        ]
        return JSONResponse([self._facts(key) for key in keys[: int(limit) if _NUMBER.fullmatch(limit) else None]])

    def _info(self, request: Request, key: RepoKey, revision: str) -> Response:
        snapshot = self._source.snapshot(key, revision)
        with_blobs = _is_true(request.query_params.get("blobs"))
        facts = self._facts(key) | payloads.commit_payload(snapshot, with_blobs=with_blobs)
        wanted = {*request.query_params.getlist("expand"), *request.query_params.getlist("expand[]")}
        if wanted:
            facts = {name: value for name, value in facts.items() if name == "id" or name in wanted}
        return JSONResponse(facts)

    def _facts(self, key: RepoKey) -> dict[str, object]:
        return payloads.repo_payload(key, is_gated=self._source.tokens(key) is not None)

    def _tree(self, request: Request, key: RepoKey, revision: str, folder: str) -> Response:
        snapshot = self._source.snapshot(key, revision)
        if folder and folder not in snapshot.folders:
            return _no_entry(key, snapshot, folder)
        query = request.query_params
        recursive, expand = _is_true(query.get("recursive")), _is_true(query.get("expand"))
        prefix = f"{folder}/" if folder else ""
        paths = sorted(
            path
            for path in (*snapshot.files, *snapshot.folders)
            if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])
        )
        size = min(self._page_size, EXPANDED_PAGE_SIZE if expand else PAGE_SIZE)
        if _NUMBER.fullmatch(limit := query.get("limit", "")) and int(limit):
            size = min(size, int(limit))
        # The cursor is the last path of the page before, so it holds no state and no offset to get wrong.
        start = bisect_right(paths, query.get("cursor", ""))
        page = paths[start : start + size]
        headers = {}
        if start + size < len(paths):
            # Absolute: clients do not resolve it against the page's own address.
            headers["Link"] = f'<{request.url.include_query_params(cursor=page[-1])}>; rel="next"'
        entries = [payloads.entry_payload(snapshot, path, expand=expand) for path in page]
        return JSONResponse(entries, headers=headers)

    def _paths_info(self, key: RepoKey, revision: str, form: dict[str, list[str]]) -> Response:
        snapshot = self._source.snapshot(key, revision)
        expand = _is_true("".join(form.get("expand", [])))
        paths = dict.fromkeys(path.strip("/") for path in form.get("paths", []))
        # Paths that do not exist are left out: that is how clients find out.
        known = [path for path in paths if path in snapshot.files or path in snapshot.folders]
        return JSONResponse([payloads.entry_payload(snapshot, path, expand=expand) for path in known])

    def _file(self, request: Request, key: RepoKey, revision: str, path: str) -> Response:
        # First of all, so that whoever may not read the files learns nothing about them.
        if refusal := self._refusal(request, key):
            return refusal
        snapshot = self._source.snapshot(key, revision)
        try:
            file = snapshot.file(path)
        except FileNotServedError:
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
        """Return the answer to a client that may not have a repo's files; None for one that may."""
        granted = self._source.tokens(key)
        token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if granted is None or token in granted:
            return None
        if not token:
            return responses.error_response(401, f"Access to {key} is restricted: log in first", code="GatedRepo")
        return responses.error_response(403, f"Access to {key} is restricted: ask for it first", code="GatedRepo")


def _no_entry(key: RepoKey, snapshot: Snapshot, path: str) -> Response:
    # By the commit, clients remember that this file does not exist (`.no_exist`).
    return responses.error_response(
        404,
        f"{key} has no {path!r} at {snapshot.commit}",
        code=FileNotServedError.code,
        headers={"X-Repo-Commit": snapshot.commit},
    )


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1")


async def _body(request: Request) -> bytes:
    """Return the body; what is longer than any list of paths should be is read as none."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > _MAX_FORM_BYTES:
            return b""
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
