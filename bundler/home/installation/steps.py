"""One bundle on its way into one home: the steps of an installation, in the order that makes each safe to be killed in.

The rules that they keep stand in `bundler.home.installation.install`, which holds the lock of the home meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property

from bundler.errors import BundleError, TrustError
from bundler.files.links import symlinks_work
from bundler.files.paths import inside, path_inside
from bundler.format.source import Source
from bundler.home.common.conflicts import Held, check_conflicts
from bundler.home.common.journal import (
    clear_unfinished,
    forget_found,
    forget_move,
    list_unfinished,
    note_move,
    note_unfinished,
    read_unfinished,
    record_found,
    unfinished_path,
)
from bundler.home.common.kept_refs import write_kept_refs
from bundler.home.common.publish import find_moved_refs, gather_blobs, place_prepared, publish, publish_trees
from bundler.home.common.set_aside import clear_ways, set_aside
from bundler.home.common.snapshot_links import SnapshotLinks
from bundler.home.common.sweep import sweep
from bundler.home.common.trees import collect_trees
from bundler.home.generation import generation_path
from bundler.home.generations.adopt import adopt_generation
from bundler.home.generations.retire import hand_over_names
from bundler.home.generations.show import finish_killed, mend_held
from bundler.home.home import Home, ignore_damage
from bundler.home.installation.base_content import find_base_content, list_passing
from bundler.home.installation.part import join_parts, select_part
from bundler.home.installation.result import InstallResult
from bundler.home.installation.room import check_room_for, count_new_bytes
from bundler.home.installation.unpack import (
    Staging,
    collect_checked,
    locate,
    write_blobs,
)
from bundler.home.installed import InstalledBundle, Neighbours
from bundler.home.launches import make_folder
from bundler.home.log import append_to_log, name_source
from bundler.home.receipt import Receipt, receipt_path
from bundler.home.sharing.untrusted_names import remove_untrusted
from bundler.home.trust.gate import Admission
from bundler.home.view.view import build_view, has_own_content
from bundler.home.write_receipt import set_current, write_receipt
from bundler.plan.content import Content
from bundler.plan.layout import Blob, Layout, layout
from bundler.text.wording import counted, size
from bundler.verify.report import Progress


class Installation:
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
        self.written: frozenset[str] = frozenset()
        self.moved_refs: tuple[tuple[str, str, str], ...] = ()
        self.set_aside: tuple[tuple[str, str], ...] = ()

    def run(self, on_total: Callable[[int], None], progress: Progress) -> InstallResult:
        """Take all steps, in the order that makes each of them safe to be killed in."""
        # What a killed one left is nobody's, and must not be taken for the user's.
        if freed := finish_killed(self.home):
            self.on_note(f"finished a removal that was killed: {size(freed)} freed")
        self.set_aside = tuple(clear_ways(self.hf_home, self.content))
        self.held = check_conflicts(
            self.name,
            self.content,
            current={name: bundle.layout for name, bundle in self.near.current.items()},
            kept={name: bundle.layout for (name, _), bundle in self.near.kept.items()},
            has_views=lambda: self.symlinks,
        )
        staging = Staging(self.hf_home)
        sweep(self.hf_home, self.content)
        on_total(sum(blob.size_bytes for blob in self.content.blobs))
        view = self.before.view if self.before else None
        located = locate(staging, self.content, self._find_known(), self.jobs, progress, view=view)
        places = {blob.sha256: located[blob.path] for blob in self.content.blobs if blob.path in located}
        places |= find_base_content(self.bundle, self.content, self.home, places, self.jobs)
        wanted = [blob for blob in self.content.blobs if blob.path not in located]
        self.written = frozenset(blob.path for blob in wanted)
        new_bytes = count_new_bytes(wanted, places)
        passing = list_passing(self.bundle, self.content, places)
        check_room_for(wanted, places, self.hf_home, besides=sum(blob.size_bytes for blob in passing))
        try:
            self._record(wanted)
            write_blobs(
                self.bundle, staging, wanted, places, self.jobs, progress, is_part=self.is_part, passing=passing
            )
            self.admission.check_digest(self.bundle.whole_digest)
            self.bundle.plan.forget_members()
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
        if freed := clear_unfinished(self.hf_home, self.name, keep=[*self.near.layouts, self.installed.layout]):
            self.on_note(f"deleted what an earlier try left and nothing needs: {size(freed)} freed")
        return self._describe(len(wanted), new_bytes, was_complete=was_complete)

    @cached_property
    def near(self) -> Neighbours:
        """Other generations that have a folder in common with this one."""

        def tell(error: BundleError) -> None:
            ignore_damage(error)
            own = receipt_path(self.hf_home, self.name)
            if not error.message.startswith((f"{own}:", f"{own} ")):  # about to be written
                self.on_note(f"{error.message}; what it needs beside {self.name} cannot be told")

        return self._find_neighbours(tell)

    @cached_property
    def symlinks(self) -> bool:
        """Whether the file system has symlinks: by what is there, and only else by making one."""
        for repo in self.content.repos:
            links = SnapshotLinks(self.hf_home, repo)
            is_there = os.path.lexists(f"{self.hf_home}/{repo.folder}/snapshots")
            for file in repo.snapshots if is_there else ():
                with contextlib.suppress(OSError):  # no link
                    # Strings: a Path for each of 100,000 files takes seconds.
                    found = os.readlink(path_inside(self.hf_home, file.path))  # noqa: PTH115
                    is_right = links.accepts(file.path, file.blob.path, found)
                    return is_right or symlinks_work(self.hf_home / "hub")
        try:
            return symlinks_work(self.hf_home / "hub")
        except OSError:
            # Where all is there nothing is written; else the first write says what is wrong.
            if self.before and self.before.digest == self.bundle.whole_digest:
                return self.before.has_view
            raise

    @cached_property
    def receipt(self) -> Receipt:
        """What the receipt will say: this part, and what was there of the same bundle before."""
        there = list(self.before.lock.repos if self.before else ())
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, BundleError):
            # Of this very generation, if it is there and not the current one.
            there += self.home.read(generation_path(self.hf_home, self.name, self.bundle.whole_digest)).lock.repos
        lock, left_out = join_parts(self.bundle.lock, self.part, there)
        return Receipt(lock, self.bundle.whole_digest, left_out, has_view=self.symlinks)

    @cached_property
    def installed(self) -> InstalledBundle:
        """What is installed in the end."""
        is_laid_out = self.receipt.lock is self.part
        return self.home.make_installed(self.receipt, self.content if is_laid_out else None)

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

    def _list_others(self, near: Neighbours) -> list[Layout]:
        """Return what generations need that are not the one that is installed."""
        own = (self.name, self.bundle.whole_digest)
        return [bundle.layout for key, bundle in near.kept.items() if key != own]

    def _find_known(self) -> frozenset[Content]:
        return collect_checked([*self.near.kept.values(), *([self.before] if self.before else [])])

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

    def _publish(self, located: dict[str, str], places: dict[str, str]) -> None:
        """Make what is verified visible: in a view of its own, in the shared one, and in the list of bundles."""
        before = [self.before] if self.before else []
        if before and before[0].digest != self.bundle.whole_digest:
            adopt_generation(self.home, before[0], symlinks=self.symlinks)
        held = {one.path for one in self.held}
        keep = [*self.near.layouts, *(bundle.layout for bundle in before)]
        self.set_aside += tuple(set_aside(self.hf_home, self.content, keep))
        self.is_publishing = True
        remove_untrusted(self.home.trusted_users, self.content, self.on_note)
        trees = collect_trees(keep)
        if self.symlinks:
            # Before prepared files are moved: a view has its own name of each.
            gather_blobs(self.hf_home, self.content, located)
            moved = build_view(
                self.hf_home, self.name, self.bundle.whole_digest, self.installed.layout, sources=places
            )
            self.set_aside += tuple(moved)
        # From here on what is in the shared view has an owner, and is pruned with it if this run is killed.
        text = write_receipt(self.hf_home, self.receipt)
        self.installed = self.home.know(self.installed, text)
        # As long as the text that was written, which has it.
        del self.receipt
        self.admission.keep_signature()
        note_move(self.hf_home, self.name, self.bundle.whole_digest)
        place_prepared(self.hf_home, self.content, places, held=held)
        self.moved_refs = tuple(find_moved_refs(self.hf_home, self.content, held))
        publish(self.hf_home, self.content, symlinks=self.symlinks, located=located, other_trees=trees, held=held)
        mend_held(self.hf_home, self.held)
        generations = self.home.generations(self.name, on_damage=ignore_damage, parse=False)
        write_kept_refs(self.hf_home, self.name, [self.installed.names, *(one.names for one in generations)])
        set_current(self.hf_home, self.name, self.bundle.whole_digest, text=text)
        # Before another user's launch wants to leave a note there.
        with contextlib.suppress(OSError):
            make_folder(self.hf_home)
        append_to_log(
            self.hf_home,
            "install",
            self.name,
            self.bundle.whole_digest,
            before=self.before.digest if self.before else None,
            source=name_source(self.bundle.label),
            on_note=self.on_note,
        )
        # Where the file system has no locks, another installation may have written its receipt between our look
        # and ours: look again, now that it can see ours. Whoever comes last has seen both.
        others = self._list_others(self._find_neighbours(ignore_damage))
        if others != self._list_others(self.near):
            publish_trees(
                self.hf_home, self.content, collect_trees([*others, *(bundle.layout for bundle in before)])
            )
        if before and before[0].digest != self.bundle.whole_digest:
            hand_over_names(self.home, before[0])
        forget_move(self.hf_home, self.name)

    def _is_complete(self) -> bool:
        """Tell whether a bundle whose blobs are all verified verifies in all else too."""
        try:
            # The pointer says the same; a version without generations left nothing else.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self.home.read(generation_path(self.hf_home, self.name, self.bundle.whole_digest))
        except BundleError:
            return False
        # What is no link has content of its own, which nobody has hashed yet.
        return self.installed.verify(quick=not has_own_content(self.installed, self.content), jobs=self.jobs).ok

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

    def _describe(self, written_files: int, written_bytes: int, *, was_complete: bool) -> InstallResult:
        before = self.before.digest if self.before else None
        return InstallResult(
            bundle=self.installed,
            files=len(self.content.blobs),
            size_bytes=sum(blob.size_bytes for blob in self.content.blobs),
            written_files=written_files,
            written_bytes=written_bytes,
            symlinks=self.symlinks,
            replaced=before if before != self.bundle.whole_digest else None,
            has_view=self.installed.view != self.hf_home,
            held=tuple(self.held),
            moved_refs=self.moved_refs,
            set_aside=self.set_aside,
            was_complete=was_complete,
        )
