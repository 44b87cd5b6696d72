"""Keeps what this version writes, for the tests of all later ones: `python -m tests.releases.make`.

It is the last step before a release is tagged (RELEASE.md). It makes a folder named for the version, `0.1` for all of
0.1.x, and refuses to touch one that is there: what a release wrote changes never.

    release.json      the version that wrote all this, and the digest that an installation of each bundle has
    KIND.tar.zst      a bundle of each kind of tests/golden, `volumes` in several files
    base.lock         the lock of all of them but the delta
    next.lock         the lock of the delta
    home.json         an HF_HOME in which the base was installed over a download of the user's own; contents that
                      the bundle has are named by their SHA-256
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from bundler import __version__
from bundler.format.storage.destinations import VolumeDestination
from bundler.home.installation.install import install
from bundler.make.delta import Base
from bundler.make.pack import pack
from tests.golden.make import CONTENTS, LOCK, NEXT_LOCK, PREPARED, VOLUME_BYTES
from tests.golden.make import FILES as BUNDLE_FILES
from tests.support.bundles import blob_store

HERE = Path(__file__).parent
# What a user had downloaded before the bundle came: removing the bundle gives it all back.
OWN_COMMIT, OWN_BLOB = "e" * 40, "f" * 40
OWN_DOWNLOAD = {
    f"hub/models--org--model/blobs/{OWN_BLOB}": "a file of another commit",
    "hub/models--org--model/refs/main": OWN_COMMIT,
}
OWN_LINK = (f"hub/models--org--model/snapshots/{OWN_COMMIT}/own.txt", f"../../blobs/{OWN_BLOB}")


def release_folder(version: str) -> Path:
    """Return the folder of a version: of ``0.1.2`` it is ``0.1``."""
    return HERE / ".".join(version.split(".")[:2])


def pack_bundles(folder: Path) -> dict[str, str]:
    """Write a bundle of each kind and return the digests that installations of them have."""
    with tempfile.TemporaryDirectory() as scratch:
        store = blob_store(Path(scratch), CONTENTS)
        base = folder / "auto.tar.zst"
        return {
            "auto": pack(LOCK, store, base).whole_digest,
            "zstd": pack(LOCK, store, folder / "zstd.tar.zst", codec="zstd").whole_digest,
            "volumes": pack(LOCK, store, VolumeDestination(folder / "volumes.tar.zst", VOLUME_BYTES)).whole_digest,
            "delta": pack(NEXT_LOCK, store, folder / "delta.tar.zst", base=Base.open(base)).whole_digest,
        }


def write_own_download(home: Path) -> None:
    """Put a download of the user's own into an HF_HOME, as the Hub's client leaves it."""
    for name, text in OWN_DOWNLOAD.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    name, target = OWN_LINK
    (home / name).parent.mkdir(parents=True)
    (home / name).symlink_to(target)


def describe_home(home: Path) -> dict[str, dict[str, str]]:
    """Return an HF_HOME as path -> its text, the target of a link, or the SHA-256 of a content of the bundle."""
    contents = {
        hashlib.sha256(content).hexdigest() for content in [*BUNDLE_FILES.values(), *PREPARED.values(), b"d"]
    }
    found = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if path.is_symlink():
            found[name] = {"link": str(path.readlink())}
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = {"sha256": digest} if digest in contents else {"text": path.read_text()}
    return found


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON that a person can read."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def make_release(folder: Path) -> None:
    """Write what this version leaves into an empty folder."""
    write_json(folder / "release.json", {"version": __version__, "digests": pack_bundles(folder)})
    (folder / "base.lock").write_text(LOCK.dumps())
    (folder / "next.lock").write_text(NEXT_LOCK.dumps())
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        write_own_download(home)
        install(folder / "auto.tar.zst", home)
        write_json(folder / "home.json", describe_home(home))


def main() -> None:
    folder = release_folder(__version__)
    if folder.exists():
        sys.exit(f"error: {folder} is there already: what a release wrote is never written again")
    with tempfile.TemporaryDirectory(dir=HERE) as scratch:
        made = Path(scratch) / folder.name
        made.mkdir()
        make_release(made)
        made.rename(folder)
    print(folder)


if __name__ == "__main__":
    main()
