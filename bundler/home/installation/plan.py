"""What an installation would do and how much room it needs: found by reading and hashing, without writing a byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.errors import BundleError, FormatError
from bundler.files.parallel import available_cores
from bundler.files.space import Room, measure_room
from bundler.format.reader import BundleReader
from bundler.home.common.conflicts import check_conflicts
from bundler.home.exclusive import Note, no_note
from bundler.home.home import Home, ignore_damage
from bundler.home.installation.base_content import find_base_content
from bundler.home.installation.part import select_part
from bundler.home.installation.room import count_new_bytes, room_needed
from bundler.home.installation.unpack import (
    Staging,
    collect_checked,
    locate,
)
from bundler.home.installed import InstalledBundle
from bundler.parity.fallback import Fallback
from bundler.plan.layout import Blob, Layout, layout
from bundler.remote.address import Place
from bundler.verify.report import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class InstallPlan:
    """What `bundler.home.installation.install.install` with the same arguments would do.

    Attributes:
        name: Name of the bundle.
        digest: The digest that the installation would have.
        files: Blobs and prepared files of the bundle, or of the part of it that was asked for.
        size_bytes: Their bytes.
        written_files: How many of them would be written; the others are there, and were hashed.
        written_bytes: Bytes of content that is not there, each once: a file may be another name of one that is.
        replaced: Digest of the current generation, which would stay for a rollback; None if there is none, or if it
            is this one.
        rebuilt: Files of the bundle that are damaged or missing, and of which parity would give what they lack. Damage
            of content is found by the installation alone: none of it is read here.
        rooms: What each stage needs: `staging` for prepared datasets, which wait unseen until all is verified, and
            `installed` for the rest.
    """

    name: str
    digest: str
    files: int
    size_bytes: int
    written_files: int
    written_bytes: int
    replaced: str | None
    rooms: tuple[Room, ...]
    rebuilt: tuple[str, ...] = ()


def plan_install(
    source: Place | Sequence[Path],
    hf_home: Path,
    *,
    only: Sequence[str] = (),
    parity: Sequence[Path] | None = (),
    jobs: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Progress = no_progress,
    on_note: Note = no_note,
) -> InstallPlan:
    """Find out what an installation would do. What is there is hashed, as the installation would.

    The home is not locked: another process may change it meanwhile. Where it is not known yet whether the file system
    has links, it is taken to have them.

    Args:
        source: The bundle: a file, an address or volumes.
        hf_home: The cache root; it need not exist.
        only: As for the installation, like the other arguments.
        parity: Files of parity besides those that are beside the bundle; None for refusing what is damaged.
        jobs: Cores; default all.
        on_total: Called with the number of bytes that `progress` will at most add up to; again where parity is needed.
        progress: Called with the number of bytes hashed since the last call.
        on_note: Told what a person should know of and is no error.

    Raises:
        BundleError: What the installation would end with before it writes: `ConflictError`, `FormatError`,
            `IntegrityError` where a delta lacks its base, `NotInstalledError`.
    """

    def plan(bundle: BundleReader) -> InstallPlan:
        return _plan(bundle, Home(hf_home), only, jobs or available_cores(), on_total, progress)

    with Fallback(source, parity) as fallback:
        try:
            with BundleReader(source) as bundle:
                return plan(bundle)
        except FormatError as error:
            with fallback.open(error, on_total=on_total, progress=progress, on_note=on_note) as rebuilt:
                return replace(plan(rebuilt.reader), rebuilt=tuple(map(str, rebuilt.files)))


def _plan(
    bundle: BundleReader,
    home: Home,
    only: Sequence[str],
    jobs: int,
    on_total: Callable[[int], None],
    progress: Progress,
) -> InstallPlan:
    part = select_part(bundle, only)
    content = bundle.plan.layout if part == bundle.lock else layout(part)
    on_total(sum(blob.size_bytes for blob in content.blobs))
    before = _open_current(home, bundle.name)
    wanted, there = _find_wanted(bundle, content, home, before, jobs, progress)
    digest = bundle.whole_digest
    waiting = room_needed([blob for blob in wanted if blob.path.startswith("datasets/")], there)
    current = before.digest if before else None
    return InstallPlan(
        name=part.name,
        digest=digest,
        files=len(content.blobs),
        size_bytes=sum(blob.size_bytes for blob in content.blobs),
        written_files=len(wanted),
        written_bytes=count_new_bytes(wanted, there),
        replaced=current if current != digest else None,
        rooms=(
            measure_room("staging", home.path, waiting),
            measure_room("installed", home.path, room_needed(wanted, there) - waiting),
        ),
    )


def _open_current(home: Home, name: str) -> InstalledBundle | None:
    try:
        return home.bundle(name)
    except BundleError:
        # An installation writes a damaged receipt anew.
        return None


def _find_wanted(
    bundle: BundleReader,
    content: Layout,
    home: Home,
    before: InstalledBundle | None,
    jobs: int,
    progress: Progress,
) -> tuple[list[Blob], set[str]]:
    """Return the blobs that would be written, and the SHA-256 of contents that are there, of which some are names.

    The checks that an installation begins with come first.
    """
    near = home.neighbours([content], besides=(bundle.name, ""), on_damage=ignore_damage)
    there = [*near.kept.values(), *([before] if before else [])]
    check_conflicts(
        bundle.name,
        content,
        current={name: other.layout for name, other in near.current.items()},
        kept={name: other.layout for (name, _), other in near.kept.items()},
        has_views=lambda: all(other.has_view for other in there),
    )
    located = locate(
        Staging(home.path, take_over=False),
        content,
        collect_checked(there),
        jobs,
        progress,
        view=before.view if before else None,
    )
    places = {blob.sha256: located[blob.path] for blob in content.blobs if blob.path in located}
    places |= find_base_content(bundle, content, home, places, jobs)
    return [blob for blob in content.blobs if blob.path not in located], {*places}
