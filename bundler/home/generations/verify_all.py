"""Verify a whole home, for whoever looks after it: every generation of every bundle, shared content once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bundler.errors import AccessError, BundleError, NotInstalledError
from bundler.files.access import explain
from bundler.files.parallel import available_cores
from bundler.home.exclusive import Note, no_note
from bundler.home.generations.inventory import Generation, list_generations
from bundler.home.home import Home
from bundler.home.installed import View
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
            reports.append((one, report))
    return HomeReport(tuple(reports), tuple(errors.values()))


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
