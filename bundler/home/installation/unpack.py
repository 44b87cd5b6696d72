"""Bring the content of a bundle to where no library sees it yet: find what is there, read the rest, hash all of it.

What `bundler.home.installation.steps` publishes afterwards was verified here, byte by byte, whether it came from the
bundle, from an earlier run, or, for a delta, from another bundle that is installed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bundler.errors import ChangedError, FormatError, IntegrityError
from bundler.files.atomic import TEMPORARY_PREFIX, fsync_dir, temporary_path
from bundler.files.digest import hash_file
from bundler.files.hash_many import blake3_files
from bundler.files.leftovers import is_leftover
from bundler.files.links import link_or_copy
from bundler.files.paths import path_inside
from bundler.files.uncached_file import fits_in_page_cache
from bundler.format.contents.files import FileContents
from bundler.format.source import Source, Span
from bundler.format.tar import Member, TarPlan
from bundler.home.installation.unpacking import Unpacking
from bundler.home.installed import InstalledBundle
from bundler.home.sharing.trusted_users import TrustedUsers
from bundler.plan.content import Content
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.layout import Blob, Layout
from bundler.verify.report import Progress


class Staging:
    """A folder of this process for dataset files that are verified but not yet placed.

    A repo's blob is unseen until a snapshot links to it, and can be written where it stays. A prepared dataset file
    would be seen at once, and waits here, under its SHA-256, until everything is verified. The folder of a killed
    process is taken over, file by file, by rename: two heirs cannot take the same file.

    Args:
        hf_home: The cache root.
        take_over: Take over what killed processes left; without, nothing is written.
    """

    def __init__(self, hf_home: Path, *, take_over: bool = True) -> None:
        self.hf_home = hf_home
        self.folder = temporary_path(hf_home / BUNDLES_FOLDER)
        if not take_over:
            return
        now = time.time()
        for left in sorted((hf_home / BUNDLES_FOLDER).glob(f"{TEMPORARY_PREFIX}*")):
            if left.is_dir() and not left.is_symlink() and is_leftover(left, now=now):
                for file in sorted(left.iterdir()):
                    self.folder.mkdir(exist_ok=True)
                    with contextlib.suppress(FileNotFoundError):
                        file.rename(self.folder / file.name)

    def waiting_place(self, blob: Blob) -> str:
        """Return where content waits that nothing shows yet, or ever."""
        return f"{self.folder}/{blob.sha256}"

    def first_place(self, blob: Blob) -> str:
        """Return where a blob's content is written first: where no library sees it."""
        if blob.path.startswith("datasets/"):
            return self.waiting_place(blob)
        return path_inside(self.hf_home, blob.path)


def collect_checked(bundles: Iterable[InstalledBundle]) -> frozenset[Content]:
    """Return the contents of which one of `bundles` knows, since it was installed, that all their digests are true."""
    return frozenset(
        content for bundle in bundles if bundle.is_checked for content in bundle.layout.contents.values()
    )


def locate(
    staging: Staging,
    content: Layout,
    known: frozenset[Content],
    jobs: int,
    progress: Progress,
    *,
    view: Path | None = None,
) -> dict[str, str]:
    """Return blob path -> where its content already stands, hashed; content that differs does not count.

    Args:
        staging: Where files of earlier runs may wait.
        content: What is looked for.
        known: Contents whose BLAKE3 says all (`collect_checked`). Of others all digests are taken.
        jobs: Cores.
        progress: Called with the number of bytes hashed since the last call.
        view: A view that may have prepared files which the shared one has not.
    """
    hf_home = staging.hf_home
    candidates: list[tuple[Blob, str]] = []
    for repo in content.repos:
        blobs, snapshots = f"{repo.folder}/blobs", f"{repo.folder}/snapshots"
        # Where a folder is not there, nothing is: no need to ask for each of 100,000 files.
        if os.path.lexists(f"{hf_home}/{blobs}"):
            candidates += [(blob, path_inside(hf_home, blob.path)) for blob in repo.blobs]
        candidates += [(blob, path_inside(hf_home, blob.path)) for blob in repo.prepared]
        candidates += [(blob, staging.first_place(blob)) for blob in repo.prepared]
        candidates += [(blob, path_inside(view, blob.path)) for blob in repo.prepared if view is not None]
        # Without symlinks and hard links a snapshot file may be the only copy of a blob.
        if os.path.lexists(f"{hf_home}/{snapshots}"):
            candidates += [
                (file.blob, path)
                for file in repo.snapshots
                if not os.path.islink(path := path_inside(hf_home, file.path))  # noqa: PTH114 -- strings, as below
            ]

    located: dict[str, str] = {}
    for blob, path in find_matching(candidates, content.contents, known, jobs, TrustedUsers(hf_home)):
        if blob.path not in located:
            progress(blob.size_bytes)
        # Prefer the copy that is already in its final place.
        if blob.path not in located or path == path_inside(hf_home, blob.path):
            located[blob.path] = path
    return located


