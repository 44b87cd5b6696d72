"""Logins to registries, as `docker login` and `podman login` leave them: in files, and with credential helpers.

Sources: docker's config.json (docs.docker.com/reference/cli/docker/login, "Credential stores") and
containers-auth.json(5). A more exact entry, of a namespace, comes before that of its registry.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.errors import DependencyError, RemoteError
from bundler.remote.waiting import watch

_HELPER_SECONDS = 60.0
# A helper that has nothing of a registry says so in these words, and ends with 1.
_NOTHING = "credentials not found"
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class Credentials:
    """A login.

    Attributes:
        user: The user; empty where there is only a token.
        password: The password.
        identity_token: A token to get others by (OAuth2 refresh token); None where there is none.
    """

    user: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)


def find_credentials(host: str, name: str) -> Credentials | None:
    """Return the login to a repository; None where nobody has logged in.

    Args:
        host: The registry, with its port.
        name: The repository.

    Raises:
        RemoteError: A file of logins is malformed, or a credential helper failed.
        DependencyError: A credential helper is not installed.
    """
    for path in _list_files():
        try:
            config = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError) as error:
            raise RemoteError(f"{path}: expected logins to registries in JSON: {type(error).__name__}") from error
        if isinstance(config, dict) and (found := _look_up(config, host, name, path)):
            return found
    return None


def _list_files() -> Iterator[Path]:
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield Path(f"/run/containers/{os.getuid()}/auth.json")
    yield Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser() / "config.json"


def _look_up(config: dict[str, Any], host: str, name: str, path: Path) -> Credentials | None:
    keys = list(_list_keys(host, name))
    helpers = config.get("credHelpers")
    for key in keys:
        if isinstance(helpers, dict) and (helper := helpers.get(key)):
            return _ask_helper(str(helper), key)
    auths = config.get("auths")
    for key in keys:
        entry = auths.get(key) if isinstance(auths, dict) else None
        if isinstance(entry, dict) and (found := _parse_entry(entry, path, key)):
            return found
    if helper := config.get("credsStore"):
        for key in keys:
            if found := _ask_helper(str(helper), key):
                return found
    return None


def _list_keys(host: str, name: str) -> Iterator[str]:
    names = name.split("/")
    for count in range(len(names), 0, -1):
        yield "/".join([host, *names[:count]])
    hosts = _DOCKER_HUB if host in _DOCKER_HUB else (host,)
    for each in hosts:
        yield from (each, f"https://{each}", f"https://{each}/v1/", f"http://{each}")


def _parse_entry(entry: dict[str, Any], path: Path, key: str) -> Credentials | None:
    token = entry.get("identitytoken") or None
    try:
        login = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode()
    except ValueError as error:
        raise RemoteError(f"{path}: the login to {key} is malformed", hint="log in again") from error
    user, _, password = login.partition(":")
    if token:
        return Credentials(user, "", str(token))
    return Credentials(user, password.rstrip("\0")) if user else None


def _ask_helper(name: str, key: str) -> Credentials | None:
    """Ask a credential helper (github.com/docker/docker-credential-helpers, "Development")."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise RemoteError(f"expected the name of a credential helper, found {name[:80]!r}")
    program = f"docker-credential-{name}"
    try:
        with watch(f"{program}, which is asked for the login to {key}"):
            done = subprocess.run(
                [program, "get"],
                input=key.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_HELPER_SECONDS,
                check=False,
            )
    except FileNotFoundError as error:
        raise DependencyError(
            f"the login to {key} is with {program}, which is not installed",
            hint="install it, or log in with a tool that does not use it",
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RemoteError(
            f"{program}: could not be asked for the login to {key}: {type(error).__name__}"
        ) from error
    if done.returncode:
        if _NOTHING in done.stdout.decode(errors="replace").lower():
            return None
        raise RemoteError(f"{program}: ended with {done.returncode} when it was asked for the login to {key}")
    try:
        said = json.loads(done.stdout)
        user, secret = str(said["Username"]), str(said["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RemoteError(f"{program}: gave no login to {key} in JSON") from error
    return Credentials("", "", secret) if user == "<token>" else Credentials(user, secret)
