"""Install a bundle into HF_HOME: verify, write blobs, then snapshots, then refs, then the receipt.

Rule book (each line is a guarantee that `tests/home/test_install*.py` tries to break):

* room is checked before anything is written;
* a blob is written under a temporary name on the same file system, hashed on the way, synced, and renamed only if
  it is what the lock names; a blob that is already there is used only after hashing;
* nothing that the libraries can see is written before every blob is in place, and the receipt comes last: a run
  that is killed leaves the cache as usable as before, and the next run goes on from what is verified;
* a bundle is read from a file, from volumes or from a pipe by the same steps (`bundler.format.source`): of a pipe,
  the index that confirms the chunks comes last, and so nothing is published before its end;
* what a run that fails or is killed leaves verified is listed (`bundler.home.common.journal`), and used or deleted by
  the next one, or by a removal;
* what stood there before stays when the bundle is removed (`bundler.home.common.journal`);
* what stands in a snapshot and no bundle ships is moved out of it, never deleted (`bundler.home.common.set_aside`);
* paths and links come from the lock through `bundler.plan.layout`, never from the tar stream;
* one process at a time installs or removes (`bundler.home.exclusive`); what needs a ref that another installed
  bundle needs otherwise is refused before it writes (`bundler.home.common.conflicts`), so that every installed bundle
  always verifies.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from bundler.errors import BundleError, TrustError
from bundler.files.leftovers import remove_leftovers
from bundler.files.links import symlinks_work
from bundler.files.parallel import available_cores
from bundler.files.paths import inside
from bundler.format.reader import BundleReader
from bundler.format.source import Source
from bundler.format.stream import BundleStream, Readable
from bundler.home.common.conflicts import Held, check_conflicts
from bundler.home.common.journal import (
    clear_unfinished,
    forget_found,
    list_unfinished,
    note_unfinished,
    read_unfinished,
    record_found,
    unfinished_path,
)
from bundler.home.common.publish import find_moved_refs, gather_blobs, place_prepared, publish, publish_trees
from bundler.home.common.room import check_room_for, explain_full_disk
from bundler.home.common.set_aside import set_aside
from bundler.home.common.trees import collect_trees
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.generation import generation_path
from bundler.home.generations.adopt import adopt_generation
from bundler.home.generations.retire import finish_retirements, hand_over_names
from bundler.home.home import Home, ignore_damage
from bundler.home.install_result import InstallResult
from bundler.home.installed import InstalledBundle, Neighbours
from bundler.home.launches import make_folder
from bundler.home.log import append_to_log
from bundler.home.part import join_parts, select_part
from bundler.home.receipt import Receipt, receipt_path, set_current, write_receipt
from bundler.home.trust.gate import Admission, admit
from bundler.home.unpack import Staging, collect_checked, find_base_content, locate, write_blobs
from bundler.home.view.view import build_view
from bundler.plan.content import Content
from bundler.plan.layout import BUNDLES_FOLDER, Blob, layout, snapshot_link_target
from bundler.text.wording import counted
from bundler.verify.report import Progress, no_progress


def install(
    source: Path | Sequence[Path] | Readable,
    hf_home: Path,
    *,
    only: Sequence[str] = (),
    signature: Path | None = None,
    policy: Path | None = None,
    allow_rollback: bool = False,
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
        signature: The bundle's signature; default the one beside it, where there is one.
        policy: A policy that must hold besides the machine's; default that of BUNDLE_POLICY.
        allow_rollback: Take a bundle that is older than what was installed under its name.
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
        PolicyError: A policy is malformed: nothing was written.
        SpaceError: Not enough room: nothing was written.
        TrustError: Its signature, its statement or a policy is against it, or it is older: nothing is left of it.
    """
    with contextlib.closing(_open(source)) as bundle, lock_home(hf_home, on_note=on_note):
        admission = admit(
            bundle,
            hf_home,
            signature=signature,
            policy=policy,
            allow_rollback=allow_rollback,
            on_note=on_note,
        )
        installation = _Installation(bundle, Home(hf_home), only, jobs or available_cores(), admission)
        return installation.run(on_total, progress)


