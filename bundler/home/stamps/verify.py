"""Verify a bundle before a launch: hash what was not hashed before, or has changed since.

Rule book:

* names and sizes are always compared, by the stamps of folders or one by one;
* content is not read where its stamp says that it has not changed since somebody who is believed hashed it
  (`bundler.home.stamps.places`);
* what stamps cannot find: bytes that the disk has lost or that were written past the file system, a clock set
  back to the tick of the last change, a mapping that was open for writing since before. So there are samples,
  re-checks and `full`;
* what is hashed is remembered, and other launches of this user wait for it meanwhile (`bundler.home.stamps.turns`).
"""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.files.digest import Digests
from bundler.home.installed import InstalledBundle, View
from bundler.home.sharing.trusted_users import TrustedUsers
from bundler.home.stamps.check import MOST_SAMPLED_BYTES, ContentCheck
from bundler.home.stamps.places import NoStateFolderError, Note, open_state_folder, read_stamps, turn_path
from bundler.home.stamps.stamps import Stamps
from bundler.text.wording import size
from bundler.verify.report import Progress, Report, no_progress

if TYPE_CHECKING:
    from bundler.home.verify.hashing import Hashed

# Shows how far the verification of a bundle is: a context manager that gives what takes the number of bytes done.
Show = Callable[[InstalledBundle], AbstractContextManager[Progress]]
_SECONDS_PER_DAY = 24 * 3600


def verify_for_launch(
    bundle: InstalledBundle,
    view: View,
    check: ContentCheck,
    *,
    trust_home: bool = True,
    jobs: int | None = None,
    show: Show | None = None,
    on_note: Note = lambda note: None,
) -> Report:
    """Check what a launch reads of a bundle, and hash as little as can be answered for.

    Args:
        bundle: The bundle.
        view: Where the launch reads it.
        check: How closely its content is looked at.
        trust_home: Whether stamps of root and the home's owner are believed.
        jobs: Cores; default all.
        show: Draws how far the hashing is; not called where nothing is hashed.
        on_note: Told what a person should know.
    """
    return _Verification(bundle, view, check, trust_home, jobs, show, on_note).run()


def verify_and_stamp(
    bundle: InstalledBundle,
    *,
    jobs: int | None = None,
    progress: Progress = no_progress,
    hashed: Hashed | None = None,
    verify: Callable[[Hashed], Report] | None = None,
    on_note: Note = lambda note: None,
) -> Report:
    """Hash a whole installed bundle, and remember that.

    Args:
        bundle: The bundle.
        jobs: Cores; default all.
        progress: Called with the number of bytes hashed since the last call.
        hashed: What was hashed just before, for other bundles, and is not hashed again.
        verify: Checks it, by default as `InstalledBundle.verify` does.
        on_note: Told what a person should know.
    """
    from bundler.home.stamps.take import read_clock, store_stamps, take_names, take_stamps

    begun, moment = time.time(), read_clock(bundle.hf_home)
    known: Hashed = {} if hashed is None else hashed
    names = take_names(bundle)
    report = verify(known) if verify else bundle.verify(jobs=jobs, progress=progress, hashed=known)
    stamps = take_stamps(bundle, known, names, hashed_at=begun, is_right=report.ok)
    store_stamps(bundle, stamps.settled(moment), on_note=on_note)
    return report


