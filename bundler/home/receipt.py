"""The receipt of an installed bundle, `HF_HOME/bundles/NAME.json`.

It is the last file that an installation writes and the first that a removal hides: a bundle without one is not
installed, whatever else is on disk. It holds the bundle's digest and the whole lock, and ends in a SHA-256 over its
own text, so that a changed byte in it is found like one in a blob. That digest finds damage; it is no signature, and
whoever may write to HF_HOME can make a new one.

Of a bundle that was installed in part (`bundle install --only`) the lock in the receipt is that of the part, so that
whatever works from a receipt (verify, path, remove, deltas) knows of what is there and of nothing else. The digest is
that of the whole bundle, and `left_out` names the repos that it has besides.

The lock is most of the text, and parsing it most of the work. It is parsed when it is asked for, since of a
neighbour one often wants to know only that it has nothing to do with the bundle at hand (`Receipt.mentions`). What a
rollback needs stands before it: the lock without its files (`Receipt.names`).
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler import __version__
from bundler.errors import IntegrityError
from bundler.files.access import raise_unless_absent
from bundler.files.digest import blake3_bytes, sha256_bytes
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.text import strict_json
from bundler.text.strict_json import StrictJsonError

if TYPE_CHECKING:
    from bundler.plan.layout import Layout
    from bundler.plan.lock import Lock
    from bundler.plan.names import RepoKind

RECEIPT_VERSION = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SEAL = b'\n "receipt_sha256": "'
# The digests of a lock that an installation computes from the bytes.
_CHECKED = ["blake3", "sha256", "git_sha1"]
_LOCK = b'\n "lock": '
# What removal puts behind the name of a receipt: the bundle is no longer listed, but what is left of it is known.
REMOVING_SUFFIX = ".removing"


class UnknownReceiptError(IntegrityError):
    """A receipt of another version: whole, but not to be understood."""


class Receipt:
    """What a receipt says.

    Attributes:
        name: The bundle's name.
        digest: The digest of the bundle that it came from, ``sha256:<hex>``.
        left_out: Ids of the repos of that bundle that are not installed, sorted.
        has_view: Whether the generation has a view of its own.
        is_checked: Whether every digest that the lock claims was computed from the bytes when they were installed.
            The first versions computed BLAKE3 only.
    """

    def __init__(
        self,
        lock: Lock | bytes,
        digest: str,
        left_out: Iterable[str] = (),
        *,
        has_view: bool = False,
        is_checked: bool = True,
        path: Path = Path(),
        name: str = "",
        names: object = None,
        lock_at: tuple[int, int] | None = None,
    ) -> None:
        self.digest = digest
        self.left_out = tuple(sorted(set(left_out)))
        self.has_view = has_view
        self.is_checked = is_checked
        if not isinstance(lock, bytes):
            self.lock, name = lock, lock.name
            # Without its newline. Of 100,000 files it is tens of megabytes: copied once, and then kept here alone.
            text = b"".join((memoryview(lock.encoded)[:-1], b","))
            lock.forget_text()
        else:
            text = lock
        self._text = text
        self._lock_at = lock_at or (0, len(text))
        self._path = path
        self.name = name
        self._raw_names = names

    @classmethod
    def parse(cls, content: bytes, path: Path, *, name: str | None = None) -> Receipt:
        """Check the text of a receipt; its lock is left for later.

        Args:
            content: The text.
            path: Where it stands, for messages.
            name: The bundle's name; by default as the file is called.

        Raises:
            IntegrityError: Any byte of it was changed, or it is of another version.
        """
        name = path.name.removesuffix(REMOVING_SUFFIX).removesuffix(".json") if name is None else name
        end = max(content.rfind(_SEAL), 0)
        # Nothing is copied: of 100,000 files the lock is tens of megabytes, and a rollback has no use for it.
        if content[end:] != _SEAL + sha256_bytes(memoryview(content)[:end]).encode() + b'"\n}\n':
            raise IntegrityError(
                f"{path}: receipt was changed after it was written: its own sha256 differs", hint=_hint(name)
            )
        try:
            head_end = content.find(_LOCK, 0, end)
            head = content[: end if head_end < 0 else head_end]
            raw = strict_json.read(f'{head.decode("utf-8")} "lock": null}}')
        except (UnicodeDecodeError, StrictJsonError) as error:
            raise IntegrityError(f"{path}: expected a receipt in JSON: {error}", hint=_hint(name)) from error
        assert isinstance(raw, dict), "what ends in a brace begins with one"
        if raw.get("receipt_version") != RECEIPT_VERSION:
            raise UnknownReceiptError(
                f"{path}: receipt_version: expected {RECEIPT_VERSION}, found {_spell(raw.get('receipt_version'))}",
                hint="a newer `bundle` wrote it: install that version here",
            )
        digest = raw.get("bundle_digest")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise IntegrityError(
                f"{path}: bundle_digest: expected 'sha256:<hex>', found {_spell(digest)}", hint=_hint(name)
            )
        left_out = raw.get("left_out", [])
        if not isinstance(left_out, list) or not all(isinstance(repo_id, str) for repo_id in left_out):
            raise IntegrityError(
                f"{path}: left_out: expected a list of repo ids, found {_spell(left_out)}", hint=_hint(name)
            )
        return cls(
            content,
            digest,
            left_out,
            has_view=raw.get("has_view") is True,
            is_checked=raw.get("checked_digests") == _CHECKED,
            path=path,
            name=name,
            names=raw.get("names"),
            lock_at=(end if head_end < 0 else head_end + len(_LOCK), end),
        )

    @property
    def text(self) -> bytes:
        """The whole text of a receipt that was read."""
        return self._text

    @property
    def _lock_text(self) -> bytes:
        start, end = self._lock_at
        return self._text[start:end]

    @cached_property
    def lock(self) -> Lock:
        """What is installed.

        Raises:
            LockError: It is malformed.
            IntegrityError: It is that of another bundle than the file's name says.
        """
        try:
            text = self._lock_text.removesuffix(b",").decode("utf-8")
        except UnicodeDecodeError as error:
            raise IntegrityError(
                f"{self._path}: expected a receipt in UTF-8: {error}", hint=_hint(self.name)
            ) from error
        lock = self._load(text)
        if lock.name != self.name:
            raise IntegrityError(f"{self._path}: receipt is that of bundle {lock.name!r}", hint=_hint(self.name))
        return lock

    @cached_property
    def lock_blake3(self) -> str:
        """BLAKE3 of the lock's text, in hex: it tells one lock from another without parsing them."""
        start, end = self._lock_at
        return blake3_bytes(memoryview(self._text)[start:end]).hex()

    @cached_property
    def _names(self) -> set[str]:
        return {name for repo in self.lock.repos for name in (repo.repo_type, repo.repo_id, *repo.aliases)}

    @cached_property
    def names(self) -> Layout:
        """The layout of what is installed, less the files of repos: refs, other names, commits, prepared files.

        Raises:
            LockError: It is malformed.
        """
        from bundler.plan.layout import layout

        if self._raw_names is not None:
            return layout(self._load(json.dumps(self._raw_names)))
        # Of an earlier version.
        return layout(self._without_files())

    @cached_property
    def has_prepared(self) -> bool:
        """Whether it has prepared files of datasets."""
        repos = self._list_repos()
        if repos is None:
            return any(repo.prepared for repo in self.names.repos)
        return any(repo.get("prepared") for repo in repos)

    def has_kind(self, kind: RepoKind) -> bool:
        """Tell whether one of its entries is of a kind."""
        repos = self._list_repos()
        if repos is None:
            return any(repo.kind == kind for repo in self.lock.repos)
        return any(repo.get("kind") == kind for repo in repos)

    def _list_repos(self) -> list[dict[str, Any]] | None:
        """Return the entries of the lock as `names` has them, which nothing has checked; None where it has none."""
        repos = self._raw_names.get("repos") if isinstance(self._raw_names, dict) else None
        if not isinstance(repos, list) or not all(isinstance(repo, dict) for repo in repos):
            return None
        return repos

    def _load(self, text: str) -> Lock:
        # All that reads a lock is loaded with it, and most launches have no use for that.
        from bundler.plan.lock import Lock

        return Lock.loads(text, source=str(self._path))

    def _without_files(self) -> Lock:
        return self.lock.with_repos(tuple(replace(repo, files=(), absent=()) for repo in self.lock.repos))

    def __eq__(self, other: object) -> bool:
        """Tell whether both say the same, whatever wrote them."""
        if not isinstance(other, Receipt):
            return NotImplemented
        return self._said == other._said

    def __hash__(self) -> int:
        """Hash it by what it says."""
        return hash(self._said)

    @property
    def _said(self) -> tuple[object, ...]:
        return self._lock_text, self.digest, self.left_out, self.has_view, self.is_checked

    def dumps(self) -> bytes:
        """Return the text, sealed."""
        head: dict[str, object] = {
            "receipt_version": RECEIPT_VERSION,
            "bundle_digest": self.digest,
            "installed_with": f"bundler {__version__}",
        }
        if self.has_view:
            head["has_view"] = True
        if self.is_checked:
            head["checked_digests"] = _CHECKED
        if self.left_out:
            head["left_out"] = self.left_out
        # On one line, so that where the lock begins is found.
        head["names"] = json.loads(self._without_files().dumps())
        lines = "\n".join(f' "{key}": {json.dumps(value)},' for key, value in head.items())
        start, end = self._lock_at
        # Put together once: of 100,000 files the lock is tens of megabytes.
        body: list[bytes | memoryview] = [f"{{\n{lines}".encode(), _LOCK, memoryview(self._text)[start:end]]
        return b"".join([*body, _SEAL, sha256_bytes(*body).encode(), b'"\n}\n'])

    def mentions(self, texts: Iterable[str]) -> bool:
        """Tell whether one of `texts` is a repo id, an alias or a kind in the lock; another string of it may do too."""
        if "lock" in self.__dict__:
            return not self._names.isdisjoint(texts)
        # Much cheaper than parsing it.
        needles = (json.dumps(text, ensure_ascii=False).encode() for text in texts)
        return any(self._text.find(needle, *self._lock_at) >= 0 for needle in needles)