class _Installation:
    """One bundle on its way into one home, under the lock of that home."""

    def __init__(self, bundle: Source, home: Home, only: Sequence[str], jobs: int, admission: Admission) -> None:
        self.bundle = bundle
        self.admission = admission
        self.home = home
        self.hf_home = home.path
        self.name = bundle.lock.name
        self.jobs = jobs
        self.on_note = admission.on_note
        self.part = select_part(bundle, only)
        self.is_part = self.part != bundle.lock
        self.content = layout(self.part) if self.is_part else bundle.plan.layout
        self.before = self._open_previous()
        self.held: list[Held] = []
        self.is_publishing = False
        self.moved_refs: tuple[tuple[str, str, str], ...] = ()
        self.set_aside: tuple[tuple[str, str], ...] = ()

    def run(self, on_total: Callable[[int], None], progress: Progress) -> InstallResult:
        """Take all steps, in the order that makes each of them safe to be killed in."""
        # What a killed one left is nobody's, and must not be taken for the user's.
        finish_retirements(self.home)
        self.held = check_conflicts(
            self.name,
            self.content,
            current={name: bundle.layout for name, bundle in self.near.current.items()},
            kept={name: bundle.layout for (name, _), bundle in self.near.kept.items()},
            has_views=lambda: self.symlinks,
        )
        staging = Staging(self.hf_home)
        self._sweep()
        on_total(sum(blob.size_bytes for blob in self.content.blobs))
        view = self.before.view if self.before else None
        located = locate(staging, self.content, self._find_known(), self.jobs, progress, view=view)
        places = {blob.sha256: located[blob.path] for blob in self.content.blobs if blob.path in located}
        places |= find_base_content(self.bundle, self.content, self.home, places, self.jobs)
        wanted = [blob for blob in self.content.blobs if blob.path not in located]
        check_room_for(self.hf_home, wanted)
        try:
            self._record(wanted)
            write_blobs(self.bundle, staging, wanted, places, self.jobs, progress, is_part=self.is_part)
            self.admission.check_digest(self.bundle.digest)
            if was_complete := not wanted and self.installed == self.before and self._is_complete():
                # Taken over from a run that was killed in its last steps.
                shutil.rmtree(staging.folder, ignore_errors=True)
            else:
                self._publish(located, places)
                shutil.rmtree(staging.folder, ignore_errors=True)
            self.admission.keep()
        except BundleError as error:
            if isinstance(error, TrustError):
                shutil.rmtree(staging.folder, ignore_errors=True)
                kept = [*self.near.layouts, *([self.before.layout] if self.before else [])]
                clear_unfinished(self.hf_home, self.name, keep=kept)
            if self.before is None and not self.is_publishing:
                forget_found(self.hf_home, self.name)
            self._say_what_is_kept()
            raise
        except OSError as error:
            raise explain_full_disk(error, self.hf_home) from error
        clear_unfinished(self.hf_home, self.name, keep=[*self.near.layouts, self.installed.layout])
        return self._describe(wanted, was_complete=was_complete)

    @cached_property
    def near(self) -> Neighbours:
        """Other generations that have a folder in common with this one."""

        def tell(error: BundleError) -> None:
            if not error.message.startswith(f"{receipt_path(self.hf_home, self.name)}:"):  # about to be written
                self.on_note(f"{error.message}; what it needs beside {self.name} cannot be told")

        return self._find_neighbours(tell)

    @cached_property
    def symlinks(self) -> bool:
        """Whether the file system has symlinks: by what is there, and only else by making one."""
        for repo in self.content.repos:
            for file in repo.snapshots:
                if (place := inside(self.hf_home, file.path)).is_symlink():
                    expected = Path(snapshot_link_target(file.path, file.blob.path))
                    return place.readlink() == expected or symlinks_work(self.hf_home / "hub")
        return symlinks_work(self.hf_home / "hub")

    @cached_property
    def receipt(self) -> Receipt:
        """What the receipt will say: this part, and what was there of the same bundle before."""
        there = list(self.before.lock.repos if self.before else ())
        with contextlib.suppress(OSError, BundleError):
            # Of this very generation, if it is there and not the current one.
            there += self.home.read(generation_path(self.hf_home, self.name, self.bundle.digest)).lock.repos
        lock, left_out = join_parts(self.bundle.lock, self.part, there)
        return Receipt(lock, self.bundle.digest, left_out, has_view=self.symlinks)

    @cached_property
    def installed(self) -> InstalledBundle:
        """What is installed in the end."""
        return self.home.make_installed(self.receipt)

    def _open_previous(self) -> InstalledBundle | None:
        """Return the installed bundle of that name, if its receipt can be trusted to say what it owns."""
        try:
            return self.home.bundle(self.name)
        except BundleError:
            return None

    def _find_neighbours(self, on_damage: Callable[[BundleError], None]) -> Neighbours:
        contents = [self.content, *([self.before.layout] if self.before else [])]
        unfinished = read_unfinished(self.hf_home, self.name)
        return self.home.neighbours(contents, besides=(self.name, ""), blobs=unfinished, on_damage=on_damage)

    def _find_known(self) -> frozenset[Content]:
        return collect_checked([*self.near.kept.values(), *([self.before] if self.before else [])])

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

    def _record(self, wanted: Sequence[Blob]) -> None:
        """Write down what is there already, and what is about to be written."""
        record_found(
            self.hf_home,
            self.name,
            self.content,
            previous=self.before.layout if self.before else None,
            others=self.near.layouts,
            # Of whatever bundle: none of it is the user's.
            unfinished={
                blob for name in list_unfinished(self.hf_home) for blob in read_unfinished(self.hf_home, name)
            },
        )
        if wanted:
            note_unfinished(self.hf_home, self.name, [blob.path for blob in wanted])

    def _publish(self, located: dict[str, Path], places: dict[str, Path]) -> None:
        """Make what is verified visible: in a view of its own, in the shared one, and in the list of bundles."""
        before = [self.before] if self.before else []
        if before and before[0].digest != self.bundle.digest:
            adopt_generation(self.home, before[0], symlinks=self.symlinks)
        held = {one.path for one in self.held}
        keep = [*self.near.layouts, *(bundle.layout for bundle in before)]
        self.set_aside = tuple(set_aside(self.hf_home, self.content, keep))
        self.is_publishing = True
        trees = collect_trees(keep)
        if self.symlinks:
            # Before prepared files are moved: a view has its own name of each.
            gather_blobs(self.hf_home, self.content, located)
            build_view(self.hf_home, self.name, self.bundle.digest, self.installed.layout, sources=places)
        # From here on what is in the shared view has an owner, and is pruned with it if this run is killed.
        write_receipt(self.hf_home, self.receipt)
        self.admission.keep_signature()
        place_prepared(self.hf_home, self.content, places, held=held)
        self.moved_refs = tuple(find_moved_refs(self.hf_home, self.content, held))
        publish(self.hf_home, self.content, symlinks=self.symlinks, located=located, other_trees=trees, held=held)
        set_current(self.hf_home, self.name, self.bundle.digest)
        # Before another user's launch wants to leave a note there.
        with contextlib.suppress(OSError):
            make_folder(self.hf_home)
        append_to_log(
            self.hf_home,
            "install",
            self.name,
            self.bundle.digest,
            before=self.before.digest if self.before else None,
            source=self.bundle.label,
        )
        # Where the file system has no locks, another installation may have written its receipt between our look
        # and ours: look again, now that it can see ours. Whoever comes last has seen both.
        now = self._find_neighbours(ignore_damage)
        if (after := collect_trees([*now.layouts, *(bundle.layout for bundle in before)])) != trees:
            publish_trees(self.hf_home, self.content, after)
        if before and before[0].digest != self.bundle.digest:
            hand_over_names(self.home, before[0])

    def _is_complete(self) -> bool:
        """Tell whether a bundle whose blobs are all verified verifies in all else too."""
        links = [inside(self.hf_home, file.path) for repo in self.content.repos for file in repo.snapshots]
        links += [inside(self.hf_home, path) for repo in self.content.repos for path, _ in repo.alias_links()]
        # What is no link has content of its own, which nobody has hashed yet.
        return self.installed.verify(quick=all(path.is_symlink() for path in links), jobs=self.jobs).ok

    def _say_what_is_kept(self) -> None:
        path = unfinished_path(self.hf_home, self.name)
        # Of content that another bundle has too, it is not this run that keeps it.
        shared = {blob.path for content in self.near.layouts for blob in content.blobs}
        blobs = set(read_unfinished(self.hf_home, self.name)) - shared
        if count := sum(inside(self.hf_home, blob).exists() for blob in blobs):
            self.on_note(
                f"kept for the next try: {counted(count, 'verified file')} of {self.name}; `bundle remove {self.name}` "
                f"deletes what nothing else uses of them ({path} lists them)"
            )
        else:
            path.unlink(missing_ok=True)

    def _describe(self, wanted: Sequence[Blob], *, was_complete: bool) -> InstallResult:
        before = self.before.digest if self.before else None
        return InstallResult(
            bundle=self.installed,
            files=len(self.content.blobs),
            size_bytes=sum(blob.size_bytes for blob in self.content.blobs),
            written_files=len(wanted),
            written_bytes=sum(blob.size_bytes for blob in wanted),
            symlinks=self.symlinks,
            replaced=before if before != self.bundle.digest else None,
            has_view=self.installed.view != self.hf_home,
            held=tuple(self.held),
            moved_refs=self.moved_refs,
            set_aside=self.set_aside,
            was_complete=was_complete,
        )


def _open(source: Path | Sequence[Path] | Readable) -> Source:
    if isinstance(source, Path | Sequence):
        return BundleReader(source)
    return BundleStream(source)
