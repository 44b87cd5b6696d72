"""Tiny real bundles, built in a test from literals, without a Hub."""

from __future__ import annotations

import hashlib
import posixpath
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bundler.files.digest import Hasher
from bundler.format.codec.codecs import Buffer
from bundler.format.source import Source, Span, Take
from bundler.home.log import LOG_NAME
from bundler.make.pack import pack
from bundler.plan.file_rules import Into, file_name
from bundler.plan.git_objects import commit_id, lfs_pointer_id
from bundler.plan.layout import Blob, Layout
from bundler.plan.lock import Card, Lock, LockedFile, LockedRepo, Origin, PreparedFile
from bundler.plan.names import RepoKind

COMMIT = "c" * 40
OTHER_COMMIT = "d" * 40


def locked_file(path: str, content: bytes, *, lfs: bool = False) -> LockedFile:
    """A complete `LockedFile` of `content`."""
    hasher = Hasher(("sha256", "git_sha1", "blake3"), size_bytes=len(content))
    hasher.update(content)
    digests = hasher.result()
    assert digests.git_sha1 and digests.sha256
    return LockedFile(
        path=path,
        size_bytes=len(content),
        blob_id=digests.git_sha1,
        lfs_sha256=digests.sha256 if lfs else None,
        sha256=digests.sha256,
        blake3=digests.blake3,
    )


def locked_repo(
    repo_id: str,
    files: Mapping[str, bytes],
    *,
    kind: RepoKind = "model",
    revision: str = "main",
    commit: str = COMMIT,
    refs: Iterable[str] = (),
    aliases: Iterable[str] = (),
    absent: Iterable[str] = (),
    prepared: Mapping[str, bytes] | None = None,
    lfs: Iterable[str] = (),
    licenses: Iterable[str] | None = None,
) -> LockedRepo:
    """A complete `LockedRepo` with these files."""
    ready = {path: locked_file(path, content) for path, content in (prepared or {}).items()}
    return LockedRepo(
        kind=kind,
        repo_id=repo_id,
        revision=revision,
        commit=commit,
        refs=tuple(refs),
        aliases=tuple(sorted(aliases)),
        card=None if licenses is None else Card(licenses=tuple(sorted(licenses))),
        files=tuple(locked_file(path, files[path], lfs=path in set(lfs)) for path in sorted(files)),
        absent=tuple(sorted(absent)),
        prepared=tuple(
            PreparedFile(path=path, size_bytes=f.size_bytes, sha256=f.sha256 or "", blake3=f.blake3 or "")
            for path, f in sorted(ready.items())
        ),
    )


def locked_web_file(
    url: str, files: Mapping[str, bytes], *, into: Into = "files", unpacked: bool = False
) -> LockedRepo:
    """A complete entry of a file of another host, or of the files in a zip."""
    locked = tuple(
        replace(file, blob_id=lfs_pointer_id(file.sha256 or "", file.size_bytes))
        for file in (locked_file(path, files[path], lfs=True) for path in sorted(files))
    )
    return LockedRepo(
        kind="file",
        repo_id=file_name(url, into),
        revision="main",
        commit=commit_id({file.path: file.blob_id for file in locked}),
        trust_remote_code=unpacked,
        origin=Origin(
            url=url,
            into=into,
            size_bytes=locked[0].size_bytes,
            sha256=locked[0].sha256 or "",
            unpacked=unpacked,
        ),
        files=locked,
    )


def lock_of(*repos: LockedRepo, name: str = "tiny") -> Lock:
    """A lock of these repos."""
    return Lock(name=name, manifest_sha256="0" * 64, repos=tuple(repos))


def blob_store(directory: Path, contents: Iterable[bytes]) -> Callable[[Blob], Path]:
    """Write contents to `directory` by their SHA-256 and return the `blob_path` that `pack` wants."""
    directory.mkdir(parents=True, exist_ok=True)
    for content in contents:
        (directory / hashlib.sha256(content).hexdigest()).write_bytes(content)
    return lambda blob: directory / blob.sha256


def tiny_bundle(
    directory: Path, *repos: LockedRepo, contents: Iterable[bytes], name: str = "tiny", jobs: int = 2
) -> Path:
    """Pack these repos into `directory/NAME.tar.zst`."""
    out = directory / f"{name}.tar.zst"
    pack(lock_of(*repos, name=name), blob_store(directory / "store", contents), out, jobs=jobs)
    return out


def read_content(home: Path) -> dict[str, str]:
    """What libraries find in an HF_HOME, links by where they lead; without what is the bundler's own there."""
    return {
        path: f"-> {posixpath.normpath(posixpath.join(posixpath.dirname(path), value[3:]))}"
        if value.startswith("-> ")
        else value
        for path, value in tree(home).items()
        if not path.startswith("bundles/") and "/refs/bundle/" not in path
    }


def tree(root: Path) -> dict[str, str]:
    """Everything below `root` as path -> content digest, or the target of a link; for comparing whole states.

    The log, the stamps and the times of use are left out: they say when.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.name == LOG_NAME or path.suffix in (".stamps", ".used"):
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def put_blobs(hf_home: Path, content: Layout, contents: Iterable[bytes]) -> None:
    """Write every blob of a layout to its place, as an installation does before it publishes any name."""
    by_digest = {hashlib.sha256(each).hexdigest(): each for each in contents}
    for blob in content.blobs:
        path = hf_home / blob.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(by_digest[blob.sha256])


def collect(source: Source, wanted: Sequence[Span], jobs: int, found: dict[int, bytes] | None = None) -> bytes:
    """Read a bundle, and return what it handed out, joined in the order of the tar stream.

    Args:
        source: The bundle.
        wanted: What is wanted of it.
        jobs: Threads.
        found: Gets each run under its start, as soon as it is there.
    """
    runs = {} if found is None else found
    mutex = threading.Lock()

    def prepare(start: int, stop: int) -> Take:
        def take(raw: Buffer, done: Callable[[], None]) -> None:
            assert len(raw) == stop - start
            with mutex:
                assert start not in runs
                runs[start] = bytes(raw)
            done()

        return take

    source.hand_out(wanted, prepare, jobs=jobs)
    return b"".join(run for _, run in sorted(runs.items()))
