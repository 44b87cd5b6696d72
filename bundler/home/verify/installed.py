"""Verify an installed bundle: names, links and listings against the layout, content against the lock."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from bundler.files.access import raise_unless_absent
from bundler.files.paths import inside
from bundler.home.conflicts import Pin, pins
from bundler.home.verify.extras import extra_files, hiding_markers, shipped_paths
from bundler.home.verify.hashing import Expected, compare_all
from bundler.plan.layout import Blob, Layout, RepoLayout, snapshot_link_target
from bundler.verify.report import (
    REINSTALL_HINT,
    Fault,
    Progress,
    Report,
    no_progress,
    repo_names,
)


def verify_installed(
    hf_home: Path,
    name: str,
    content: Layout,
    *,
    digest: str,
    others: Mapping[str, Layout] | None = None,
    only: Callable[[RepoLayout], bool] = lambda repo: True,
    quick: bool = False,
    jobs: int = 1,
    progress: Progress = no_progress,
) -> Report:
    """Check an installed bundle.

    Args:
        hf_home: Where it is installed.
        name: The bundle's name, for the report.
        content: What it must be.
        digest: The bundle's digest, for the report.
        others: Other bundles that have folders in common with it, by name; their files are not extra.
        only: Which repos to look at; default all.
        quick: Look at names, links and sizes, hash nothing.
        jobs: Threads that hash.
        progress: Called with the number of bytes hashed since the last call.
    """
    check = _InstalledCheck(hf_home, repo_names(content), others or {})
    for repo in content.repos:
        if only(repo):
            check.repo(repo)
    changed, hashed = (set(), 0) if quick else compare_all(check.to_hash, jobs=jobs, progress=progress)
    return Report(
        subject=f"bundle {name} in {hf_home}",
        digest=digest,
        quick=quick,
        files=len(check.to_hash),
        size_bytes=hashed,
        faults=tuple(sorted(check.faults | changed)),
        hint=check.hint(),
    )


class _InstalledCheck:
    """Collects faults of names and links, and the list of files whose content is still to be hashed."""

    def __init__(self, hf_home: Path, names: dict[str, str], others: Mapping[str, Layout]) -> None:
        self.hf_home = hf_home
        self.names = names
        self.others = others
        # Other bundles that need a name to be what was found, and not what is needed here.
        self.rivals: set[str] = set()
        self.faults: set[Fault] = set()
        self.to_hash: dict[Path, Expected] = {}

    def hint(self) -> str:
        """Return a step that mends what was found."""
        if not self.rivals:
            return REINSTALL_HINT
        removals = " and ".join(f"`bundle remove {name}`" for name in sorted(self.rivals))
        return f"two bundles cannot share a ref at two commits: {removals} gives it back, or use two HF_HOMEs"

    @cached_property
    def _pins(self) -> dict[str, dict[str, Pin]]:
        return {name: pins(other) for name, other in self.others.items()}

    def _held(self, path: str, value: str) -> str:
        """Return the words for it if another bundle needs `path` to be `value`."""
        rivals = [name for name, held in self._pins.items() if path in held and held[path].value == value]
        self.rivals.update(rivals)
        return f", which bundle {' and '.join(rivals)} needs" if rivals else ""

    def repo(self, repo: RepoLayout) -> None:
        """Check all that one repo contributes, under its own name and its aliases."""
        self._folder(repo, repo.folder)
        for blob in repo.prepared:
            self._content(blob.path, blob)
        for path, target in repo.alias_links():
            place = inside(self.hf_home, path)
            if place.is_symlink():
                if (found := place.readlink()) != Path(target):
                    what = f"expected a link to {target}, found one to {found}{self._held(path, str(found))}"
                    self.faults.add(Fault("changed", path, what))
            elif not place.is_dir():
                self.faults.add(Fault("missing", path, f"other name of {repo.repo_id}"))
            elif path.startswith("datasets/"):
                for blob in repo.prepared:
                    below = blob.path.split("/", 2)[2]
                    self._content(f"{path}/{below}", blob)
            else:
                self._folder(repo, path)

    def _folder(self, repo: RepoLayout, folder: str) -> None:
        real: set[str] = set()
        linked: set[str] = set()
        for file in repo.snapshots:
            path = repo.path_in(folder, file.path)
            place = inside(self.hf_home, path)
            if place.is_symlink():
                linked.add(file.blob.path)
                expected = snapshot_link_target(path, file.blob.path)
                if place.readlink() != Path(expected):
                    found = place.readlink()
                    self.faults.add(Fault("changed", path, f"expected a link to {expected}, found one to {found}"))
            elif place.exists():
                real.add(file.blob.path)
                self._content(path, file.blob)
            else:
                linked.add(file.blob.path)
                self.faults.add(Fault("missing", path, f"{repo.repo_id}: {file.repo_path}"))
        for blob in repo.blobs:
            # Without symlinks and hard links the snapshot file is the only copy.
            if blob.path in linked or blob.path not in real or inside(self.hf_home, blob.path).exists():
                self._content(blob.path, blob)
        self._listings(repo, folder)
        self._extras(repo, folder)

    def _content(self, path: str, blob: Blob) -> None:
        place = inside(self.hf_home, path)
        name = self.names[blob.path]
        try:
            size = place.stat().st_size
        except OSError as error:
            raise_unless_absent(error)
            self.faults.add(Fault("missing", path, name))
            return
        if not place.is_file():
            self.faults.add(Fault("changed", path, f"{name}: expected a file"))
        elif size != blob.size_bytes:
            self.faults.add(Fault("changed", path, f"{name}: expected {blob.size_bytes} bytes, found {size}"))
        else:
            self.to_hash[place] = (path, name, blob)

    def _listings(self, repo: RepoLayout, folder: str) -> None:
        for text in (*repo.ref_texts(), *repo.markers):
            path = repo.path_in(folder, text.path)
            try:
                found = inside(self.hf_home, path).read_bytes()
            except OSError as error:
                raise_unless_absent(error)
                self.faults.add(Fault("missing", path, repo.repo_id))
                continue
            if found != text.content:
                expected = text.content.decode() or "an empty file"
                value = found[:80].decode("utf-8", "backslashreplace")
                shown = value if value and value.isprintable() else repr(value)
                self.faults.add(
                    Fault("changed", path, f"expected {expected}, found {shown}{self._held(path, value)}")
                )
        for commit, files in repo.trees.items():
            path = f"{folder}/trees/{commit}.json"
            snapshot = inside(self.hf_home, f"{folder}/snapshots/{commit}")
            try:
                listing = json.loads(inside(self.hf_home, path).read_bytes())["files"]
            except OSError as error:
                raise_unless_absent(error)
                self.faults.add(Fault("missing", path, repo.repo_id))
                continue
            except (ValueError, KeyError, TypeError):
                self.faults.add(Fault("changed", path, "expected a tree listing in JSON"))
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
                self.faults.add(Fault("changed", path, what))

    def _extras(self, repo: RepoLayout, folder: str) -> None:
        shipped = shipped_paths(
            other
            for other in (repo, *(other for content in self.others.values() for other in content.repos))
            if not set(other.hub_folders).isdisjoint(repo.hub_folders)
        )
        for path in extra_files(self.hf_home, repo, folder, shipped):
            self.faults.add(Fault("extra", path, f"no installed bundle ships it in {repo.repo_id}"))
        for marker in hiding_markers(self.hf_home, repo, folder):
            self.faults.add(Fault("extra", marker, "hides a file that the bundle ships"))
