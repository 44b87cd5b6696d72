"""Packing alone, for the clock: the half of `bundle fetch` that comes after download and proof.

    python -m benchmarks.pack.pack_child lock NAME REPO_ID FOLDER LOCK      a complete lock of the files in FOLDER
    python -m benchmarks.pack.pack_child pack LOCK FOLDER OUT [JOBS]        what is measured

A lock holds digests that `bundle fetch` takes while it downloads, hence they are taken before the clock starts.
Packing hashes all content again, and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bundler.files.digest import hash_file
from bundler.make.pack import pack
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock, LockedFile, LockedRepo

_COMMIT = "be" * 20


def lock_of(name: str, repo_id: str, folder: Path) -> Lock:
    """Return a complete lock of one model repo that has the files in `folder`, the large ones in LFS."""
    files = []
    for path in sorted(folder.iterdir()):
        digests = hash_file(path, "sha256", "git_sha1", "blake3")
        assert digests.git_sha1, "asked for"
        files.append(
            LockedFile(
                path=path.name,
                size_bytes=digests.size_bytes,
                blob_id=digests.git_sha1,
                lfs_sha256=digests.sha256 if path.suffix == ".safetensors" else None,
                sha256=digests.sha256,
                blake3=digests.blake3,
            )
        )
    repo = LockedRepo(kind="model", repo_id=repo_id, revision="main", commit=_COMMIT, files=tuple(files))
    return Lock(name=name, manifest_sha256="0" * 64, repos=(repo,))


def pack_folder(lock: Lock, folder: Path, out: Path, jobs: int | None) -> None:
    """Pack the files of `folder` as `lock` names them."""
    # No more than the lock has: of 100,000 files a Path for each takes as much as the rest.
    by_etag = {file.etag: file.path for repo in lock.repos for file in repo.files}

    def path_of(blob: Blob) -> Path:
        return folder / by_etag[blob.etag]

    pack(lock, path_of, out, jobs=jobs)


def main(arguments: list[str]) -> None:
    """Do what the command line says (see the module's text)."""
    match arguments:
        case ["lock", name, repo_id, folder, out]:
            Path(out).write_text(lock_of(name, repo_id, Path(folder)).dumps(), encoding="utf-8")
        case ["pack", lock, folder, out, *jobs]:
            parsed = Lock.loads(Path(lock).read_text(encoding="utf-8"), source=lock)
            pack_folder(parsed, Path(folder), Path(out), int(jobs[0]) if jobs else None)
        case _:
            sys.exit(f"usage: see the beginning of {__file__}")


if __name__ == "__main__":
    main(sys.argv[1:])
