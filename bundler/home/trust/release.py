"""The highest release that was installed under a name: `HF_HOME/bundles/releases/NAME.json`.

It stays when the bundle is removed or pruned: somebody who can make you remove a bundle must not by that be able to
bring an old one back. After python-tuf's rule against rollback: what was seen once is the least that is taken.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bundler.errors import IntegrityError, TrustError
from bundler.files.atomic import atomic_write
from bundler.home.trust.paths import release_path
from bundler.text import strict_json
from bundler.text.reader import Reader
from bundler.text.strict_json import StrictJsonError
from bundler.text.trees import JsonTree
from bundler.trust.statement import Statement

_ALLOW = "if that is what you want, say --allow-rollback; else get the newest bundle, with its signature"


@dataclass(frozen=True, kw_only=True)
class Release:
    """The highest release of a name.

    Attributes:
        sequence: That of its statement.
        lock_digest: Of its lock.
        digest: Of the bundle.
    """

    sequence: int
    lock_digest: str
    digest: str


def read_release(hf_home: Path, name: str) -> Release | None:
    """Return the highest release of a name; None if none was signed.

    Raises:
        IntegrityError: The file was changed.
    """
    path = release_path(hf_home, name)
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise _damaged(path) from error
    try:
        reader = Reader(JsonTree())
        found = reader.read(Release, strict_json.read(text))
    except StrictJsonError as error:
        raise _damaged(path) from error
    if found is None or reader.faults:
        raise _damaged(path)
    return found


def remember_release(hf_home: Path, statement: Statement) -> None:
    """Remember a release that was installed, unless a higher one was."""
    try:
        before = read_release(hf_home, statement.name)
    except IntegrityError:
        before = None
    if before is None or statement.sequence > before.sequence:
        release = Release(sequence=statement.sequence, lock_digest=statement.lock_digest, digest=statement.digest)
        atomic_write(release_path(hf_home, statement.name), f"{json.dumps(asdict(release), indent=1)}\n".encode())


def check_release(hf_home: Path, name: str, statement: Statement | None) -> None:
    """Make sure that a bundle is not older than what was installed under its name.

    Args:
        hf_home: The cache root.
        name: The bundle's name.
        statement: What is signed of it; None for an unsigned one, which may be of any age.

    Raises:
        TrustError: It is older, or its age cannot be told.
        IntegrityError: What was remembered was changed.
    """
    before = read_release(hf_home, name)
    if before is None:
        return
    seen = f"release {before.sequence} of {name} was installed in {hf_home}"
    if statement is None:
        raise TrustError(f"{seen}, and this bundle is not signed: it may be of any age", hint=_ALLOW)
    if statement.sequence < before.sequence:
        raise TrustError(f"{seen}, and this bundle is release {statement.sequence}, an older one", hint=_ALLOW)
    if statement.sequence == before.sequence and statement.lock_digest != before.lock_digest:
        raise TrustError(
            f"{seen}, with the lock {before.lock_digest}, and this bundle has the same number and another lock: "
            f"{statement.lock_digest}",
            hint=f"two bundles cannot be one release; {_ALLOW}",
        )


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path}: expected the highest release that was installed, found something else",
        hint="with --allow-rollback the next installation of a signed bundle writes it anew",
    )
