"""What the values of a lock may be: each check returns what is wrong with one value, or None; the types carry them."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from bundler.files.paths import relative_path_problem
from bundler.plan.manifest_rules import command_problem, data_dir_problem, data_files_problem
from bundler.plan.names import is_bundle_name, is_repo_id, is_revision
from bundler.text.rules import Key, Rule
from bundler.text.wording import quoted

_HEX40 = re.compile(r"[0-9a-f]{40}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
# A host, or an IPv6 address in brackets; no '@', and of a path nothing that needs an escape.
_ENDPOINT = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*")
_LONGEST_ENDPOINT = 1024


def _hex_problem(text: str) -> str | None:
    return None if _HEX64.fullmatch(text) else f"expected 64 lower-case hex digits, found {quoted(text)}"


def _hex40_problem(text: str) -> str | None:
    return None if _HEX40.fullmatch(text) else f"expected 40 lower-case hex digits, found {quoted(text)}"


def _bundle_name_problem(text: str) -> str | None:
    expected = "expected lower-case letters, digits, '.', '_' and '-'"
    return None if is_bundle_name(text) else f"{expected}, found {quoted(text)}"


def _repo_id_problem(text: str) -> str | None:
    return None if is_repo_id(text) else f"expected 'name' or 'namespace/name', found {quoted(text)}"


def _revision_problem(text: str) -> str | None:
    return None if is_revision(text) else f"expected a branch, tag or commit, found {quoted(text)}"


def _endpoint_problem(text: str) -> str | None:
    expected = "expected the address of a Hub, as https://huggingface.co, without user, password and query"
    return (
        None
        if len(text) <= _LONGEST_ENDPOINT and _ENDPOINT.fullmatch(text)
        else f"{expected}; found {quoted(text)}"
    )


def order_problem(texts: tuple[str, ...]) -> str | None:
    """Check that texts are sorted, and no two are equal: equal locks are equal bytes."""
    return None if list(texts) == sorted(set(texts)) else "expected sorted and without repeats"


BundleName = Annotated[str, Rule(check=_bundle_name_problem)]
Endpoint = Annotated[str, Rule(check=_endpoint_problem)]
RepoId = Annotated[str, Rule(check=_repo_id_problem)]
Revision = Annotated[str, Rule(check=_revision_problem)]
FilePath = Annotated[str, Rule(check=relative_path_problem)]
DataDir = Annotated[str, Rule(check=data_dir_problem)]
DataFiles = Annotated[str, Rule(check=data_files_problem)]
GitSha1 = Annotated[str, Rule(check=_hex40_problem)]
Sha256 = Annotated[str, Rule(check=_hex_problem)]
Command = Annotated[str, Rule(check=command_problem)]
Blake3 = Annotated[str, Rule(check=_hex_problem)]


def state_endpoint(address: str) -> str | None:
    """Return the address of a Hub as a lock states it; None if it cannot be stated.

    Args:
        address: As a person set it, perhaps with user, password and query.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    host = parts.netloc.rpartition("@")[2]
    text = urlunsplit((parts.scheme.lower(), host, parts.path.rstrip("/"), "", ""))
    return text if _endpoint_problem(text) is None else None


# A lock writes out every key, defaults included.
THERE = Key(required=True)
SORTED = Key(required=True, check=order_problem)
