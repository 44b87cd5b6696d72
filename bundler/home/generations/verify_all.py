"""Verify a whole home, for whoever looks after it: every generation of every bundle, shared content once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bundler.errors import AccessError, BundleError, NotInstalledError
from bundler.files.access import explain
from bundler.files.parallel import available_cores
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.generation import generation_path
from bundler.home.generations.inventory import Generation, list_generations
from bundler.home.home import Home, ignore_damage
from bundler.home.installed import InstalledBundle, View
from bundler.home.stamps.verify import verify_and_stamp
from bundler.home.verify.hashing import Hashed
from bundler.home.verify.installed import InstalledCheck, verify_installed
from bundler.verify.report import Progress, Report, no_progress


@dataclass(frozen=True)
class HomeReport:
    """What was found in a home.

    Attributes:
        reports: The generations that could be looked at, each with its report, in the order of names.
        errors: Receipts that cannot be used, and what may not be read: of these generations nothing is known.
    """

    reports: tuple[tuple[Generation, Report], ...]
    errors: tuple[BundleError, ...]

    @property
    def exit_code(self) -> int:
        """What a command ends with: 0, or 6, or 18 where the only fault is that something may not be read."""
        if all(isinstance(error, AccessError) for error in self.errors) and all(r.ok for _, r in self.reports):
            return AccessError.exit_code if self.errors else 0
        return 6


def verify_all(
    home: Home,
    *,
    quick: bool = False,
    jobs: int | None = None,
    progress: Progress = no_progress,
    on_note: Note = no_note,
) -> HomeReport:
    """Check all generations of all bundles, and take their stamps; one that is bad does not keep others from it.

    Args:
        home: The home.
        quick: Look at names, links and sizes, hash nothing.
        jobs: Cores; default all.
        progress: Called with the number of bytes hashed since the last call.
        on_note: Told what a person should know of and is no error.

    Raises:
        NotInstalledError: Nothing is installed: as likely as not it is the wrong home.
        UntrustedError: The folders of the home are not to be trusted.
    """
    errors: dict[str, BundleError] = {}

    def add(error: BundleError) -> None:
        errors.setdefault(error.message, error)

    home.bundles(on_damage=add)
    generations = [one for name in home.all_names() for one in list_generations(home, name, on_damage=add)]
    if not generations and not errors:
        raise NotInstalledError(f"no bundle is installed in {home.path}", hint="name the right one with --hf-home")
    hashed: Hashed = {}
    reports = []
    for one in generations:
        try:
            if quick:
                report = _verify(one, generations, True, jobs, progress, hashed)
            else:
                verify = partial(_verify, one, generations, False, jobs, progress)
                report = verify_and_stamp(one.bundle, hashed=hashed, verify=verify, on_note=on_note)
        except OSError as error:
            failure = explain(error)
            if failure is None:
                raise
            add(failure)
        else:
            found = (one, report) if report.ok else _look_again(home, one, report, quick, jobs, hashed, on_note)
            reports += [found] if found else []
    return HomeReport(tuple(reports), tuple(errors.values()))


def verify_current(
    home: Home,
    name: str,
    *,
    quick: bool = False,
    jobs: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Progress = no_progress,
    on_note: Note = no_note,
) -> tuple[InstalledBundle, Report]:
    """Check the current generation of a bundle, and take its stamps; the other arguments are those of `verify_all`.

    Args:
        home: The home.
        name: The bundle's name.
        quick: Look at names, links and sizes, hash nothing.
        jobs: Cores; default all.
        on_total: Called with the number of bytes that `progress` will at most add up to.
        progress: Called with the number of bytes hashed since the last call.
        on_note: Told what a person should know of and is no error.

    Raises:
        NotInstalledError: There is no such bundle.
        IntegrityError: Its receipt was changed.
    """
    while True:
        bundle = Home(home.path).bundle(name)
        on_total(sum(blob.size_bytes for blob in bundle.layout.blobs))
        hashed: Hashed = {}
        if quick:
            report = bundle.verify(quick=True, jobs=jobs, progress=progress)
        else:
            report = verify_and_stamp(bundle, jobs=jobs, progress=progress, hashed=hashed, on_note=on_note)
        if report.ok:
            return bundle, report
        with lock_home(home.path, on_note=on_note):
            now = Home(home.path).bundle(name)
            if now.digest == bundle.digest:
                return now, _add_up(report, now.verify(quick=quick, jobs=jobs, hashed=hashed))
        # An upgrade or a rollback went on: another generation has the name now.


def _look_again(
    home: Home, one: Generation, report: Report, quick: bool, jobs: int | None, hashed: Hashed, on_note: Note
) -> tuple[Generation, Report] | None:
    """Look at what is wrong with a generation once more, while nobody changes the home; what was hashed is known.

    To verify a home takes hours, in which others upgrade and prune: a generation that is no longer the current one does
    not have the names of the shared view any more, and one that is deleted has nothing.

    Returns:
        What it is now, and what is wrong with it; None where it was deleted meanwhile.
    """
    with lock_home(home.path, on_note=on_note):
        fresh = Home(home.path)
        generations = [
            found for name in fresh.all_names() for found in list_generations(fresh, name, on_damage=ignore_damage)
        ]
        key = (one.bundle.name, one.bundle.digest)
        same = next((found for found in generations if (found.bundle.name, found.bundle.digest) == key), None)
        if same is not None:
            return same, _add_up(report, _verify(same, generations, quick, jobs, no_progress, hashed))
        # There, but damaged by now: what was found of it stands.
        return (one, report) if generation_path(home.path, *key).exists() else None


def _add_up(first: Report, second: Report) -> Report:
    """Return what the second look found, with the bytes that both have hashed."""
    return replace(second, size_bytes=first.size_bytes + second.size_bytes)


def _verify(
    one: Generation,
    others: Sequence[Generation],
    quick: bool,
    jobs: int | None,
    progress: Progress,
    hashed: Hashed,
) -> Report:
    bundle = one.bundle
    if one.is_current:
        return bundle.verify(quick=quick, jobs=jobs, progress=progress, hashed=hashed)
    if bundle.has_view:
        view = View((bundle,), bundle.view, bundle.view / "datasets")
        return bundle.verify(quick=quick, jobs=jobs, progress=progress, view=view, hashed=hashed)
    # Without views it has its content in the shared one, and names there are those of the current generations.
    near = bundle.find_neighbours(bundle.layout)
    current = [other.bundle.layout for other in others if other.is_current]
    check = InstalledCheck(bundle.hf_home, bundle.hf_home, bundle.layout, current=current, kept=near.layouts)
    return verify_installed(
        f"bundle {bundle.name} in {bundle.hf_home}",
        bundle.digest,
        [check],
        quick=quick,
        jobs=jobs or available_cores(),
        progress=progress,
        hashed=hashed,
    )
