"""The Hugging Face cache layout as a pure function of a lock.

`layout(lock)` lists every name below `HF_HOME` that a bundle owns. Packing, installing, verifying and removing all
use that list, so they cannot disagree, and no path or link is ever read from a bundle.

    hub/models--ns--name/blobs/<etag>                   content, once per repo
    hub/models--ns--name/snapshots/<commit>/<path>      link to a blob
    hub/models--ns--name/trees/<commit>.json            the client's list of the commit's files (>= 2.0)
    hub/models--ns--name/.no_exist/<commit>/<path>      empty: the commit has no such file
    hub/models--ns--name/refs/<branch or tag>           the commit, without a newline
    hub/models--alias                                   link to models--ns--name
    datasets/ns___name/<config>/0.0.0/<hash>/...        prepared Arrow files of a dataset
    files/host--name/...                                the same for a file of another host
    bundles/NAME.json                                   the receipt (`bundler.home.receipt`)

Facts about the layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. `trees/` holds only the
files that are shipped: a list that names missing files makes `snapshot_download(local_files_only=True)` fail, and
chat templates are silently ignored. A ref holds no newline, because it would be read as part of the commit.

Nothing here reads or writes a file; `bundler.home.common.publish` does.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bundler.errors import LockError
from bundler.files.paths import check_relative_path
from bundler.plan.content import Content
from bundler.plan.folders import KEPT_REFS
from bundler.plan.names import (
    RepoType,
    is_commit,
    prepared_folder,
    repo_place,
)
from bundler.text.canonical_json import spell_value
from bundler.text.pieces import encode_pieces

if TYPE_CHECKING:
    from bundler.plan.lock import Lock, LockedFile, LockedRepo

# Of a repo: the names that it had before.
MAX_ALIASES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A file that holds content, as opposed to a link.

    Attributes:
        path: Path relative to HF_HOME.
        size_bytes: Length of the content.
        sha256: SHA-256 of the content.
        blake3: BLAKE3 of the content.
        etag: Name of the content on the Hub: its SHA-256 for an LFS file, its git blob SHA-1 for any other; for a
            prepared file its SHA-256.
    """

    path: str
    size_bytes: int
    sha256: str
    blake3: str
    etag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotFile:
    """A file of a snapshot: a link to a blob, or a copy of it where symlinks do not work."""

    path: str
    blob: Blob
    repo_path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A small file whose content follows from the lock: a ref, a tree listing, a `.no_exist` marker."""

    path: str
    content: bytes


def tree_json(files: Iterable[LockedFile]) -> bytes:
    """Return a `trees/<commit>.json` (format_version 1 of huggingface_hub) that lists `files`."""
    return encode_pieces(_spell_tree(sorted({file.path: file for file in files}.items())))


def _spell_tree(files: Sequence[tuple[str, LockedFile]]) -> Iterator[str]:
    # As `json.dumps` with an indent of 1 spells it, which takes five times as long.
    yield '{\n "format_version": 1,\n "files": {'
    end = ""
    for path, file in files:
        pairs = [f'"size": {file.size_bytes}', f'"blob_id": {spell_value(file.blob_id)}']
        if file.lfs_sha256:
            pairs += [f'"lfs_sha256": {spell_value(file.lfs_sha256)}', f'"lfs_size": {file.size_bytes}']
        yield f"{end}\n  {spell_value(path)}: {{\n   " + ",\n   ".join(pairs) + "\n  }"
        end = ","
    yield "\n }\n}" if files else "}\n}"


@dataclass(frozen=True, kw_only=True)
class RepoLayout:
    """Everything of one repo.

    Attributes:
        repo_type: What kind of repo it is.
        repo_id: Canonical id.
        folder: ``hub/models--...``.
        blobs: Content, sorted by path, each once.
        snapshots: Files of all commits, sorted by path.
        markers: `.no_exist` files, sorted by path.
        trees: commit -> its files that this lock ships.
        refs: ref name -> commit.
        yielding_refs: Names of refs that no entry asked for, and that another bundle may need to be something else.
        prepared: Prepared dataset files, sorted by path.
        aliases: Other ids, sorted.
    """

    repo_type: RepoType
    repo_id: str
    folder: str
    blobs: tuple[Blob, ...]
    snapshots: tuple[SnapshotFile, ...]
    markers: tuple[Text, ...]
    trees: dict[str, tuple[LockedFile, ...]]
    refs: dict[str, str]
    yielding_refs: frozenset[str]
    prepared: tuple[Blob, ...]
    aliases: tuple[str, ...]

    @property
    def hub_folders(self) -> tuple[str, ...]:
        """Its own folder, and the folders of its aliases, which are links to it or copies of it."""
        return (self.folder, *(repo_place(alias, self.repo_type) for alias in self.aliases))

    def path_in(self, folder: str, path: str) -> str:
        """Return the path, in the folder of an alias, of a file that has `path` in this repo's own folder."""
        return path if folder == self.folder else folder + path.removeprefix(self.folder)

    def ref_texts(self) -> list[Text]:
        """Return `refs/` files, in name order."""
        return [
            Text(path=f"{self.folder}/refs/{name}", content=commit.encode())
            for name, commit in sorted(self.refs.items())
        ]

    def kept_refs(self, bundle: str) -> list[Text]:
        """Return refs that keep the commits for a bundle, by as many digits as people are shown."""
        folder = f"{self.folder}/refs/{KEPT_REFS}/{bundle}"
        return [Text(path=f"{folder}/{commit[:12]}", content=commit.encode()) for commit in self.trees]

    def tree_paths(self) -> list[str]:
        """Return the paths of the `trees/` files."""
        return [f"{self.folder}/trees/{commit}.json" for commit in sorted(self.trees)]

    def tree_texts(self) -> list[Text]:
        """Return the `trees/` files; they list exactly the files of this lock."""
        return [
            Text(path=f"{self.folder}/trees/{commit}.json", content=tree_json(files))
            for commit, files in sorted(self.trees.items())
        ]

    def alias_links(self) -> list[tuple[str, str]]:
        """Return (path, relative target) of the alias folders."""
        links = []
        for alias in self.aliases:
            links.append((repo_place(alias, self.repo_type), posixpath.basename(self.folder)))
            if self.prepared:
                links.append((f"datasets/{prepared_folder(alias)}", prepared_folder(self.repo_id)))
        return links


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Every name below HF_HOME that a lock owns.

    Attributes:
        repos: One per repo, sorted by folder.
        contents: sha256 -> what the lock states about that content.
    """

    repos: tuple[RepoLayout, ...] = field(default=())
    contents: dict[str, Content] = field(default_factory=dict, compare=False, repr=False)

    @property
    def blobs(self) -> list[Blob]:
        """All files that hold content, in the order in which a bundle has them."""
        return [blob for repo in self.repos for blob in (*repo.blobs, *repo.prepared)]


def layout(lock: Lock) -> Layout:
    """Compute the cache layout of a complete lock.

    Raises:
        LockError: The lock is not complete, or contradicts itself: one digest with two contents, one name as a file
            and as a folder, one ref with two commits, one alias for two repos.
    """
    if not lock.is_complete:
        raise LockError(
            f"lock of {lock.name!r} has files without sha256 and blake3; expected a completed lock",
            hint="`bundle fetch` completes it",
        )
    groups: dict[tuple[RepoType, str], list[LockedRepo]] = {}
    for repo in lock.repos:
        groups.setdefault((repo.repo_type, repo.repo_id), []).append(repo)
    repos = tuple(
        sorted((_lay_out_repo(rt, rid, group) for (rt, rid), group in groups.items()), key=lambda r: r.folder)
    )
    _check_names(repos)
    return Layout(repos=repos, contents=_collect_contents(repos))


def _lay_out_repo(repo_type: RepoType, repo_id: str, entries: list[LockedRepo]) -> RepoLayout:
    folder = repo_place(repo_id, repo_type)
    blobs: dict[str, Blob] = {}
    snapshots: dict[str, SnapshotFile] = {}
    markers: dict[str, Text] = {}
    trees: dict[str, dict[str, LockedFile]] = {}
    refs: dict[str, str] = {}
    prepared: dict[str, Blob] = {}
    # Every file has a name below each.
    if len(names := {alias for entry in entries for alias in entry.aliases}) > MAX_ALIASES:
        raise LockError(f"{repo_id}: expected at most {MAX_ALIASES} aliases, found {len(names):,}")
    for entry in entries:
        tree = trees.setdefault(entry.commit, {})
        for file in entry.files:
            # `is` first: comparing a file with itself field by field would be most of the work.
            if (other := tree.setdefault(file.path, file)) is not file and other != file:
                raise LockError(
                    f"{repo_id}: {file.path} of commit {entry.commit} has two different contents in the lock"
                )
            blob = _make_blob(f"{folder}/blobs/{file.etag}", file.size_bytes, file.sha256, file.blake3, file.etag)
            if (known := blobs.setdefault(blob.path, blob)) is not blob and known != blob:
                raise LockError(f"{repo_id}: etag {file.etag} has two different contents in the lock")
            path = f"{folder}/snapshots/{entry.commit}/{file.path}"
            snapshots[path] = SnapshotFile(path=path, blob=blob, repo_path=file.path)
        for name in entry.absent:
            path = f"{folder}/.no_exist/{entry.commit}/{name}"
            markers[path] = Text(path=path, content=b"")
        for name in entry.refs if is_commit(entry.revision) else (entry.revision, *entry.refs):
            if refs.setdefault(name, entry.commit) != entry.commit:
                raise LockError(f"{repo_id}: revision {name!r} has two different commits in the lock")
        for item in entry.prepared:
            path = f"datasets/{prepared_folder(repo_id)}/{item.path}"
            prepared[path] = _make_blob(path, item.size_bytes, item.sha256, item.blake3, item.sha256)
    for entry in entries:
        contradiction = sorted(set(entry.absent) & set(trees[entry.commit]))
        if contradiction:
            raise LockError(f"{repo_id}: {contradiction[0]} is both a file and absent in commit {entry.commit}")
    return RepoLayout(
        repo_type=repo_type,
        repo_id=repo_id,
        folder=folder,
        blobs=tuple(blobs[path] for path in sorted(blobs)),
        snapshots=tuple(snapshots[path] for path in sorted(snapshots)),
        markers=tuple(markers[path] for path in sorted(markers)),
        trees={commit: tuple(files[p] for p in sorted(files)) for commit, files in sorted(trees.items())},
        refs=dict(sorted(refs.items())),
        yielding_refs=frozenset(refs) - {entry.revision for entry in entries},
        prepared=tuple(prepared[path] for path in sorted(prepared)),
        aliases=tuple(sorted({alias for entry in entries for alias in entry.aliases} - {repo_id})),
    )


def _make_blob(path: str, size_bytes: int, sha256: str | None, blake3: str | None, etag: str) -> Blob:
    assert sha256 and blake3, "layout() refuses incomplete locks"
    return Blob(path=path, size_bytes=size_bytes, sha256=sha256, blake3=blake3, etag=etag)


def _collect_contents(repos: Iterable[RepoLayout]) -> dict[str, Content]:
    """Return sha256 -> content; refuse a lock in which one SHA-256 has two lengths or other digests."""
    contents: dict[str, Content] = {}
    for repo in repos:
        for blob in (*repo.blobs, *repo.prepared):
            content = Content(
                size_bytes=blob.size_bytes,
                sha256=blob.sha256,
                blake3=blob.blake3,
                git_sha1=None if blob.etag == blob.sha256 else blob.etag,
            )
            first = contents.setdefault(blob.sha256, content)
            if first is content or first == content:
                continue
            git_ids = {first.git_sha1, content.git_sha1} - {None}
            if (first.size_bytes, first.blake3) != (content.size_bytes, content.blake3) or len(git_ids) > 1:
                raise LockError(
                    f"sha256 {blob.sha256} has two different contents in the lock, one of them {blob.path}"
                )
            contents[blob.sha256] = first if first.git_sha1 else content
    return contents


def _check_names(repos: Iterable[RepoLayout]) -> None:
    """Refuse a lock in which one name would be two files, or a file and a folder."""
    names: set[str] = set()
    for repo in repos:
        paths = [
            *(blob.path for blob in (*repo.blobs, *repo.prepared)),
            *(file.path for file in repo.snapshots),
            *(text.path for text in (*repo.markers, *repo.ref_texts())),
            *repo.tree_paths(),
            *(path for path, _ in repo.alias_links()),
        ]
        for path in paths:
            check_relative_path(path)
            if path in names:
                raise LockError(f"{path} would be made by two entries of the lock", hint="check the aliases")
            names.add(path)
    # This finds paths below an alias folder, too: `names` holds those folders.
    folders: set[str] = set()
    for path in names:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in names:
                raise LockError(f"{parent} would be both a file and a folder (of {path})")
            folders.add(parent)
            parent = parent.rpartition("/")[0]
