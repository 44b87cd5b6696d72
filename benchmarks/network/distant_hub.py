"""A Hub that costs little CPU, for measuring its clients: ``python -m benchmarks.network.distant_hub FOLDER``.

It serves one model of the files in a folder, with what `bundle fetch` and `hf download` ask. Files of `LFS_BYTES` or
more are redirected to another origin, as the Hub does with them, where sendfile(2) sends them. `bundle serve` would
take as much CPU as the clients that are measured beside it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from bundler.files.digest import git_blob_sha1, hash_file

REPO_ID = "org/distant"
COMMIT = "1" * 40
LFS_BYTES = 1_000_000
_PAGE = 1000
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Headers go out in one piece.
    wbufsize = -1
    folder: ClassVar[Path]
    # Path -> what a listing says of the file.
    rows: ClassVar[dict[str, dict[str, Any]]]
    # Where clients reach the origin of large files; set once it is known.
    content_address: ClassVar[str] = ""

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        words = unquote(parts.path).strip("/").split("/")
        if words[:2] == ["api", "models"] and words[4:5] == ["revision"]:
            names = [{"rfilename": name} for name in self.rows]
            self._answer({"id": REPO_ID, "sha": COMMIT, "siblings": names, "private": False, "gated": False})
        elif words[:2] == ["api", "models"] and words[4:5] == ["tree"]:
            found = re.search(r"cursor=(\d+)", parts.query)
            begin = int(found[1]) if found else 0
            more = {}
            if begin + _PAGE < len(self.rows):
                page = f"http://{self.headers['Host']}{parts.path}?recursive=true&cursor={begin + _PAGE}"
                more = {"Link": f'<{page}>; rel="next"'}
            self._answer(list(self.rows.values())[begin : begin + _PAGE], more)
        elif words[2:3] == ["resolve"]:
            self._resolve("/".join(words[4:]))
        elif words[0] == "content":
            self._send_file("/".join(words[1:]), {})
        else:
            self._answer({"error": "not here"}, status=404)

    def _resolve(self, name: str) -> None:
        row = self.rows.get(name)
        if row is None:
            self._answer({"error": "no such file"}, {"X-Error-Code": "EntryNotFound"}, status=404)
            return
        common = {"X-Repo-Commit": COMMIT}
        if "lfs" not in row:
            self._send_file(name, {**common, "ETag": f'"{row["oid"]}"'})
            return
        common |= {"X-Linked-Etag": f'"{row["lfs"]["oid"]}"', "X-Linked-Size": str(row["size"])}
        place = {"Location": f"{self.content_address}/content/{name}"}
        self._answer("moved", {**common, **place}, status=302)

    def _send_file(self, name: str, headers: dict[str, str]) -> None:
        path = self.folder / name
        size = path.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]) if asked and asked[2] else size - 1, size - 1)
        self.send_response(206 if asked else 200)
        for key, value in {"ETag": f'"{name}"', **headers, "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.flush()
        if self.command == "GET" and last >= first:
            with path.open("rb") as stream:
                self.connection.sendfile(stream, first, last + 1 - first)

    def _answer(self, content: object, headers: Mapping[str, str] | None = None, *, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.wfile.flush()


def _row(folder: Path, path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    row: dict[str, Any] = {"type": "file", "path": str(path.relative_to(folder)), "size": size}
    if size >= LFS_BYTES:
        sha256 = hash_file(path, "sha256").sha256
        return {**row, "oid": "2" * 40, "lfs": {"oid": sha256, "size": size, "pointerSize": 134}}
    return {**row, "oid": git_blob_sha1(path.read_bytes())}


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def main() -> None:
    """Serve until the end of standard input: its first line is the address at which clients reach large files.

    The first line of standard output has the ports of the two origins.
    """
    parser = argparse.ArgumentParser(description="A Hub that costs little CPU.")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    rows = [_row(options.folder, path) for path in sorted(options.folder.rglob("*")) if path.is_file()]
    _Handler.folder, _Handler.rows = options.folder, {row["path"]: row for row in rows}
    servers = [_Server(("127.0.0.1", 0), _Handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{' '.join(str(server.server_address[1]) for server in servers)}\n")
    sys.stdout.flush()
    _Handler.content_address = sys.stdin.readline().strip()
    sys.stdin.read()


if __name__ == "__main__":
    main()
