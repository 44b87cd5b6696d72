"""Install what a launch needs and the home lacks: one process of a node does it, and the others wait for it.

Rule book:

* what is there already is used as it is, whichever generation is the current one, and nothing is written;
* the lock is the kernel's (`bundler.home.exclusive.lock_provision`): if its holder is killed, the next one goes on with
  what is verified;
* room is made before anything is written, and only if that is enough (`bundler.home.provision.make_room`);
* a bundle is installed as `bundle install` does it: with its signature and the policies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bundler.format.find import find_bundle
from bundler.format.reader import BundleReader
from bundler.home.exclusive import Note, lock_provision, no_note
from bundler.home.home import Home, ignore_damage
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from bundler.home.provision.make_room import make_room
from bundler.plan.layout import layout
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
        self, hf_home: Path, *, policy: Path | None = None, jobs: int | None = None, on_note: Note = no_note
    ) -> list[InstalledBundle]:
        """Return the generations of these bundles in a home; install what is not there.

        Args:
            hf_home: The cache root; made when missing.
            policy: A policy that must hold besides the machine's; default that of BUNDLE_POLICY.
            jobs: Threads; default all cores.
            on_note: Told what a person should know of and is no error.

        Raises:
            SpaceError: Bundle and running launches take more than the limit: nothing was deleted or written. Or the
                disk has less room.
            BundleError: As of `bundler.home.installation.install.install`.
        """
        return [self._provide(source, hf_home, policy, jobs, on_note) for source in self.sources]

    def _provide(
        self, source: Place, hf_home: Path, policy: Path | None, jobs: int | None, on_note: Note
    ) -> InstalledBundle:
        place = find_bundle([source])
        with contextlib.closing(BundleReader(place)) as bundle:
            digest, lock = bundle.whole_digest, bundle.lock
        if found := _find(hf_home, lock.name, digest):
            return found
        with lock_provision(hf_home, on_note=on_note):
            if found := _find(hf_home, lock.name, digest):
                return found
            if self.limit_bytes is not None:
                made = make_room(hf_home, self.limit_bytes, incoming=layout(lock), on_note=on_note)
                for gone in made.pruned:
                    on_note(f"deleted {gone.bundle.name} {gone.bundle.digest[:19]}: {size(gone.freed_bytes)}")
            with self.show(lock.name) as (on_total, progress):
                return install(
                    place,
                    hf_home,
                    policy=policy,
                    jobs=jobs,
                    on_total=on_total,
                    progress=progress,
                    on_note=on_note,
                ).bundle


def _find(hf_home: Path, name: str, digest: str) -> InstalledBundle | None:
    """Return a generation that is installed as a whole, and can be read as it is."""
    home = Home(hf_home)
    # A damaged receipt is one that is not there: the installation writes it again.
    found = [one for one in home.generations(name, on_damage=ignore_damage) if one.digest == digest]
    if not found or found[0].left_out:
        return None
    # Without views only the current generation shows what it is.
    current = [one.digest for one in home.bundles(on_damage=ignore_damage, parse=False) if one.name == name]
    return found[0] if found[0].has_view or digest in current else None
