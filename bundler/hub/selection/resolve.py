"""Resolve a manifest to a lock: for every entry a commit, its chosen files, and their sizes and published digests.

Rule book:

* the Hub is asked once for each repository and revision, and all entries that share it get one commit, because they
  will share the file `refs/<revision>`;
* commits that the previous lock pins are kept, unless `upgrade` is set; new entries take the newest commit;
* the lock holds canonical names. If the Hub answers with another name than was asked for, the repository has been
  renamed; the name asked for becomes an alias, because programs still use it;
* Python of another repository that a trusted entry names is carried too, as an entry of its own at the end of the lock;
* our own digests in the previous lock are kept for unchanged files, so that these need not be fetched again;
* a repository that is there at one commit only, by that commit, is found without a revision too: it gets a ref `main`;
* the faults of all entries are reported together; an unreachable Hub is reported once.

Only `client` uses the network. `bundler.hub.selection.files` decides which files an entry takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bundler.errors import BundleError, HubError, ManifestError, NetworkError
from bundler.hub.connection.crew import Crew
from bundler.hub.selection.card import CARD, default_config_warning, read_card, unknown_configs
from bundler.hub.selection.companions import ADAPTER_CONFIG, base_model, base_model_warning
from bundler.hub.selection.files import SelectionError, select, unholdable
from bundler.hub.selection.needs import find_needs
from bundler.hub.selection.once import Once
from bundler.hub.selection.ref_names import check_names, name_pinned
from bundler.hub.selection.remote_code import (
    MODULES,
    NAMING_FILES,
    CodeReference,
    code_references,
    code_warnings,
    deeper_naming_files,
    entry_for_code,
    module_folders,
    other_repositories,
)
from bundler.plan.lock import Lock, LockedFile, LockedRepo
from bundler.plan.lock_rules import state_endpoint
from bundler.plan.lockfile import find_locked, pinned_commit
from bundler.plan.manifest import Entry, Manifest
from bundler.text.wording import did_you_mean

if TYPE_CHECKING:
    from bundler.hub.connection.client import HubClient, RemoteRevision

# Threads: enough to hide the latency of requests, few enough for a shared login node and for rate limits.
_WORKERS = 4
# Configuration files are searched for the code that they name. A longer file is not a configuration.
_MAX_CONFIG_BYTES = 1 << 23
_MAX_CONFIGS = 64


@dataclass(frozen=True)
class Resolution:
    """The result of resolving a manifest.

    Attributes:
        lock: What the manifest resolved to.
        warnings: What was left out and may be needed, for people.
        notes: What was left out because there is a better form of it, for people.
    """

    lock: Lock
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def resolve(
    manifest: Manifest, client: HubClient, *, previous: Lock | None = None, upgrade: bool = False
) -> Resolution:
    """Resolve every entry of a manifest.

    Args:
        manifest: The manifest.
        client: The client of the Hub to ask.
        previous: The lock so far; its commits and digests are kept where they still apply.
        upgrade: Take the newest commits instead of the pinned ones.

    Raises:
        HubError: A repository or revision does not exist or is refused.
        NetworkError: The Hub cannot be reached.
        ManifestError: Patterns or permissions of an entry do not fit its repository.
    """
    resolver = _Resolver(manifest, client, previous, upgrade)
    results: dict[int, _Resolved] = {}
    errors: dict[int, BundleError] = {}

    def resolve_one(index: int, entry: Entry) -> None:
        try:
            results[index] = resolver.resolve_entry(entry)
        except NetworkError:
            raise
        except BundleError as error:
            errors[index] = error

    Crew(_WORKERS, threading.Event()).run(
        partial(resolve_one, index, entry) for index, entry in enumerate(manifest.entries)
    )
    if errors:
        raise _join_errors([(manifest.entries[index], errors[index]) for index in sorted(errors)])
    resolved = [results[index] for index in range(len(manifest.entries))]
    resolved += resolver.resolve_code(resolved)
    repos = name_pinned(tuple(one.repo for one in resolved if one.repo is not None))
    check_names(repos)
    lock = Lock(name=manifest.name, manifest_sha256=manifest.digest(), repos=repos)
    warnings = [warning for one in resolved for warning in one.warnings]
    warnings += resolver.missing_base_models(repos)
    return Resolution(lock, tuple(warnings), tuple(note for one in resolved for note in one.notes))


@dataclass(frozen=True)
class _Resolved:
    """One entry, with what people should know of it, and the Python that it names; no repo if none can be carried."""

    repo: LockedRepo | None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    entry: Entry | None = None
    references: tuple[CodeReference, ...] = ()


class _Resolver:
    def __init__(self, manifest: Manifest, client: HubClient, previous: Lock | None, upgrade: bool) -> None:
        self._manifest = manifest
        self._client = client
        self._previous = previous
        self._upgrade = upgrade
        self._known = _collect_known_digests(previous)
        self._mutex = threading.Lock()
        self._once: dict[tuple[str, ...], Once[_Answer]] = {}
        self._bases: dict[str, tuple[Entry, str]] = {}

    def missing_base_models(self, repos: Iterable[LockedRepo]) -> list[str]:
        """Return a warning for each adapter whose base model is not in `repos`, which are all entries of the lock."""
        repos = tuple(repos)
        found = (base_model_warning(entry, base, repos) for _, (entry, base) in sorted(self._bases.items()))
        return [warning for warning in found if warning]

    def resolve_entry(self, entry: Entry) -> _Resolved:
        """Resolve one entry; safe to call from several threads."""
        key = (entry.repo_type, entry.repo_id, entry.revision)
        answer = self._ask_once(key, lambda: self._ask(entry))
        found, by_path = answer.revision, {file.path: file for file in answer.files}
        configs = self._read_configs(entry, found, by_path)
        probed = [f"{folder}/config.json" for folder in module_folders(configs.get(MODULES, b""))]
        if (base := base_model(configs.pop(ADAPTER_CONFIG, b""))) and not entry.base_elsewhere:
            self._bases[entry.path] = entry, base
        selection = select(entry, [*by_path, *answer.refused], probed=probed)
        if wanted := [path for path in selection.paths if path in answer.refused]:
            raise SelectionError(unholdable(entry, path, answer.refused[path]) for path in wanted)
        # Without the card in the snapshot, the library chooses other names.
        if CARD in selection.paths and (problems := unknown_configs(entry, answer.card)):
            raise SelectionError(problems)
        references = code_references(configs, by_path) if entry.repo_type == "model" else []
        carried = self._without_entry(entry, references)
        warnings = (
            *selection.warnings,
            *default_config_warning(entry, answer.card),
            *code_warnings(entry, references, self._manifest.entries, carried=carried),
            *find_needs(
                entry,
                selection.paths,
                self._manifest,
                read=lambda path: self._read(entry, found, by_path[path]),
            ),
        )
        repo = LockedRepo(
            kind=entry.kind,
            repo_id=found.repo_id,
            revision=entry.revision,
            commit=found.commit,
            aliases=tuple(sorted({*entry.aliases, entry.repo_id} - {found.repo_id})),
            trust_remote_code=entry.trusts_code,
            allow_pickle=entry.allow_pickle,
            base_elsewhere=entry.base_elsewhere,
            configs=tuple(sorted(entry.configs)),
            data_files=tuple(sorted(entry.data_files)),
            data_dirs=tuple(sorted(set(entry.data_dirs))),
            partial=selection.partial,
            card=read_card(answer.card),
            endpoint=state_endpoint(self._client.endpoint),
            files=tuple(self._add_known_digests(by_path[path]) for path in selection.paths),
            absent=selection.absent,
        )
        repo = self._keep_prepared(entry, repo)
        return _Resolved(repo, warnings, selection.notes, entry, tuple(references))

    def resolve_code(self, resolved: list[_Resolved]) -> list[_Resolved]:
        """Resolve the Python of other repositories that trusted entries name and the manifest does not.

        What cannot be had is a warning: the proof finds out whether it is needed.
        """
        found: dict[str, _Resolved] = {}
        for one in resolved:
            for name, sources in self._without_entry(one.entry, one.references).items():
                label = one.entry.label if one.entry else name
                said = f"{label}: {', '.join(sources)} names code of another repository, {name}"
                if name not in found:
                    found[name] = self._resolve_code_of(name, said)
        return list(found.values())

    def _resolve_code_of(self, repo_id: str, said: str) -> _Resolved:
        entry = Entry(kind="model", repo_id=repo_id, trust_remote_code=True, allow_patterns=("*.py",))
        try:
            carried = self.resolve_entry(entry)
        except NetworkError:
            raise
        except BundleError as error:
            return _Resolved(
                None,
                (
                    f"{said}, which cannot be carried: {error.message}; to load it offline add to models: "
                    f"- {entry_for_code(repo_id)}",
                ),
            )
        assert carried.repo is not None
        return replace(
            carried, notes=(f"{said}; its Python is carried too, of commit {carried.repo.commit}",), references=()
        )

    def _without_entry(self, entry: Entry | None, references: Iterable[CodeReference]) -> dict[str, list[str]]:
        """Return the other repositories whose code `entry` names and trusts, and that have no entry of their own."""
        if entry is None or not entry.trust_remote_code:
            return {}
        named = {name for e in self._manifest.entries for name in (e.repo_id, *e.aliases)}
        return {name: sources for name, sources in other_repositories(references).items() if name not in named}

    def _ask_once(self, key: tuple[str, ...], ask: Callable[[], _Answer]) -> _Answer:
        with self._mutex:
            once = self._once.setdefault(key, Once(ask))
        return once.result()

    def _ask(self, entry: Entry) -> _Answer:
        from bundler.hub.connection.failures import UnknownRepoError, UnknownRevisionError

        pinned = None
        if self._previous is not None and not self._upgrade:
            pinned = pinned_commit(entry, self._previous)
        try:
            found = self._client.revision(entry.repo_id, entry.repo_type, pinned or entry.revision)
        except UnknownRepoError as error:
            raise HubError(error.message, hint=self._suggest_name(entry) or error.hint) from error
        except UnknownRevisionError as error:
            if pinned is None:
                raise
            raise HubError(
                f"{entry.repo_id}: the Hub no longer has commit {pinned}, which the lock pins for {entry.revision}",
                hint="take what it has now: bundle lock --upgrade",
            ) from error
        listing = self._client.listing(found.repo_id, entry.repo_type, found.commit)
        card = next((self._read(entry, found, file) for file in listing.files if file.path == CARD), b"")
        return _Answer(found, listing.files, listing.refused, card)

    def _suggest_name(self, entry: Entry) -> str | None:
        """Return a hint with the names that an unknown name may have meant; None if there are none."""
        names, other_type = self._client.similar(entry.repo_id, entry.repo_type)
        if other_type is not None:
            section = "models or tokenizers" if other_type == "model" else f"{other_type}s"
            return f"{entry.repo_id} is a {other_type}: list it under {section}"
        others = [e.repo_id for e in self._manifest.entries if e.repo_id != entry.repo_id]
        return did_you_mean(entry.repo_id, {*names, *others}, cutoff=0.7)

    def _read_configs(self, entry: Entry, found: RemoteRevision, files: dict[str, LockedFile]) -> dict[str, bytes]:
        if entry.repo_type != "model":
            return {}
        configs: dict[str, bytes] = {}
        names = [*NAMING_FILES, ADAPTER_CONFIG]
        while names:
            for name in names:
                if name in files and files[name].size_bytes <= _MAX_CONFIG_BYTES:
                    configs[name] = self._read(entry, found, files[name])
            # A router in a folder names more folders; a file that is too long is not asked for again.
            deeper = [name for name in deeper_naming_files(configs, files) if name not in names]
            names = deeper[: _MAX_CONFIGS - len(configs)]
        return configs

    def _read(self, entry: Entry, found: RemoteRevision, file: LockedFile) -> bytes:
        """Read a small file; of one that is too long to be a configuration, nothing."""
        if file.size_bytes > _MAX_CONFIG_BYTES:
            return b""
        return self._client.read(
            found.repo_id, entry.repo_type, found.commit, file.path, size_bytes=file.size_bytes
        )

    def _add_known_digests(self, file: LockedFile) -> LockedFile:
        sha256, blake3 = self._known.get((file.etag, file.size_bytes), (None, None))
        return replace(file, sha256=sha256, blake3=blake3)

    def _keep_prepared(self, entry: Entry, repo: LockedRepo) -> LockedRepo:
        """Return `repo` with the prepared files of the previous lock, if everything they depend on is unchanged."""
        old = find_locked(entry, self._previous) if self._previous else None
        if old is None:
            return repo
        # They depend on the aliases, too: prepared files are listed under each alias.
        # The card does not matter: a lock of an older version has none.
        # Nor does where it is asked: what has not changed is as it was found first.
        kept = replace(repo, prepared=old.prepared, endpoint=old.endpoint or repo.endpoint)
        same = replace(old, card=kept.card, endpoint=kept.endpoint, refs=(), partial=kept.partial)
        return kept if same == kept else repo


@dataclass(frozen=True)
class _Answer:
    """What the Hub has for a repo at a revision; `card` is empty if there is no card, or it is too long.

    `refused` has the paths that no bundle can hold.
    """

    revision: RemoteRevision
    files: tuple[LockedFile, ...]
    refused: dict[str, str]
    card: bytes


def _collect_known_digests(lock: Lock | None) -> dict[tuple[str, int], tuple[str | None, str | None]]:
    return {
        (file.etag, file.size_bytes): (file.sha256, file.blake3)
        for repo in (lock.repos if lock else ())
        for file in repo.files
        if file.sha256 and file.blake3
    }


def _join_errors(errors: list[tuple[Entry, BundleError]]) -> BundleError:
    """Return one error for the errors of several entries."""
    if len(errors) == 1:
        entry, error = errors[0]
        if isinstance(error, SelectionError):
            return error
        error.message = f"{entry.path}: {error.message}" if entry.path else error.message
        return error
    lines: list[str] = []
    for entry, error in errors:
        place = f"{entry.path}: " if entry.path and not isinstance(error, SelectionError) else ""
        lines.extend(
            f"  {place}{line}" if i == 0 else f"  {line}" for i, line in enumerate(error.message.splitlines())
        )
        if error.hint:
            lines.append(f"    {error.hint}")
    kind = HubError if any(isinstance(error, HubError) for _, error in errors) else ManifestError
    return kind(f"{len(errors)} entries cannot be resolved\n" + "\n".join(lines))
