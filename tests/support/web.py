"""A web server on loopback that is no Hub: files by their addresses, redirects, and answers that never end."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class WebServer:
    """Serves `files` while the block runs.

    Attributes:
        files: Path -> content; a text is a redirect to what it says, a number a status.
        requests: (path, headers by lower-case name) of each request, oldest first.
        endless: Paths whose answers never end.
    """

    def __init__(self, files: Mapping[str, bytes | str | int]) -> None:
        self.files = dict(files)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.endless: set[str] = set()
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                web.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                found = web.files.get(self.path.partition("?")[0], 404)
                if self.path in web.endless:
                    self.send_response(200)
                    self.end_headers()
                    while not web._stopped.is_set():
                        self.wfile.write(bytes(1 << 16))
                    return
                self.send_response(found if isinstance(found, int) else 302 if isinstance(found, str) else 200)
                if isinstance(found, str):
                    self.send_header("Location", found)
                body = found if isinstance(found, bytes) else b""
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Set-Cookie", "session=1")
                self.end_headers()
                self.wfile.write(body)

        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def asked(self) -> list[str]:
        """Return the paths that were asked for."""
        return [path for path, _ in self.requests]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


def zip_of(members: Mapping[str, bytes]) -> bytes:
    """Return a zip file with these members, in this order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            # Of one date, so that equal members are equal bytes.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
