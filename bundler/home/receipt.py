"""The receipt of an installed bundle, `HF_HOME/bundles/NAME.json`.

It is the last file that an installation writes and the first that a removal hides: a bundle without one is not
installed, whatever else is on disk. It holds the bundle's digest and the whole lock, and ends in a SHA-256 over its
own text, so that a changed byte in it is found like one in a blob. That digest finds damage; it is no signature, and
whoever may write to HF_HOME can make a new one.

Of a bundle that was installed in part (`bundle install --only`) the lock in the receipt is that of the part, so that
whatever works from a receipt (verify, path, remove, deltas) knows of what is there and of nothing else. The digest is
that of the whole bundle, and `left_out` names the repos that it has besides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bundler import __version__
from bundler.errors import IntegrityError
from bundler.files.digest import sha256_bytes
from bundler.files.paths import atomic_write
from bundler.plan.layout import BUNDLES_FOLDER
from bundler.plan.lock import Lock

RECEIPT_VERSION = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SEAL = b'\n "receipt_sha256": "'
# What removal puts behind the name of a receipt: the bundle is no longer listed, but what is left of it is known.
REMOVING_SUFFIX = ".removing"


class UnknownReceiptError(IntegrityError):
    """A receipt of another version: whole, but not to be understood."""


@dataclass(frozen=True)
class Receipt:
    """What a receipt says.

    Attributes:
        lock: What is installed.
        digest: The digest of the bundle that it came from, ``sha256:<hex>``.
        left_out: Ids of the repos of that bundle that are not installed, sorted.
    """

    lock: Lock
    digest: str
    left_out: tuple[str, ...] = ()


def receipt_path(hf_home: Path, name: str) -> Path:
    """Return where the receipt of a bundle stands."""
    return hf_home / BUNDLES_FOLDER / f"{name}.json"


def _receipt_text(receipt: Receipt) -> bytes:
    left_out = f' "left_out": {json.dumps(receipt.left_out)},\n' if receipt.left_out else ""
    body = (
        "{\n"
        f' "receipt_version": {RECEIPT_VERSION},\n'
        f' "bundle_digest": "{receipt.digest}",\n'
        f' "installed_with": "bundler {__version__}",\n'
        f'{left_out} "lock": {receipt.lock.dumps().rstrip()},'
    ).encode()
    return body + _SEAL + sha256_bytes(body).encode() + b'"\n}\n'


def write_receipt(hf_home: Path, lock: Lock, digest: str, left_out: Iterable[str] = ()) -> None:
    """Write the receipt of a bundle whose every other file is in place."""
    receipt = Receipt(lock, digest, tuple(sorted(set(left_out))))
    atomic_write(receipt_path(hf_home, lock.name), _receipt_text(receipt))


def read_receipt(path: Path) -> Receipt:
    """Read and check a receipt.

    Raises:
        FileNotFoundError: There is none.
        IntegrityError: Any byte of it was changed, or it is of another version.
    """
    content = path.read_bytes()
    name = path.name.removesuffix(REMOVING_SUFFIX).removesuffix(".json")
    hint = (
        "run `bundle install` with the bundle file again: it writes a new receipt; or give it up with "
        f"`bundle remove {name}`"
    )
    end = content.rfind(_SEAL)
    body = content[: max(end, 0)]
    if content != body + _SEAL + sha256_bytes(body).encode() + b'"\n}\n':
        raise IntegrityError(
            f"{path}: receipt was changed after it was written: its own sha256 differs", hint=hint
        )
    raw = json.loads(content)
    if raw.get("receipt_version") != RECEIPT_VERSION:
        raise UnknownReceiptError(
            f"{path}: receipt_version: expected {RECEIPT_VERSION}, found {raw.get('receipt_version')!r}",
            hint="a newer `bundle` wrote it: install that version here",
        )
    lock = Lock.loads(json.dumps(raw["lock"]), source=str(path))
    digest = raw.get("bundle_digest")
    if lock.name != name:
        raise IntegrityError(f"{path}: receipt is that of bundle {lock.name!r}", hint=hint)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise IntegrityError(f"{path}: bundle_digest: expected 'sha256:<hex>', found {digest!r}", hint=hint)
    left_out = raw.get("left_out", [])
    if not isinstance(left_out, list) or not all(isinstance(repo_id, str) for repo_id in left_out):
        raise IntegrityError(f"{path}: left_out: expected a list of repo ids, found {left_out!r}", hint=hint)
    return Receipt(lock, digest, tuple(left_out))