def receipt_path(hf_home: Path, name: str) -> Path:
    """Return where the receipt of a bundle stands."""
    return hf_home / BUNDLES_FOLDER / f"{name}.json"


def read_receipt_file(path: Path, name: str) -> tuple[bytes, os.stat_result]:
    """Return the text of a receipt, and its status from before; what is no file is as bad as a changed one.

    Args:
        path: The file.
        name: The bundle's name, for the hint.

    Raises:
        FileNotFoundError: There is none.
        IntegrityError: A folder, a link that leads nowhere, a pipe or a device.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise_unless_absent(error)
        if not path.is_symlink():
            raise
        what = "expected a receipt, found a link that leads nowhere"
        raise IntegrityError(f"{path}: {what}", hint=_hint(name)) from error
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise IntegrityError(f"{path}: expected a receipt, found {found}", hint=_hint(name))
    return path.read_bytes(), status


def read_receipt(path: Path, *, name: str | None = None) -> Receipt:
    """Read and check a receipt, its lock too.

    Args:
        path: The file.
        name: The bundle's name; by default as the file is called.

    Raises:
        FileNotFoundError: There is none.
        IntegrityError: Any byte of it was changed, or it is of another version.
        LockError: Its lock is malformed.
    """
    known = path.name.removesuffix(REMOVING_SUFFIX).removesuffix(".json") if name is None else name
    receipt = Receipt.parse(read_receipt_file(path, known)[0], path, name=name)
    assert receipt.lock, "parsed here, so that a fault of it is found here"
    return receipt


def _spell(value: object) -> str:
    from bundler.text.trees import JsonTree

    return JsonTree().spell(value)


def _hint(name: str) -> str:
    return (
        "run `bundle install` with the bundle file again: it writes a new receipt; or give it up with "
        f"`bundle remove {name}`"
    )
