"""Install a bundle into HF_HOME: verify, write blobs, then snapshots, then refs, then the receipt.

Rule book (each line is a guarantee that `tests/home/test_install*.py` tries to break):

* room is checked before anything is written;
* a blob is written under a temporary name on the same file system, hashed on the way, synced, and renamed only if
  it is what the lock names; a blob that is already there is used only after hashing;
* nothing that the libraries can see is written before every blob is in place, and the receipt comes last: a run
  that is killed leaves the cache as usable as before, and the next run goes on from what is verified;
* a bundle is read from a file, from volumes or from a pipe by the same steps (`bundler.format.source`): of a pipe,
  the index that confirms the chunks comes last, and so nothing is published before its end;
* what a run that fails or is killed leaves verified is listed (`bundler.home.journal`), and used or deleted by
  the next one, or by a removal;
* what stood there before stays when the bundle is removed (`bundler.home.journal`);
* what stands in a snapshot and no bundle ships is moved out of it, never deleted (`bundler.home.set_aside`);
* paths and links come from the lock through `bundler.plan.layout`, never from the tar stream;
* one process at a time installs or removes (`bundler.home.exclusive`); what needs a ref that another installed
  bundle needs otherwise is refused before it writes (`bundler.home.conflicts`), so that every installed bundle
  always verifies.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bundler.errors import BundleError, SpaceError
from bundler.files.leftovers import remove_leftovers
from bundler.files.links import symlinks_work
from bundler.files.parallel import available_cores
from bundler.files.paths import inside
from bundler.files.space import check_room, is_disk_full
from bundler.format.reader import BundleReader
from bundler.format.source import Source
from bundler.format.stream import BundleStream, Readable
from bundler.home.conflicts import check_conflicts
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.home import Home
from bundler.home.installed import InstalledBundle
from bundler.home.journal import (
    Found,
    clear_unfinished,
    forget_found,
    note_unfinished,
    read_unfinished,
    record_found,
    unfinished_path,
)
from bundler.home.part import join_parts, select_part
from bundler.home.prune import prune
from bundler.home.publish import place_prepared, publish, publish_trees
from bundler.home.receipt import receipt_path, write_receipt
from bundler.home.set_aside import set_aside
from bundler.home.unpack import Staging, find_base_content, locate, write_blobs
from bundler.plan.layout import BUNDLES_FOLDER, Blob, Layout, layout, snapshot_link_target
from bundler.plan.lock import LockedFile
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
    with contextlib.closing(_open(source)) as bundle, lock_home(hf_home, on_note=on_note):
        return _Installation(bundle, Home(hf_home), only, jobs or available_cores(), on_note).run(
            on_total, progress
        )


class _Installation:
    """One bundle on its way into one home, under the lock of that home."""

    def __init__(self, bundle: Source, home: Home, only: Sequence[str], jobs: int, on_note: Note) -> None:
        self.bundle = bundle
        self.home = home
        self.hf_home = home.path
        self.name = bundle.lock.name
        self.jobs = jobs
        self.on_note = on_note
        self.part = select_part(bundle, only)
        self.is_part = self.part != bundle.lock
        self.content = layout(self.part) if self.is_part else bundle.plan.layout
        self.before = self._open_previous()
        self.is_publishing = False
        self.symlinks = False
        self.moved_refs: tuple[tuple[str, str, str], ...] = ()
        self.set_aside: tuple[tuple[str, str], ...] = ()

    def run(self, on_total: Callable[[int], None], progress: Progress) -> InstallResult:
        """Take all steps, in the order that makes each of them safe to be killed in."""
        check_conflicts(self.name, self.content, self.others)
        if self.before is not None and not set(self.before.lock.repos) <= set(self.bundle.lock.repos):
            # Before anything changes: what of the old version may be deleted, a damaged receipt cannot tell.
            self.home.bundles()
        staging = Staging(self.hf_home)
        self._sweep()
        on_total(sum(blob.size_bytes for blob in self.content.blobs))
        located = locate(staging, self.content, self.jobs, progress)
        places = {blob.sha256: located[blob.path] for blob in self.content.blobs if blob.path in located}
        places |= find_base_content(self.bundle, self.content, self.home, places, self.jobs)
        wanted = [blob for blob in self.content.blobs if blob.path not in located]
        _check_room(self.hf_home, wanted)
        try:
            found = self._record(wanted)
            write_blobs(self.bundle, staging, wanted, places, self.jobs, progress, is_part=self.is_part)
            if not wanted and self.installed == self.before and self._is_complete():
                # Taken over from a run that was killed in its last steps.
                shutil.rmtree(staging.folder, ignore_errors=True)
                clear_unfinished(self.hf_home, self.name, keep=self._kept())
                self.symlinks = self._has_symlinks()
                return self._result(wanted, was_complete=True)
            self._publish(located, places)
            shutil.rmtree(staging.folder, ignore_errors=True)
        except BundleError:
            if self.before is None and not self.is_publishing:
                forget_found(self.hf_home, self.name)
            self._say_what_is_kept()
            raise
        except OSError as error:
            raise _explain(error, self.hf_home) from error
        if self.before is not None and self.before.lock != self.installed.lock:
            prune(self.hf_home, self.before.layout, keep=self._kept(), stays=found.paths)
        clear_unfinished(self.hf_home, self.name, keep=self._kept())
        return self._result(wanted, was_complete=False)

    @cached_property
    def others(self) -> dict[str, Layout]:
        """What other bundles own that have a folder in common with this one, as it was or as it will be."""

        def tell(error: BundleError) -> None:
            if not error.message.startswith(f"{receipt_path(self.hf_home, self.name)}:"):  # about to be written
                self.on_note(f"{error.message}; what it needs beside {self.name} cannot be told")

        return self._find_neighbours(tell)

    @cached_property
    def installed(self) -> InstalledBundle:
        """What is installed in the end: this part, and what was there of the same bundle before."""
        there = self.before.lock.repos if self.before else ()
        lock, left_out = join_parts(self.bundle.lock, self.part, there)
        return self.home.make_installed(lock, self.bundle.digest, left_out)

    def _open_previous(self) -> InstalledBundle | None:
        """Return the installed bundle of that name, if its receipt can be trusted to say what it owns."""
        try:
            return self.home.bundle(self.name)
        except BundleError:
            return None

    def _find_neighbours(self, on_damage: Callable[[BundleError], None]) -> dict[str, Layout]:
        contents = [self.content, *([self.before.layout] if self.before else [])]
        unfinished = read_unfinished(self.hf_home, self.name)
        found = self.home.neighbours(contents, besides=self.name, blobs=unfinished, on_damage=on_damage)
        return {bundle.name: bundle.layout for bundle in found}

    def _kept(self) -> list[Layout]:
        return [*self.others.values(), self.installed.layout]

    def _sweep(self) -> None:
        """Delete what killed installations left half-written in the folders that this one writes to."""
        now = time.time()
        folders = {self.hf_home / BUNDLES_FOLDER}
        for repo in self.content.repos:
            folders.add(inside(self.hf_home, repo.folder))
            folders |= {inside(self.hf_home, path) for path, _ in repo.alias_links()}
            folders |= {inside(self.hf_home, blob.path).parent for blob in repo.prepared}
        for folder in folders:
            remove_leftovers(folder, now=now)
        for shared in ("hub", "datasets"):
            remove_leftovers(self.hf_home / shared, now=now, below=False)

    def _record(self, wanted: Sequence[Blob]) -> Found:
        """Write down what is there already, and what is about to be written."""
        found = record_found(
            self.hf_home,
            self.name,
            self.content,
            previous=self.before.layout if self.before else None,
            others=self.others.values(),
            unfinished=read_unfinished(self.hf_home, self.name),
        )
        if wanted:
            note_unfinished(self.hf_home, self.name, [blob.path for blob in wanted])
        return found

    def _publish(self, located: dict[str, Path], places: dict[str, Path]) -> None:
        """Make what is verified visible, and write the receipt."""
        keep = [*self.others.values(), *([self.before.layout] if self.before else [])]
        self.set_aside = tuple(set_aside(self.hf_home, self.content, keep))
        self.is_publishing = True
        place_prepared(self.hf_home, self.content, places)
        self.symlinks = self._find_symlinks()
        self.moved_refs = tuple(_find_moved_refs(self.hf_home, self.content))
        trees = _collect_trees(self.others)
        publish(self.hf_home, self.content, symlinks=self.symlinks, located=located, other_trees=trees)
        if self.installed != self.before:
            write_receipt(self.hf_home, self.installed.lock, self.installed.digest, self.installed.left_out)
        # Where the file system has no locks, another installation may have written its receipt between our look
        # and ours: look again, now that it can see ours. Whoever comes last has seen both.
        if (now := _collect_trees(self._find_neighbours(lambda error: None))) != trees:
            publish_trees(self.hf_home, self.content, now)

    def _is_complete(self) -> bool:
        """Tell whether a bundle whose blobs are all verified verifies in all else too."""
        links = [inside(self.hf_home, file.path) for repo in self.content.repos for file in repo.snapshots]
        links += [inside(self.hf_home, path) for repo in self.content.repos for path, _ in repo.alias_links()]
        # What is no link has content of its own, which nobody has hashed yet.
        return self.installed.verify(quick=all(path.is_symlink() for path in links), jobs=self.jobs).ok

    def _has_symlinks(self) -> bool:
        files = [file for repo in self.content.repos for file in repo.snapshots]
        return any(inside(self.hf_home, file.path).is_symlink() for file in files)

    def _find_symlinks(self) -> bool:
        """Tell whether the file system has symlinks: by what is there, and only else by making one."""
        for repo in self.content.repos:
            for file in repo.snapshots:
                if (place := inside(self.hf_home, file.path)).is_symlink():
                    expected = Path(snapshot_link_target(file.path, file.blob.path))
                    return place.readlink() == expected or symlinks_work(self.hf_home / "hub")
        return symlinks_work(self.hf_home / "hub")

    def _say_what_is_kept(self) -> None:
        path = unfinished_path(self.hf_home, self.name)
        blobs = read_unfinished(self.hf_home, self.name)
        if count := sum(inside(self.hf_home, blob).exists() for blob in blobs):
            self.on_note(
                f"kept for the next try: {counted(count, 'verified file')} of {self.name}; `bundle remove {self.name}` "
                f"deletes what nothing else uses of them ({path} lists them)"
            )
        else:
            path.unlink(missing_ok=True)

    def _result(self, wanted: Sequence[Blob], *, was_complete: bool) -> InstallResult:
        return InstallResult(
            bundle=self.installed,
            files=len(self.content.blobs),
            size_bytes=sum(blob.size_bytes for blob in self.content.blobs),
            written_files=len(wanted),
            written_bytes=sum(blob.size_bytes for blob in wanted),
            symlinks=self.symlinks,
            moved_refs=self.moved_refs,
            set_aside=self.set_aside,
            was_complete=was_complete,
        )


def _open(source: Path | Sequence[Path] | Readable) -> Source:
    if isinstance(source, Path | Sequence):
        return BundleReader(source)
    return BundleStream(source)


def _collect_trees(others: dict[str, Layout]) -> dict[tuple[str, str], list[LockedFile]]:
    """Return what other bundles ship of each (repo folder, commit)."""
    trees: dict[tuple[str, str], list[LockedFile]] = {}
    for content in others.values():
        for repo in content.repos:
            for folder in repo.hub_folders:
                for commit, files in repo.trees.items():
                    trees.setdefault((folder, commit), []).extend(files)
    return trees


def _check_room(hf_home: Path, wanted: list[Blob]) -> None:
    if not wanted:
        return
    unique = {blob.sha256: blob.size_bytes for blob in wanted}
    needed = sum(unique.values()) + _OVERHEAD_BYTES_PER_FILE * len(wanted)
    check_room({hf_home: needed}, hint="free some, or install to another file system with --hf-home")


def _find_moved_refs(hf_home: Path, content: Layout) -> Iterable[tuple[str, str, str]]:
    for repo in content.repos:
        for text in repo.ref_texts():
            try:
                old = inside(hf_home, text.path).read_text()
            except (OSError, UnicodeDecodeError):
                continue
            if old != text.content.decode():
                yield text.path, old, text.content.decode()


def _explain(error: OSError, hf_home: Path) -> BaseException:
    if is_disk_full(error):
        return SpaceError(
            f"{hf_home}: the file system filled up while installing; what is written is kept and verified",
            hint="free some space and run the same command again",
        )
    return error
