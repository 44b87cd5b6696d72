"""Install a bundle into HF_HOME: verify, write blobs, then snapshots, then refs, then the receipt.

Rule book (each line is a guarantee that `tests/test_install*.py` tries to break):

* room is checked before anything is written;
* a blob is written under a temporary name on the same file system, hashed on the way, synced, and renamed only if
  it is what the lock names; a blob that is already there is used only after hashing;
* nothing that the libraries can see is written before every blob is in place, and the receipt comes last: a run
  that is killed leaves the cache as usable as before, and the next run goes on from what is verified;
* a bundle is read from a file, from volumes or from a pipe by the same steps (`bundler.format.source`): of a pipe,
  the index that confirms the chunks comes last, and so nothing is published before its end;
* what a run that fails or is killed leaves verified is listed (`bundler.home.unfinished`), and used or deleted by
  the next one, or by a removal;
* what stood there before stays when the bundle is removed (`bundler.home.found`);
* what stands in a snapshot and no bundle ships is moved out of it, never deleted (`bundler.home.set_aside`);
* paths and links come from the lock through `bundler.plan.layout`, never from the tar stream;
* one process at a time installs or removes (`bundler.home.exclusive`); what needs a ref that another installed
  bundle needs otherwise is refused before it writes (`bundler.home.conflicts`), so that every installed bundle
  always verifies.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import BundleError, NotInstalledError, SpaceError
from bundler.files.cores import available_cores
from bundler.files.paths import inside, remove_leftovers
from bundler.format.reader import BundleReader
from bundler.format.source import Source
from bundler.format.stream import BundleStream, Readable
from bundler.home.conflicts import check_conflicts
from bundler.home.exclusive import Note, home_lock, no_note
from bundler.home.found import forget, look
from bundler.home.installed import InstalledBundle, installed_bundles, other_trees
from bundler.home.prune import prune
from bundler.home.publish import place_prepared, publish, publish_trees, symlinks_work
from bundler.home.receipt import receipt_path, write_receipt
from bundler.home.set_aside import set_aside
from bundler.home.unfinished import (
    clear_unfinished,
    note_unfinished,
    unfinished_blobs,
    unfinished_path,
)
from bundler.home.unpack import Staging, from_base, locate, write_blobs
from bundler.plan.layout import BUNDLES_FOLDER, Blob, Layout, layout, snapshot_link_target
from bundler.plan.lock import Lock
from bundler.text.wording import counted
from bundler.verify.report import Progress, no_progress

# Room for one file's directory entry, inode and last block.
_OVERHEAD_BYTES_PER_FILE = 4096


@dataclass(frozen=True)
class InstallResult:
    """What an installation did.

    Attributes:
        bundle: What is installed now.
        files: Blobs and prepared files of the bundle, or of the part of it that was asked for.
        size_bytes: Their bytes.
        written_files: How many of them were written; the others were there, and are verified.
        written_bytes: Their bytes.
        symlinks: Whether snapshots are links; else hard links or copies.
        moved_refs: Refs that now name another commit than before, as (path, old commit, new commit).
        set_aside: Files that stood in a snapshot and that no bundle ships, as (path, where it is now).
        was_complete: Whether all of it was there, so that nothing at all was written.
    """

    bundle: InstalledBundle
    files: int
    size_bytes: int
    written_files: int
    written_bytes: int
    symlinks: bool
    moved_refs: tuple[tuple[str, str, str], ...]
    set_aside: tuple[tuple[str, str], ...]
    was_complete: bool = False


def install(
    source: Path | Sequence[Path] | Readable,
    hf_home: Path,
    *,
    only: Sequence[str] = (),
    jobs: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Progress = no_progress,
    on_note: Note = no_note,
) -> InstallResult:
    """Verify a bundle and unpack it into `hf_home`.

    Args:
        source: The bundle: a file, volumes (`bundler.format.storage.volumes.open_stored`), or a raw stream.
        hf_home: The cache root; made when missing.
        only: Repo ids or aliases: install these repos and read no other's bytes. What is installed of the same
            bundle already stays; default everything.
        jobs: Threads; default all cores.
        on_total: Called once with the number of bytes that `progress` will add up to.
        progress: Called with the number of bytes verified since the last call.
        on_note: Told what a person should know of and is no error.

    Raises:
        ConflictError: Another installed bundle needs a ref, or another name, to be something else: nothing was
            written.
        FormatError: Not a bundle, or damaged: nothing visible was changed.
        IntegrityError: Its content is not what its lock names: nothing visible was changed.
        NotInstalledError: The bundle has no repo that `only` names: nothing was written.
        SpaceError: Not enough room: nothing was written.
    """
    jobs = jobs or available_cores()
    with contextlib.closing(_open(source)) as bundle, home_lock(hf_home, on_note=on_note):
        whole = bundle.lock
        part = _part(bundle, only)
        content = bundle.plan.layout if part == whole else layout(part)
        before = _previous(hf_home, whole.name)
        others = _neighbours(hf_home, whole.name, on_note)
        check_conflicts(whole.name, content, others)
        if before is not None and not set(before.lock.repos) <= set(whole.repos):
            # Raises where a receipt is damaged: what of the old version may be deleted cannot be told.
            installed_bundles(hf_home)
        staging = Staging(hf_home)
        _sweep(hf_home, content)
        on_total(sum(blob.size_bytes for blob in content.blobs))
        located = locate(staging, content, jobs, progress)
        places = {blob.sha256: located[blob.path] for blob in content.blobs if blob.path in located}
        places |= from_base(bundle, content, hf_home, places, jobs)
        wanted = [blob for blob in content.blobs if blob.path not in located]
        _check_room(hf_home, wanted)
        is_publishing = False
        try:
            found = look(
                hf_home,
                whole.name,
                content,
                previous=before.layout if before else None,
                others=others.values(),
                unfinished=unfinished_blobs(hf_home, whole.name),
            )
            if wanted:
                note_unfinished(hf_home, whole.name, [blob.path for blob in wanted])
            write_blobs(bundle, staging, wanted, places, jobs, progress, is_part=part != whole)
            installed = _installed(hf_home, whole, part, before, bundle.digest)
            if not wanted and installed == before and _is_complete(installed, content, jobs):
                # Taken over from a run that was killed in its last steps.
                shutil.rmtree(staging.folder, ignore_errors=True)
                clear_unfinished(hf_home, whole.name, keep=[*others.values(), installed.layout])
                return _nothing_to_do(installed, content)
            cleared = set_aside(hf_home, content, [*others.values(), *([before.layout] if before else [])])
            is_publishing = True
            place_prepared(hf_home, content, places)
            symlinks = _symlinks(hf_home, content)
            moved = tuple(_moved_refs(hf_home, content))
            trees = other_trees(hf_home, whole.name)
            publish(hf_home, content, symlinks=symlinks, located=located, other_trees=trees)
            if installed != before:
                write_receipt(hf_home, installed.lock, installed.digest, installed.left_out)
            shutil.rmtree(staging.folder, ignore_errors=True)
            # Another installation may have written its receipt between our look and ours: look again, now that
            # it can see ours. Whoever comes last has seen both.
            if (now := other_trees(hf_home, whole.name)) != trees:
                publish_trees(hf_home, content, now)
        except BundleError:
            if before is None and not is_publishing:
                forget(hf_home, whole.name)
            _say_what_is_kept(hf_home, whole.name, on_note)
            raise
        except OSError as error:
            raise _explained(error, hf_home) from error
        keep = [*others.values(), installed.layout]
        if before is not None and before.lock != installed.lock:
            prune(hf_home, before.layout, keep=keep, stays=found.paths)
        clear_unfinished(hf_home, whole.name, keep=keep)
        return InstallResult(
            bundle=installed,
            files=len(content.blobs),
            size_bytes=sum(blob.size_bytes for blob in content.blobs),
            written_files=len(wanted),
            written_bytes=sum(blob.size_bytes for blob in wanted),
            symlinks=symlinks,
            moved_refs=moved,
            set_aside=tuple(cleared),
        )


def _open(source: Path | Sequence[Path] | Readable) -> Source:
    if isinstance(source, Path | Sequence):
        return BundleReader(source)
    return BundleStream(source)


def _part(bundle: Source, only: Sequence[str]) -> Lock:
    """Return the lock reduced to the repos that `only` names, or the whole lock if it names none."""
    if not only:
        return bundle.lock
    repos = bundle.lock.repos
    known = {name for repo in repos for name in (repo.repo_id, *repo.aliases)}
    for name in only:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise NotInstalledError(
                f"{bundle.label}: bundle {bundle.lock.name} has no repo {name!r}; it has: {', '.join(sorted(known))}",
                hint=f"did you mean {close[0]!r}?" if close else "choose one of these for --only",
            )
    # A repo is taken whole, all of its entries: they share a folder, and with it refs and listings.
    ids = {(r.repo_type, r.repo_id) for r in repos if {r.repo_id, *r.aliases} & set(only)}
    return bundle.lock.with_repos(tuple(r for r in repos if (r.repo_type, r.repo_id) in ids))


def _installed(
    hf_home: Path, whole: Lock, part: Lock, before: InstalledBundle | None, digest: str
) -> InstalledBundle:
    """Return what is installed now: `part`, and what was there of this bundle before and is the same in it."""
    there = {*part.repos, *(before.lock.repos if before else ())}
    repos = tuple(repo for repo in whole.repos if repo in there)
    left_out = {repo.repo_id for repo in whole.repos} - {repo.repo_id for repo in repos}
    return InstalledBundle(hf_home, whole.with_repos(repos), digest, tuple(sorted(left_out)))


def _say_what_is_kept(hf_home: Path, name: str, on_note: Note) -> None:
    path = unfinished_path(hf_home, name)
    count = sum(inside(hf_home, blob).exists() for blob in unfinished_blobs(hf_home, name))
    if count:
        on_note(
            f"kept for the next try: {counted(count, 'verified file')} of {name}; `bundle remove {name}` deletes "
            f"what nothing else uses of them ({path} lists them)"
        )
    else:
        path.unlink(missing_ok=True)


def _is_complete(installed: InstalledBundle, content: Layout, jobs: int) -> bool:
    """Tell whether a bundle whose blobs are all verified verifies in all else too."""
    hf_home = installed.hf_home
    links = [inside(hf_home, file.path) for repo in content.repos for file in repo.snapshots]
    links += [inside(hf_home, path) for repo in content.repos for path, _ in repo.alias_links()]
    # What is no link has content of its own, which nobody has hashed yet.
    return installed.verify(quick=all(path.is_symlink() for path in links), jobs=jobs).ok


def _nothing_to_do(installed: InstalledBundle, content: Layout) -> InstallResult:
    return InstallResult(
        bundle=installed,
        files=len(content.blobs),
        size_bytes=sum(blob.size_bytes for blob in content.blobs),
        written_files=0,
        written_bytes=0,
        symlinks=any(
            inside(installed.hf_home, file.path).is_symlink() for repo in content.repos for file in repo.snapshots
        ),
        moved_refs=(),
        set_aside=(),
        was_complete=True,
    )


def _symlinks(hf_home: Path, content: Layout) -> bool:
    """Tell whether the file system has symlinks: by what is there, and only else by making one."""
    for repo in content.repos:
        for file in repo.snapshots:
            if (place := inside(hf_home, file.path)).is_symlink():
                return place.readlink() == Path(snapshot_link_target(file.path, file.blob.path)) or symlinks_work(
                    hf_home / "hub"
                )
    return symlinks_work(hf_home / "hub")


def _previous(hf_home: Path, name: str) -> InstalledBundle | None:
    """Return the installed bundle of that name, if its receipt can be trusted to say what it owns."""
    try:
        return InstalledBundle.open(name, hf_home)
    except BundleError:
        return None


def _neighbours(hf_home: Path, name: str, on_note: Note) -> dict[str, Layout]:
    """Return what other bundles are installed, by name."""

    def unknown(error: BundleError) -> None:
        if error.message.startswith(f"{receipt_path(hf_home, name)}:"):
            return  # Its own: it is about to be written again.
        on_note(f"{error.message}; what it needs beside {name} cannot be told")

    return {
        bundle.name: bundle.layout
        for bundle in installed_bundles(hf_home, on_damage=unknown)
        if bundle.name != name
    }


def _sweep(hf_home: Path, content: Layout) -> None:
    """Delete what killed installations left half-written in the folders that this one writes to."""
    now = time.time()
    folders = {hf_home / BUNDLES_FOLDER}
    for repo in content.repos:
        folders.add(inside(hf_home, repo.folder))
        folders |= {inside(hf_home, path) for path, _ in repo.alias_links()}
        folders |= {inside(hf_home, blob.path).parent for blob in repo.prepared}
    for folder in folders:
        remove_leftovers(folder, now=now)
    for shared in ("hub", "datasets"):
        remove_leftovers(hf_home / shared, now=now, below=False)


def _check_room(hf_home: Path, wanted: list[Blob]) -> None:
    if not wanted:
        return
    unique = {blob.sha256: blob.size_bytes for blob in wanted}
    needed = sum(unique.values()) + _OVERHEAD_BYTES_PER_FILE * len(wanted)
    place = next(path for path in (hf_home, *hf_home.parents) if path.exists())
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise SpaceError(
            f"{hf_home}: installing needs {needed:,} bytes, {free:,} are free; nothing was written",
            hint="free some, or install to another file system with --hf-home",
        )


def _moved_refs(hf_home: Path, content: Layout) -> Iterable[tuple[str, str, str]]:
    for repo in content.repos:
        for text in repo.ref_texts():
            try:
                old = inside(hf_home, text.path).read_text()
            except (OSError, UnicodeDecodeError):
                continue
            if old != text.content.decode():
                yield text.path, old, text.content.decode()


def _explained(error: OSError, hf_home: Path) -> BaseException:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError(
            f"{hf_home}: the file system filled up while installing; what is written is kept and verified",
            hint="free some space and run the same command again",
        )
    return error