def find_matching(
    candidates: Sequence[tuple[Blob, str]],
    contents: Mapping[str, Content],
    known: frozenset[Content],
    jobs: int,
    users: TrustedUsers,
) -> Iterator[tuple[Blob, str]]:
    """Yield those candidates whose file has the blob's content, by size and hash, in any order.

    What is not to be trusted is none: it could be changed again.
    """

    def may_match(blob: Blob, path: str) -> bool:
        try:
            # Strings, here and above: a Path for each of 100,000 files takes seconds.
            return os.stat(path).st_size == blob.size_bytes and users.judge_place(path) is None  # noqa: PTH116
        except OSError:
            return False

    candidates = [candidate for candidate in candidates if may_match(*candidate)]
    for number, found in blake3_files(
        [path for _, path in candidates], jobs=jobs, sizes=[blob.size_bytes for blob, _ in candidates]
    ):
        blob, path = candidates[number]
        if isinstance(found, OSError) or found.blake3 != blob.blake3:
            continue
        content = contents[blob.sha256]
        if content in known or content.compare(hash_file(Path(path), *content.algorithms)) is None:
            yield blob, path


def write_blobs(
    bundle: Source,
    staging: Staging,
    wanted: list[Blob],
    places: dict[str, str],
    jobs: int,
    progress: Progress,
    *,
    is_part: bool,
    passing: Sequence[Blob] = (),
) -> None:
    """Write the content that is not there yet, each content once, in the order of the bundle.

    Args:
        bundle: The bundle.
        staging: Where dataset files wait.
        wanted: Blobs that are not at their place.
        places: sha256 -> a verified file with that content; what is written is added.
        jobs: Threads.
        progress: Called with the number of bytes written since the last call.
        is_part: Read the content of `wanted` and nothing else.
        passing: Content that is not wanted, but that wanted content is stored as a difference from: it waits in
            `staging`, and goes with it.
    """
    bundle.elsewhere = done = FileContents(places)
    members = [bundle.plan.first_of[blob.sha256] for blob in passing]
    waiting = {blob.sha256: staging.waiting_place(blob) for blob in passing}
    first = [staging.first_place(blob) for blob in wanted]
    for blob, path in zip(wanted, first, strict=True):
        if blob.sha256 not in places:
            places[blob.sha256] = path
            members.append(bundle.plan.first_of[blob.sha256])
    members.sort(key=lambda member: member.offset)
    spans = (
        [(m.offset, m.offset + m.size_bytes) for m in members] if is_part else _unless_there(bundle.plan, members)
    )
    # A launch follows, and its stamps spare it the hashing, but not the reading.
    is_read_soon = fits_in_page_cache(sum(member.size_bytes for member in members))
    unpacking = Unpacking(bundle, members, {**waiting, **places}, done, progress, is_read_soon=is_read_soon)
    with _blame_changed_bases(bundle, done), unpacking:
        # What is in no member holds links and listings, which we make ourselves: read only to be checked.
        bundle.hand_out(spans, unpacking.prepare, jobs=jobs)
    for blob, path in zip(wanted, first, strict=True):
        if path != places[blob.sha256]:
            link_or_copy(places[blob.sha256], path)
            progress(blob.size_bytes)
    for folder in {path.rpartition("/")[0] for path in first}:
        fsync_dir(Path(folder))


@contextlib.contextmanager
def _blame_changed_bases(bundle: Source, done: FileContents) -> Iterator[None]:
    """Raise ChangedError for what is wrong since a base, hashed before anything was written, has changed since."""
    try:
        yield
    except (FormatError, IntegrityError) as error:
        bases = {base for found in bundle.bases.values() for base in found}
        if changed := done.find_changed(sorted(bases)):
            raise ChangedError(
                f"{changed} changed while it was read, and content of {bundle.label} is stored as a difference from it",
                hint="let nothing write there, and run the same command again: it hashes what is there anew",
            ) from error
        raise


def _unless_there(plan: TarPlan, wanted: list[Member]) -> list[Span]:
    """Return the tar stream without the content of the members that are not wanted: it is there, verified."""
    names = {member.path for member in wanted}
    spans: list[Span] = []
    position = 0
    for member in plan.first_of.values():  # in stream order
        if member.path not in names:
            spans.append((position, member.offset))
            position = member.offset + member.size_bytes
    spans.append((position, plan.size_bytes))
    return spans