class _Verification:
    def __init__(
        self,
        bundle: InstalledBundle,
        view: View,
        check: ContentCheck,
        trust_home: bool,
        jobs: int | None,
        show: Show | None,
        on_note: Note,
    ) -> None:
        self.bundle = bundle
        self.view = view
        self.check = check
        self.trust_home = trust_home
        self.jobs = jobs
        self.show = show
        self.on_note = on_note
        self.folder: Path | None = None

    def run(self) -> Report:
        if self.check.kind == "quick":
            with self._progress() as progress:
                return self.bundle.verify(quick=True, jobs=self.jobs, progress=progress, view=self.view)
        # Where there is none, that is said when something is to be remembered.
        with suppress(NoStateFolderError):
            self.folder = open_state_folder(self.bundle.hf_home)
        stamps = self._read()
        if stamps and (report := self._trust_stamps(stamps)):
            return report
        # Most launches end above, and need none of what hashes, waits and takes stamps.
        from bundler.home.stamps.turns import WORTH_WAITING_BYTES, patience_seconds, take_turn

        known = self._list_known(stamps)
        missing = self._measure(known)
        if self.check.kind == "full" or self.folder is None or missing < WORTH_WAITING_BYTES:
            return self._hash(stamps, known)
        path, name = turn_path(self.folder, self.bundle), self.bundle.name
        with take_turn(
            path, what=f"{name}, {size(missing)}", seconds=patience_seconds(missing), on_note=self.on_note
        ):
            # What another one has hashed while this one waited.
            stamps = self._read()
            report = self._trust_stamps(stamps) if stamps else None
            return report or self._hash(stamps, self._list_known(stamps))

    def _progress(self) -> AbstractContextManager[Progress]:
        return self.show(self.bundle) if self.show else nullcontext(no_progress)

    def _read(self) -> Stamps | None:
        if self.check.kind == "full":
            return None
        found = read_stamps(self.bundle, self.folder, trust_home=self.trust_home, on_note=self.on_note)
        now, most_days = time.time(), self.check.recheck_days
        # Of a day to come: the clock was set back, and nobody knows how long ago it was.
        young = [
            stamps
            for stamps in found
            if stamps.hashed_at <= now
            and (not most_days or now - stamps.hashed_at <= most_days * _SECONDS_PER_DAY)
        ]
        if found and not young:
            date = datetime.date.fromtimestamp(found[0].hashed_at)
            self.on_note(f"{self.bundle.name} was last hashed on {date}: hashing all of it again")
        # Of two the one's own, which holds what has changed since.
        return max(young, key=lambda stamps: stamps.hashed_at, default=None)

    def _trust_stamps(self, stamps: Stamps) -> Report | None:
        """Return the report of a bundle that has not changed in any way, without parsing its lock."""
        is_own_view = self.view.root == self.bundle.view != self.bundle.hf_home
        if self.check.sample_percent or not (is_own_view or self.view.is_checked):
            return None
        if not stamps.holds(self.bundle, TrustedUsers(self.bundle.hf_home)):
            return None
        return Report(
            subject=f"bundle {self.bundle.name} in {self.bundle.hf_home}",
            digest=self.bundle.digest,
            files=stamps.files,
            stamped_files=stamps.files,
            stamped_bytes=stamps.size_bytes,
        )

    def _list_known(self, stamps: Stamps | None) -> Hashed:
        """Return what need not be hashed, less what is drawn to be hashed all the same."""
        if stamps is None:
            return {}
        unchanged = stamps.find_unchanged(self.bundle.hf_home)
        drawn = _draw({path: stamps.content[path][0].size_bytes for path in unchanged}, self.check.sample_percent)
        return {
            key: Digests(size_bytes=stamps.content[path][0].size_bytes, blake3=stamps.content[path][1])
            for path, key in unchanged.items()
            if path not in drawn
        }

    def _measure(self, known: Hashed) -> int:
        return sum(blob.size_bytes for blob in self.bundle.layout.blobs) - _sum(known)

    def _hash(self, stamps: Stamps | None, known: Hashed) -> Report:
        """Compare names one by one, and hash what is not known; remember it."""
        from bundler.home.stamps.take import read_clock, store_own_stamps, take_names, take_stamps

        bundle = self.bundle
        begun, moment = time.time(), read_clock(bundle.hf_home)
        names = take_names(bundle)
        hashed = dict(known)
        with self._progress() as progress:
            report = bundle.verify(jobs=self.jobs, progress=progress, view=self.view, hashed=hashed)
        has_own_names = self.view.root == bundle.view
        fresh = take_stamps(
            bundle,
            hashed,
            names,
            hashed_at=min(begun, stamps.hashed_at) if stamps else begun,
            is_right=report.ok and has_own_names,
        )
        fresh = fresh.settled(moment, known=known)
        if stamps and report.ok and not fresh.names:
            fresh = replace(fresh, names=stamps.names, kinds=stamps.kinds)
        if stamps is None or fresh != stamps:
            store_own_stamps(bundle, fresh, on_note=self.on_note)
        return replace(report, stamped_files=len(known), stamped_bytes=_sum(known))


def _sum(known: Hashed) -> int:
    return sum(found.size_bytes for found in known.values() if isinstance(found, Digests))


def _draw(sizes: dict[str, int], percent: float) -> set[str]:
    """Return the files of a sample: each is in it with the same chance, as long as it does not grow too large."""
    drawn: set[str] = set()
    room = MOST_SAMPLED_BYTES
    if not percent:
        return drawn
    chance = random.SystemRandom()
    paths = list(sizes)
    chance.shuffle(paths)
    for path in paths:
        if chance.random() * 100 < percent and sizes[path] <= room:
            drawn.add(path)
            room -= sizes[path]
    return drawn
