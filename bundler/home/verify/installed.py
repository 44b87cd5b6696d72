"""Verify an installed bundle: names, links and listings against the layout, content against the lock."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Container, Sequence
from functools import cached_property
from pathlib import Path

from bundler.files.access import raise_unless_absent
from bundler.files.paths import inside
from bundler.files.stamp import find_inode
from bundler.home.common.conflicts import Pin, pins
from bundler.home.common.extras import extra_files, hiding_markers, shipped_paths
from bundler.home.common.snapshot_links import SnapshotLinks
from bundler.home.sharing.trusted_users import TrustedUsers, list_folders
from bundler.home.verify.hashing import Expected, Hashed, compare_all
from bundler.home.verify.names import NameReader
from bundler.plan.layout import Blob, Layout, RepoLayout
from bundler.plan.names import is_blob_path
from bundler.verify.report import REINSTALL_HINT, Fault, FaultKind, Progress, Report, no_progress, repo_names


def verify_installed(
    subject: str,
    digest: str,
    checks: Sequence[InstalledCheck],
    *,
    only: Callable[[RepoLayout], bool] = lambda repo: True,
    quick: bool = False,
    jobs: int = 1,
    progress: Progress = no_progress,
    hashed: Hashed | None = None,
) -> Report:
    """Check an installed bundle, wherever its names are; content that several of them lead to is hashed once.

    Args:
        subject: What is checked, for the report.
        digest: The bundle's digest, for the report.
        checks: One for each view.
        only: Which repos to look at; default all.
        quick: Look at names, links and sizes, hash nothing.
        jobs: Threads that hash.
        progress: Called with the number of bytes hashed since the last call.
        hashed: What earlier calls have hashed, which is not hashed again.
    """
    to_hash: dict[str, Expected] = {}
    for check in checks:
        for repo in check.content.repos:
            if only(repo):
                check.check_repo(repo, known=to_hash)
        to_hash |= check.to_hash
    changed: set[Fault] = set()
    size_bytes = 0
    if not quick:
        names = checks[0].names
        changed, size_bytes = compare_all(
            to_hash, lambda blob: names[blob.path], jobs=jobs, progress=progress, hashed=hashed
        )
    return Report(
        subject=subject,
        digest=digest,
        quick=quick,
        files=len(checks[0].to_hash),
        size_bytes=size_bytes,
        faults=tuple(sorted(changed.union(*(check.faults for check in checks)))),
        hint=REINSTALL_HINT,
    )


class InstalledCheck:
    """Collects faults of names and links in one view, and the list of files whose content is still to be hashed.

    Args:
        hf_home: The cache root, for the paths in faults.
        root: The root of the view: `hf_home` itself, or the view of a generation.
        content: What it must show.
        current: What other bundles have there. A name that one of them needs to be something else was first given to
            that one, and is no fault.
        kept: What all generations there ship: none of these files is extra.
        datasets_root: The folder in which `datasets/` is, if it is not `root`.
    """

    def __init__(
        self,
        hf_home: Path,
        root: Path,
        content: Layout,
        *,
        current: Sequence[Layout] = (),
        kept: Sequence[Layout] = (),
        datasets_root: Path | None = None,
    ) -> None:
        self.hf_home = hf_home
        self.root = root
        self.datasets_root = datasets_root or root
        self.content = content
        self.current = current
        self.kept = kept
        self.trusted_users = TrustedUsers(hf_home)
        self._reader = NameReader()
        self.faults: set[Fault] = set()
        self.to_hash: dict[str, Expected] = {}
        below = root.relative_to(hf_home).as_posix() if root.is_relative_to(hf_home) else str(root)
        self._prefix = "" if below == "." else f"{below}/"

    def _find_place(self, path: str) -> str:
        # Paths of a layout are plain relative ones. Strings, since a Path for each of 100,000 files takes seconds.
        if is_blob_path(path):
            return f"{self.hf_home}/{path}"
        return f"{self.datasets_root if path.startswith('datasets/') else self.root}/{path}"

    def _add(self, kind: FaultKind, path: str, detail: str) -> None:
        self.faults.add(Fault(kind, f"{self._prefix}{path}", detail))

    def _read_name(self, path: str, place: str) -> tuple[bool, str | None]:
        """Return whether a name is there, and what it says if it is a link; one of a stranger's is a fault."""
        try:
            status, target = self._reader.read(place)
        except OSError as error:
            raise_unless_absent(error)
            return False, None
        if distrust := self.trusted_users.judge(status):
            self._add("untrusted", path, distrust.reason)
        return True, target

    @cached_property
    def names(self) -> dict[str, str]:
        """What people call each blob: the files of repos that have its content."""
        return repo_names(self.content)

    @cached_property
    def _pins(self) -> list[dict[str, Pin]]:
        return [pins(other) for other in self.current]

    def _is_held(self, path: str, value: str) -> bool:
        """Tell whether another bundle needs `path` to be `value`."""
        return any(path in held and held[path].value == value for held in self._pins)

    def _is_others(self, path: str, value: str) -> bool:
        """Tell whether `path` was first given to a bundle that needs it to be something else than `value`."""
        return any(path in held and held[path].value != value for held in self._pins)

    def check_repo(self, repo: RepoLayout, *, known: Container[str] = ()) -> None:
        """Check all that one repo contributes, under its own name and its aliases.

        Args:
            repo: One of the repos of the content.
            known: Where content was found already: views share it.
        """
        with self._reader:
            self._check_owners(repo)
            self._check_folder(repo, repo.folder, known)
            self._check_other_names(repo, known)

    def _check_other_names(self, repo: RepoLayout, known: Container[str]) -> None:
        prepared = [blob for blob in repo.prepared if not self._is_others(blob.path, f"sha256:{blob.sha256}")]
        for blob in prepared:
            self._check_content(blob.path, blob)
        for path, target in repo.alias_links():
            place = self._find_place(path)
            _, found = self._read_name(path, place)
            if found is not None:
                if found != target and not self._is_held(path, found):
                    self._add("changed", path, f"expected a link to {target}, found one to {found}")
            elif not os.path.isdir(place):  # noqa: PTH112 -- strings, as above
                self._add("missing", path, f"other name of {repo.repo_id}")
            elif path.startswith("datasets/"):
                # A folder of its own shows what the link would.
                for blob in prepared:
                    below = blob.path.split("/", 2)[2]
                    self._check_content(f"{path}/{below}", blob)
            else:
                self._check_folder(repo, path, known)

    def _check_owners(self, repo: RepoLayout) -> None:
        for folder in list_folders(self.root, repo):
            # The content that a view leads to is the home's.
            is_on_the_way = folder in (repo.folder, f"{repo.folder}/blobs")
            names = self.datasets_root if folder.startswith("datasets/") else self.root
            for root in dict.fromkeys([self.hf_home, names] if is_on_the_way else [names]):
                if distrust := self.trusted_users.judge_place(f"{root}/{folder}"):
                    self._add("untrusted", folder, distrust.reason)

    def _check_folder(self, repo: RepoLayout, folder: str, known: Container[str]) -> None:
        real: set[str] = set()
        linked: set[str] = set()
        root = f"{self.root}/"
        blobs = f"{repo.folder}/blobs"
        links = SnapshotLinks(self.root, repo)
        if repo.blobs and os.path.realpath(f"{self.root}/{blobs}") != os.path.realpath(f"{self.hf_home}/{blobs}"):
            self._add("changed", blobs, f"expected a link to {self.hf_home}/{blobs}")
        for file in repo.snapshots:
            path = repo.path_in(folder, file.path)
            is_there, found = self._read_name(path, root + path)
            if found is not None:
                linked.add(file.blob.path)
                if not links.accepts(path, file.blob.path, found):
                    expected = links.choose(path, file.blob.path)
                    self._add("changed", path, f"expected a link to {expected}, found one to {found}")
            elif is_there:
                real.add(file.blob.path)
                self._check_content(path, file.blob)
            else:
                linked.add(file.blob.path)
                self._add("missing", path, f"{repo.repo_id}: {file.repo_path}")
        for blob in repo.blobs:
            if f"{self.hf_home}/{blob.path}" in known:
                continue
            # Without symlinks and hard links the snapshot file is the only copy.
            if blob.path in linked or blob.path not in real or os.path.lexists(self._find_place(blob.path)):
                self._check_content(blob.path, blob)
        self._check_listings(repo, folder)
        self._check_extras(repo, folder)

    def _check_content(self, path: str, blob: Blob) -> None:
        place = self._find_place(path)
        # The content of a view is that of the home, and its damage one fault.
        shown = path if is_blob_path(path) else f"{self._prefix}{path}"
        try:
            status = os.lstat(place)
            distrust = self.trusted_users.judge(status)
            if stat.S_ISLNK(status.st_mode):
                status = os.stat(place)  # noqa: PTH116 -- strings, as above
                distrust = distrust or self.trusted_users.judge(status)
        except OSError as error:
            raise_unless_absent(error)
            self.faults.add(Fault("missing", shown, self.names[blob.path]))
            return
        if distrust:
            self.faults.add(Fault("untrusted", shown, distrust.reason))
        if not stat.S_ISREG(status.st_mode):
            self.faults.add(Fault("changed", shown, f"{self.names[blob.path]}: expected a file"))
        elif status.st_size != blob.size_bytes:
            detail = f"{self.names[blob.path]}: expected {blob.size_bytes} bytes, found {status.st_size}"
            self.faults.add(Fault("changed", shown, detail))
        else:
            self.to_hash[place] = (shown, blob, find_inode(status))

    def _check_listings(self, repo: RepoLayout, folder: str) -> None:
        for text in (*repo.ref_texts(), *repo.markers):
            path = repo.path_in(folder, text.path)
            self._read_name(path, self._find_place(path))
            try:
                found = inside(self.root, path).read_bytes()
            except OSError as error:
                raise_unless_absent(error)
                self._add("missing", path, repo.repo_id)
                continue
            if found != text.content and not self._is_held(path, found.decode("utf-8", "backslashreplace")):
                expected = text.content.decode() or "an empty file"
                value = found[:80].decode("utf-8", "backslashreplace")
                shown = value if value and value.isprintable() else repr(value)
                self._add("changed", path, f"expected {expected}, found {shown}")
        for commit, files in repo.trees.items():
            path = f"{folder}/trees/{commit}.json"
            self._read_name(path, self._find_place(path))
            snapshot = inside(self.root, f"{folder}/snapshots/{commit}")
            try:
                listing = dict(json.loads(inside(self.root, path).read_bytes())["files"])
            except OSError as error:
                raise_unless_absent(error)
                self._add("missing", path, repo.repo_id)
                continue
            except (ValueError, KeyError, TypeError, RecursionError):
                self._add("changed", path, "expected a tree listing in JSON")
                continue
            wrong = [
                file.path
                for file in files
                if not isinstance(entry := listing.get(file.path), dict)
                or (entry.get("size"), entry.get("blob_id"), entry.get("lfs_sha256"))
                != (file.size_bytes, file.blob_id, file.lfs_sha256)
            ]
            ours = {file.path for file in files}
            absent = [name for name in listing if name not in ours and not os.path.lexists(snapshot / name)]
            if wrong or absent:
                what = (
                    f"lists {wrong[0]} wrongly or not at all" if wrong else f"lists {absent[0]}, which is missing"
                )
                self._add("changed", path, what)

    def _check_extras(self, repo: RepoLayout, folder: str) -> None:
        shipped = shipped_paths(
            other
            for other in (repo, *(other for content in self.kept for other in content.repos))
            if not set(other.hub_folders).isdisjoint(repo.hub_folders)
        )
        for path in extra_files(self.root, repo, folder, shipped):
            self._add("extra", path, f"no installed bundle ships it in {repo.repo_id}")
        for marker in hiding_markers(self.root, repo, folder):
            self._add("extra", marker, "hides a file that the bundle ships")
