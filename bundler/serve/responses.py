"""HTTP answers of the Hub: file content with ranges, and errors in the form that clients understand.

Rule book:

* content is sent through one buffer (`file_sender`), over TLS in blocks from a thread. No request holds more than one
  block in memory;
* one range at a time (RFC 9110, section 14): what clients resume with. Several, or one that cannot be read, are
  answered with the whole file, as the RFC allows;
* errors carry `X-Error-Code` and `X-Error-Message`, which huggingface_hub turns into its exceptions, and the same
  message in JSON for people.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bundler.serve.file_sender import FileSender, StalledError
from bundler.serve.source import Content, DirectContent, ServedFile

# Where the scope of a request has its `FileSender`.
FILES_EXTENSION = "bundle.files"

# Large enough that the hop to a thread does not count.
BLOCK_BYTES = 1 << 20

# As many digits as Python turns into a number without asking.
_RANGE = re.compile(r"bytes=([0-9]{0,4000})-([0-9]{0,4000})")


def error_response(
    status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error as the Hub words it.

    Args:
        status: HTTP status.
        message: For people; goes into a header as well, so characters outside ASCII are replaced there.
        code: The Hub's name for the error, which decides the exception in huggingface_hub.
        headers: Further headers.
    """
    fields = dict(headers or {}) | {"X-Error-Message": re.sub(r"[^ -~]+", "?", message)}
    if code:
        fields["X-Error-Code"] = code
    return JSONResponse({"error": message}, status_code=status, headers=fields)


def file_headers(file: ServedFile, commit: str) -> dict[str, str]:
    """Return what HEAD and GET say about a file."""
    headers = {
        "ETag": f'"{file.etag}"',
        "X-Repo-Commit": commit,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        # Nothing here is meant to be rendered, least of all HTML out of a repo.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if file.lfs_sha256:
        headers |= {"X-Linked-Etag": f'"{file.lfs_sha256}"', "X-Linked-Size": str(file.size_bytes)}
    return headers


def head_response(file: ServedFile, commit: str) -> Response:
    """Answer HEAD: the headers of the whole file. Clients take the size from `Content-Length`."""
    headers = file_headers(file, commit) | {"Content-Length": str(file.size_bytes)}
    return Response(headers=headers)


def not_modified_response(file: ServedFile, commit: str) -> Response:
    """Answer a conditional request by a client that has this very content."""
    headers = file_headers(file, commit)
    del headers["Content-Type"]
    return Response(status_code=304, headers=headers)


def is_not_modified(file: ServedFile, if_none_match: str | None) -> bool:
    """Tell whether `If-None-Match` names this content (RFC 9110, section 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return "*" in tags or f'"{file.etag}"' in tags


class UnsatisfiableRangeError(Exception):
    """The range starts behind the end of the file."""


def requested_range(headers: Mapping[str, str], file: ServedFile) -> tuple[int, int] | None:
    """Return the (start, end) of the one range asked for, end excluded; None for the whole file.

    Raises:
        UnsatisfiableRangeError: Nothing of the file lies in the range.
    """
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or match.group() == "bytes=-":
        return None
    if headers.get("if-range", f'"{file.etag}"') != f'"{file.etag}"':
        return None
    first, last = match.groups()
    size = file.size_bytes
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise UnsatisfiableRangeError
    return start, end


def range_error_response(file: ServedFile, commit: str) -> Response:
    """Answer a range that starts behind the end."""
    headers = {"X-Repo-Commit": commit, "Content-Range": f"bytes */{file.size_bytes}"}
    return error_response(416, f"{file.path} has {file.size_bytes} bytes", headers=headers)


def content_response(
    content: Content, file: ServedFile, commit: str, span: tuple[int, int] | None
) -> StreamingResponse:
    """Stream a file or a span of it; closes `content` at the end, or when the client goes away."""
    start, end = span or (0, file.size_bytes)
    headers = file_headers(file, commit) | {"Content-Length": str(end - start)}
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    return _ContentResponse(content, start, end, status_code=206 if span else 200, headers=headers)


class _ContentResponse(StreamingResponse):
    """A span of a file, past the application's own messages where the connection and the file allow it."""

    def __init__(
        self, content: Content, start: int, end: int, *, status_code: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(self._read_blocks(start, end), status_code=status_code, headers=headers)
        self._content = content
        self._span = start, end
        self._files: FileSender | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        self._files = scope.get("extensions", {}).get(FILES_EXTENSION)
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send the head, and the content behind it."""
        content, files = self._content, self._files
        try:
            if files is None or not isinstance(content, DirectContent):
                await super().stream_response(send)
                return
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                is_whole = await files.send(content, *self._span) == self._span[1]
            except StalledError:
                is_whole = False
            if is_whole:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                # The announced length is not kept, which clients notice.
                await files.close()
        finally:
            content.close()

    async def _read_blocks(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            block = await run_in_threadpool(self._content.read_at, start, min(BLOCK_BYTES, end - start))
            if not block:
                # The file was cut short, or changed. Ending early breaks the announced length, which clients notice.
                return
            yield block
            start += len(block)
