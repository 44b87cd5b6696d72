"""Each claim of a lock is looked at where it is read: what no file can be is refused in a few printable words."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from bundler.errors import LockError
from bundler.plan.lock import Lock, LockedFile, LockedRepo, PreparedFile

FILE = LockedFile(
    path="a.json", size_bytes=3, blob_id="a" * 40, lfs_sha256="b" * 64, sha256="b" * 64, blake3="c" * 64
)
PREPARED = PreparedFile(path="default/x.arrow", size_bytes=3, sha256="b" * 64, blake3="c" * 64)
REPO = LockedRepo(
    kind="dataset",
    repo_id="org/d",
    revision="main",
    commit="d" * 40,
    aliases=("org/e",),
    files=(FILE,),
    absent=("x.json",),
    prepared=(PREPARED,),
    configs=("default",),
)
WHOLE = json.loads(Lock(name="n", manifest_sha256="0" * 64, repos=(REPO,)).dumps())

# What no key of a lock may be, whichever it is.
NEVER: list[object] = [
    "",
    "\ud800",
    "a\u202eb",
    "a\u2066b",
    "a\x9b31m",
    "a\x1b[31m",
    "a\nb",
    "a\u2028b",
    "../x",
    "x" * 100_000,
    -1,
    2**63,
    10**400,
    1.5,
    [3],
    {"a": 3},
]


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path


def changed(path: tuple[str | int, ...], value: object) -> str:
    whole = copy.deepcopy(WHOLE)
    at: Any = whole
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(whole)


@pytest.mark.parametrize("path", list(leaves(WHOLE)), ids=lambda path: ".".join(map(str, path)))
def test_what_no_value_may_be_is_refused(path: tuple[str | int, ...]) -> None:
    for value in NEVER:
        with pytest.raises(LockError) as caught:
            Lock.loads(changed(path, value), source="lock")
        message = str(caught.value)
        assert len(message) < 1500 and all(c.isprintable() or c == "\n" for c in message), message


@pytest.mark.parametrize("key", ["blob_id", "lfs_sha256", "sha256", "blake3"])
def test_a_digest_is_as_many_small_hex_digits_as_it_has(key: str) -> None:
    path = ("repos", 0, "files", 0, key)
    for value in (
        "A" * len(WHOLE["repos"][0]["files"][0][key]),
        "0" * 63,
        "0" * 41,
        "0" * 65,
        "g" * 64,
        "0" * 64 + "\n",
    ):
        with pytest.raises(LockError):
            Lock.loads(changed(path, value), source="lock")
