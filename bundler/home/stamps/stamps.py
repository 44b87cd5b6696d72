"""The stamps of one generation: a file that says what was hashed, and what the kernel said of it then.

    {"stamps_version": 1, "name": …, "digest": …, "lock_blake3": …, "hashed_at": …, "files": …, "size_bytes": …,
     "content": {"paths": […], "inode": […], "size_bytes": […], "modified_ns": […], "changed_ns": […], "blake3": "…"},
     "names": {PATH: [inode, size, modified, changed]}, "kinds": [[owner, group, mode]]}
    SHA-256 of that line

Paths are relative to the home, those of names to the view. `names` has every folder and every file of the view, and is
there only if all of the bundle was right: then a launch need not even parse the lock. The seal finds damage; that
nobody forges stamps is for where they stand (`bundler.home.stamps.places`).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bundler.files.digest import Hasher, sha256_bytes
from bundler.files.stamp import Stamp
from bundler.home.installed import InstalledBundle
from bundler.home.sharing.trusted_users import TrustedUsers
from bundler.home.stamps.columns import Columns, dump_columns, spell_columns

STAMPS_VERSION = 1
# 1,000,000 files take about 200 MB.
MOST_BYTES = 1 << 28

Kind = tuple[int, int, int]


class DamagedStampsError(ValueError):
    """A file of stamps that says nothing."""


@dataclass(frozen=True, kw_only=True)
class Stamps:
    """What was hashed of one generation.

    Attributes:
        name: The bundle's name.
        digest: Its digest.
        lock_blake3: BLAKE3 of the lock's text in the receipt, in hex.
        hashed_at: When all of it was last hashed, in seconds since 1970.
        files: How many files with content it has.
        size_bytes: Their length together.
        content: Path below the home -> the stamp of a file, and its BLAKE3 in hex.
        names: Path below its view -> stamp, of every folder and file there; empty where something was wrong.
        kinds: Owner, group and mode of whatever is in the view, each once.
    """

    name: str
    digest: str
    lock_blake3: str
    hashed_at: float
    files: int = 0
    size_bytes: int = 0
    content: Mapping[str, tuple[Stamp, str]] = field(default_factory=dict)
    names: Mapping[str, Stamp] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ()

    def dumps(self) -> bytes:
        """Return the text, sealed."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Yield the text, sealed, piece by piece: of 100,000 files it takes 19 MB, and on the way twice as much."""
        hasher = Hasher(("sha256",), size_bytes=0)
        for piece in self._spell():
            encoded = piece.encode()
            hasher.update(encoded)
            yield encoded
        yield f"\n{hasher.result().sha256}\n".encode()

    def _spell(self) -> Iterator[str]:
        head = {
            "stamps_version": STAMPS_VERSION,
            "name": self.name,
            "digest": self.digest,
            "lock_blake3": self.lock_blake3,
            "hashed_at": self.hashed_at,
            "files": self.files,
            "size_bytes": self.size_bytes,
        }
        yield f'{_to_json(head)[:-1]},"content":'
        yield from spell_columns(self.content)
        yield f',"names":{_to_json(self.names)},"kinds":{_to_json(self.kinds)}}}'

    @classmethod
    def loads(cls, text: bytes) -> Stamps:
        """Read a text.

        Raises:
            DamagedStampsError: It is damaged, or of another version.
        """
        body, _, seal = text.removesuffix(b"\n").rpartition(b"\n")
        if sha256_bytes(body).encode() != seal:
            raise DamagedStampsError("its own sha256 differs")
        try:
            # What has its seal was written by this module.
            raw = json.loads(body)
            if not isinstance(raw, dict) or raw["stamps_version"] != STAMPS_VERSION:
                raise DamagedStampsError(f"expected stamps of version {STAMPS_VERSION}")
            names = {path: Stamp(*stamp) for path, stamp in raw["names"].items()}
            return cls(
                name=raw["name"],
                digest=raw["digest"],
                lock_blake3=raw["lock_blake3"],
                hashed_at=float(raw["hashed_at"]),
                files=int(raw["files"]),
                size_bytes=int(raw["size_bytes"]),
                content=Columns(raw["content"]),
                names=names,
                kinds=tuple((int(owner), int(group), int(mode)) for owner, group, mode in raw["kinds"]),
            )
        except (RecursionError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedStampsError(f"not understood: {error}") from error

    def is_about(self, bundle: InstalledBundle) -> bool:
        """Tell whether they were taken of this generation, with all that is installed of it."""
        return (self.name, self.digest, self.lock_blake3) == (
            bundle.name,
            bundle.digest,
            bundle.receipt.lock_blake3,
        )

    def holds(self, bundle: InstalledBundle, users: TrustedUsers) -> bool:
        """Tell whether nothing of a generation and its view has changed since all of it was right.

        Its lock is not parsed, and no content read.
        """
        if not self.names or len(self.content) < self.files:
            return False
        home = str(bundle.hf_home)
        places = (f"{home}/{folder}" for folder in _list_folders(self.content))
        if any(users.judge(_make_status(kind)) for kind in self.kinds) or any(map(users.judge_place, places)):
            return False
        if not names_hold(self.names, str(bundle.view)):
            return False
        content = self.content if isinstance(self.content, Columns) else Columns(dump_columns(self.content))
        try:
            return content.hold(home, lambda status: users.judge(status) is None)
        except OSError:
            return False

    def find_unchanged(self, home: Path) -> dict[str, tuple[int, ...]]:
        """Return path -> device, inode, length and times of each file that has not changed."""
        found: dict[str, tuple[int, ...]] = {}
        for path, (stamp, _) in self.content.items():
            try:
                status = os.lstat(f"{home}/{path}")
            except OSError:
                continue
            if Stamp.of(status) == stamp and stat.S_ISREG(status.st_mode):
                found[path] = (status.st_dev, *stamp)
        return found

    def settled(self, moment_ns: int, *, known: Collection[tuple[int, ...]] = ()) -> Stamps:
        """Return what of them says something: of what had changed last before a moment, in ns (`files.stamp`).

        Args:
            moment_ns: From before anything was hashed.
            known: Device and stamp of files that had settled earlier, and have not changed.
        """
        earlier = {key[1:] for key in known}
        names = self.names if all(stamp.changed_ns < moment_ns for stamp in self.names.values()) else {}
        content = {
            path: item
            for path, item in self.content.items()
            if item[0].changed_ns < moment_ns or tuple(item[0]) in earlier
        }
        return replace(self, content=content, names=names, kinds=self.kinds if names else ())

    @property
    def last_change_ns(self) -> int:
        """When the youngest of the files and folders changed."""
        stamps = [*self.names.values(), *(stamp for stamp, _ in self.content.values())]
        return max((stamp.changed_ns for stamp in stamps), default=0)


def _to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def names_hold(names: Mapping[str, Stamp], root: str) -> bool:
    """Tell whether every folder and file below a root has its stamp.

    A folder's stamp is that of its entries: then nothing was added, removed or renamed, and no link turned.
    """
    try:
        return all(Stamp.of(os.lstat(f"{root}/{path}")) == stamp for path, stamp in names.items())
    except OSError:
        return False


def _list_folders(paths: Iterable[str]) -> set[str]:
    """Return the folders on the way from the home to some files."""
    folders = {path.rpartition("/")[0] for path in paths}
    return {
        "/".join(parts[:count])
        for folder in folders
        for parts in [folder.split("/")]
        for count in range(1, len(parts) + 1)
    }


def _make_status(kind: Kind) -> os.stat_result:
    owner, group, mode = kind
    return os.stat_result((mode, 0, 0, 1, owner, group, 0, 0, 0, 0))
