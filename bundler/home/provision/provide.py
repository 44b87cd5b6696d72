"""Install what a launch needs and the home lacks: one process of a node does it, and the others wait for it.

Rule book:

* what is there already is used as it is, whichever generation is the current one, and nothing is written;
* the lock is the kernel's (`bundler.home.exclusive.lock_provision`): if its holder is killed, the next one goes on with
  what is verified;
* a bundle is installed as `bundle install` does it: with its signature and the policies;
* something is deleted for it only when it is installed and verified, or when the disk has no room for it otherwise; and
  only if that is enough (`bundler.home.provision.make_room`). What the launch itself needs, a delta's base among it,
  is never deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundler.errors import NotInstalledError, SpaceError
from bundler.format.find import find_bundle
from bundler.format.reader import BundleReader
from bundler.home.exclusive import Note, lock_provision, no_note
from bundler.home.home import Home, ignore_damage
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from bundler.home.provision.make_room import make_room
from bundler.plan.layout import Layout, layout
from bundler.remote.address import Place
from bundler.text.wording import size

# Draws how far an installation is: given a name, yields what `install` takes as `on_total` and `progress`.
ShowInstallation = Callable[[str], AbstractContextManager[tuple[Callable[[int], None], Callable[[int], None]]]]


@contextlib.contextmanager
def _show_nothing(name: str) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    yield (lambda total: None), (lambda count: None)


@dataclass(frozen=True)
class Provision:
    """What a launch wants to be installed.

    Attributes:
        sources: The bundles: files, or addresses.
        limit_bytes: Before one is installed, what was launched longest ago is deleted until all that is installed fits
            into this; None for no limit.
        show: Draws how far an installation is.
    """

    sources: tuple[Place, ...]
    limit_bytes: int | None = None
    show: ShowInstallation = _show_nothing

    def provide(
        self,
        hf_home: Path,
        names: Sequence[str] = (),
        *,
        policy: Path | None = None,
        jobs: int | None = None,
        on_note: Note = no_note,
    ) -> list[InstalledBundle]:
        """Return the generations of these bundles in a home; install what is not there.

        Args:
            hf_home: The cache root; made when missing.
            names: Installed bundles that the launch needs besides.
            policy: A policy that must hold besides the machine's; default that of BUNDLE_POLICY.
            jobs: Threads; default all cores.
            on_note: Told what a person should know of and is no error.

        Raises:
            NotInstalledError: A bundle of `names` is not there, or one was deleted at this moment.
            SpaceError: Bundles and running launches take more than the limit: nothing was deleted or written. Or the
                disk has less room.
            BundleError: As of `bundler.home.installation.install.install`.
        """
        wanted = list({(one.name, one.digest): one for one in map(_look, self.sources)}.values())
        found = [_find(hf_home, one) for one in wanted]
        if None not in found:
            return [one for one in found if one]
        with lock_provision(hf_home, on_note=on_note):
            self._install(hf_home, wanted, names, policy, jobs, on_note)
        return [_find_again(hf_home, one) for one in wanted]

    def _install(
        self,
        hf_home: Path,
        wanted: Sequence[_Wanted],
        names: Sequence[str],
        policy: Path | None,
        jobs: int | None,
        on_note: Note,
    ) -> None:
        missing = [one for one in wanted if _find(hf_home, one) is None]
        contents = [_read_content(one) for one in missing]
        incoming = [content for content, _ in contents]
        spare = _list_needed(hf_home, wanted, names, frozenset().union(*(omitted for _, omitted in contents)))
        if self.limit_bytes is not None:
            # Whether it can be done at all is known before anything is written.
            make_room(hf_home, self.limit_bytes, incoming=incoming, spare=spare, dry_run=True)
        for number, one in enumerate(missing):
            install_it = partial(self._install_one, hf_home, one, policy=policy, jobs=jobs, on_note=on_note)
            try:
                install_it()
            except SpaceError:
                if self.limit_bytes is None:
                    raise
                # Its signature and the policies were looked at before its room was.
                self._make_room(hf_home, incoming[number:], spare, on_note)
                install_it()
            spare.add((one.name, one.digest))
        if self.limit_bytes is not None:
            self._make_room(hf_home, [], spare, on_note)

    def _install_one(
        self, hf_home: Path, one: _Wanted, *, policy: Path | None, jobs: int | None, on_note: Note
    ) -> None:
        with self.show(one.name) as (on_total, progress):
            install(
                one.place,
                hf_home,
                policy=policy,
                jobs=jobs,
                on_total=on_total,
                progress=progress,
                on_note=on_note,
            )

    def _make_room(
        self, hf_home: Path, incoming: Sequence[Layout], spare: Collection[tuple[str, str]], on_note: Note
    ) -> None:
        assert self.limit_bytes is not None, "looked at before"
        made = make_room(hf_home, self.limit_bytes, incoming=incoming, spare=spare, on_note=on_note)
        for gone in made.pruned:
            on_note(f"deleted {gone.bundle.name} {gone.bundle.digest[:19]}: {size(gone.freed_bytes)}")


@dataclass(frozen=True)
class _Wanted:
    """A bundle that is to be there: where it comes from, and what it says of itself."""

    place: Place | Sequence[Path]
    name: str
    digest: str


def _look(source: Place) -> _Wanted:
    """Read no more of a bundle than its index: a launch that has it needs nothing else."""
    place = find_bundle([source])
    with contextlib.closing(BundleReader(place)) as bundle:
        return _Wanted(place, bundle.name, bundle.whole_digest)


def _read_content(wanted: _Wanted) -> tuple[Layout, frozenset[str]]:
    """Return what a bundle installs, and the contents (sha256) that a delta leaves to its base."""
    with contextlib.closing(BundleReader(wanted.place)) as bundle:
        return layout(bundle.lock), bundle.omitted or frozenset()


def _list_needed(
    hf_home: Path, wanted: Sequence[_Wanted], names: Sequence[str], omitted: frozenset[str]
) -> set[tuple[str, str]]:
    """Return (name, digest) of the generations that a launch needs: its own, and bases of deltas."""
    home = Home(hf_home)
    needed = {(one.name, one.digest) for one in wanted}
    needed |= {(name, home.bundle(name, parse=False).digest) for name in names}
    for name in home.all_names() if omitted else ():
        for bundle in home.generations(name, on_damage=ignore_damage):
            if not omitted.isdisjoint(bundle.layout.contents):
                needed.add((bundle.name, bundle.digest))
    return needed


def _find_again(hf_home: Path, wanted: _Wanted) -> InstalledBundle:
    if (found := _find(hf_home, wanted)) is None:
        raise NotInstalledError(
            f"{wanted.name} {wanted.digest[:19]} was deleted from {hf_home} while this launch began",
            hint="run the same command again; `bundle log` says who deleted it",
        )
    return found


def _find(hf_home: Path, wanted: _Wanted) -> InstalledBundle | None:
    """Return a generation that is installed as a whole, and can be read as it is."""
    home = Home(hf_home)
    # A damaged receipt is one that is not there: the installation writes it again.
    found = [one for one in home.generations(wanted.name, on_damage=ignore_damage) if one.digest == wanted.digest]
    if not found or found[0].left_out:
        return None
    if found[0].has_view:
        return found[0]
    # Without views only the current generation shows what it is.
    current = [one for one in home.bundles(on_damage=ignore_damage, parse=False) if one.name == wanted.name]
    return found[0] if wanted.digest in [one.digest for one in current] else None
