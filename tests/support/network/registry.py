"""Debian's docker-registry on loopback, for as long as a block lasts."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

PROGRAM = shutil.which("docker-registry") or shutil.which("registry")
# Of a password for `htpasswd`.
BCRYPT_OF_SECRET = "$2b$04$D2mLCsGRcewkC1HcQ4IVS.5gr.Nc.UurN9G5Fqu7j25sBJ5CfHEZS"
needs_registry = pytest.mark.skipif(PROGRAM is None, reason="there is no docker-registry here")


class Registry:
    """A registry.

    Args:
        folder: Its files.
        htpasswd: Lines of users, as `htpasswd -B` writes them; empty for anybody.
    """

    def __init__(self, folder: Path, htpasswd: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._auth = ""
        if htpasswd:
            (folder / "htpasswd").write_text(htpasswd)
            self._auth = f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
        self.log = folder / "log"
        self._start()

    def _start(self) -> None:
        assert PROGRAM is not None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        config = self._folder / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: false}}}}\n{self._auth}"
            f"storage: {{filesystem: {{rootdirectory: {self._folder}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.host}'}}\n"
        )
        # It would take REGISTRY_AUTH_FILE, where podman's logins are, for a part of its configuration.
        env = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env
            )

    def address(self, name: str = "models/tiny:1") -> str:
        """The address of something in it."""
        return f"oci://{self.host}/{name}"

    def get(self, path: str) -> Any:
        """What it answers in JSON."""
        accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def sent_bytes(self) -> int:
        """How many bytes of content it has sent, by its log."""
        return sum(map(int, re.findall(r'"GET /v2/\S+/blobs/\S+ HTTP/1.1" 20[06] (\d+)', self.log.read_text())))

    def __enter__(self) -> Self:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/").close()
            except urllib.error.HTTPError:
                break
            except OSError:
                if self._process.poll() is not None:
                    # It takes no socket that is open already, and somebody else took its port meanwhile.
                    assert "address already in use" in self.log.read_text(), self.log.read_text()
                    self._start()
                time.sleep(0.05)
            else:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
