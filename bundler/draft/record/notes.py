"""What the watched processes and the door to the Hub have noted, read back as values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.files.bounded import read_bounded
from bundler.plan.names import is_commit, is_repo_id

# As much as anybody needs to know of one process.
_MOST_BYTES = 256 << 20
_HUB_FILE = re.compile(r"hf://datasets/([^/@]+/[^/@]+|[^/@]+)@([0-9a-f]{40})/(.+)")


@dataclass(frozen=True, order=True)
class FileUse:
    """A file of a repo that was read.

    Attributes:
        repo_type: model, dataset, space or kernel.
        repo_id: By the name that was used.
        revision: As it was asked for; empty where the file was opened by its path.
        commit: The commit that it came from; empty where nobody said.
        path: Path in the repo; empty where only the name was seen.
        local_dir: The folder that the program had it put into, if not the cache.
        listed: Whether the revision was only listed with all others, and not asked for.
    """

    repo_type: str
    repo_id: str
    revision: str
    commit: str
    path: str
    local_dir: str = ""
    listed: bool = False


@dataclass(frozen=True)
class DatasetUse:
    """A dataset that was asked for by its name.

    Attributes:
        repo_id: The repo; empty for a format (``load_dataset("csv", …)``) of files that lie on the Hub.
        asked: What the program asked for.
        revision: As it was asked for.
        commit: The commit of the repo.
        config: The configuration that it got.
        data_files: As given, as JSON; None if not given.
        data_dir: As given.
        other: Further arguments that change what is prepared.
        where: The line of code, as ``file:line``.
        files: Of the configuration.
    """

    repo_id: str
    asked: str
    revision: str
    commit: str
    config: str
    data_files: str | None
    data_dir: str | None
    other: tuple[str, ...]
    where: str
    files: tuple[FileUse, ...]


@dataclass(frozen=True, order=True)
class HostUse:
    """Another host that was asked.

    Attributes:
        host: Name, or address where no name was seen.
        port: Port; 0 if unknown.
        where: The line of the user's code, as ``file:line``; or the program, where no Python was seen.
        code: Text of the line; empty if unknown.
        address: The address that was connected to; empty if there was none.
        argv: Command line of the Python process.
    """

    host: str
    port: int
    where: str
    code: str = ""
    address: str = ""
    argv: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """Host and port."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port or '?'}"


@dataclass(frozen=True, order=True)
class UrlUse:
    """A file of another host that a library keeps in a cache of its own.

    Attributes:
        url: Its address.
        library: tiktoken or torch.
        where: The line of the user's code, as ``file:line``.
        name: The name that the program gave it in the library's cache; empty for the library's own.
        is_own: Whether it went into a folder of the program's own.
    """

    url: str
    library: str
    where: str
    name: str = ""
    is_own: bool = False


@dataclass(frozen=True, kw_only=True)
class Notes:
    """All notes of a recording.

    Attributes:
        files: Files that were read, in the order of the notes.
        datasets: Datasets that were asked for.
        splits: Name of a dataset -> splits that were asked for.
        http: Repos whose files were asked for by plain HTTP, as ``model org/name``, and by which client.
        trusted: Names of models for which Python was run.
        hosts: Other hosts that were asked.
        urls: Files of other hosts that libraries keep.
        hub_hosts: Hosts that the Hub sent clients to.
        faults: What could not be noted, in words.
    """

    files: tuple[FileUse, ...] = ()
    datasets: tuple[DatasetUse, ...] = ()
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    http: tuple[tuple[str, str], ...] = ()
    trusted: frozenset[str] = frozenset()
    hosts: tuple[HostUse, ...] = ()
    urls: tuple[UrlUse, ...] = ()
    hub_hosts: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()


def read_notes(folder: Path) -> Notes:
    """Read the notes of all processes; a line that is not whole, of a process that was killed, is passed over."""
    files: dict[FileUse, None] = {}
    datasets: list[DatasetUse] = []
    splits: dict[str, dict[str, None]] = {}
    hosts: dict[HostUse, None] = {}
    http: dict[tuple[str, str], None] = {}
    trusted: set[str] = set()
    urls: dict[UrlUse, None] = {}
    hub_hosts: set[str] = set()
    faults: dict[str, None] = {}
    for note in _read_lines(folder):
        match note.get("kind"):
            case "file":
                files[_read_file(note)] = None
            case "dataset":
                use = _read_dataset(note)
                datasets.append(use)
                files.update(dict.fromkeys(use.files))
            case "split":
                splits.setdefault(str(note.get("asked")), {})[str(note.get("split") or "all")] = None
            case "host":
                place = f"{note.get('file')}:{note.get('line')}"
                known = str(note.get("code", "")), str(note.get("address", "")), tuple(note.get("argv", ()))
                hosts[HostUse(str(note["host"]), int(note["port"]), place, *known)] = None
            case "http":
                http[str(note["repo"]), str(note["client"]) or "an unnamed client"] = None
            case "code":
                trusted.add(str(note["repo_id"]))
            case "url":
                place = f"{note['where']['file']}:{note['where']['line']}"
                more = str(note.get("name") or ""), bool(note.get("own"))
                urls[UrlUse(str(note["url"]), str(note["library"]), place, *more)] = None
            case "hub_host":
                hub_hosts.add(str(note["host"]))
            case "fault":
                faults[str(note.get("text"))] = None
    return Notes(
        files=tuple(use for use in files if is_repo_id(use.repo_id)),
        datasets=tuple(datasets),
        splits={name: tuple(found) for name, found in splits.items()},
        http=tuple(http),
        trusted=frozenset(trusted),
        hosts=tuple(hosts),
        urls=tuple(urls),
        hub_hosts=frozenset(hub_hosts),
        faults=tuple(faults),
    )


def _read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.jsonl")):
        try:
            lines = read_bounded(path, _MOST_BYTES).splitlines()
        except OSError as error:
            # A night's work must not be lost for the notes of one process.
            yield {"kind": "fault", "text": f"the notes of a process are left out: {error}"}
            continue
        for line in lines:
            try:
                note = json.loads(line)
            except ValueError:
                continue
            if isinstance(note, dict):
                yield note


def _read_file(note: dict[str, Any]) -> FileUse:
    commit = str(note.get("commit") or "")
    return FileUse(
        str(note["repo_type"]),
        str(note["repo_id"]),
        str(note.get("revision") or ""),
        commit if is_commit(commit) else "",
        str(note.get("path") or ""),
        str(note.get("local_dir") or ""),
        bool(note.get("listed")),
    )


def _read_dataset(note: dict[str, Any]) -> DatasetUse:
    repo_id, revision, commit = str(note["repo_id"]), str(note["revision"]), str(note["commit"])
    files = []
    for text in note["files"]:
        if found := _HUB_FILE.fullmatch(text):
            name, sha, path = found.groups()
            files.append(FileUse("dataset", name, revision if name == repo_id else sha, sha, path))
    if repo_id and is_commit(commit):
        files.append(FileUse("dataset", repo_id, revision, commit, ""))
    where = note["where"]
    return DatasetUse(
        repo_id=repo_id,
        asked=str(note["asked"]),
        revision=revision,
        commit=commit,
        config=str(note["config"]),
        data_files=None if note["data_files"] is None else json.dumps(note["data_files"], ensure_ascii=False),
        data_dir=note["data_dir"],
        other=tuple(note["other"]),
        where=f"{where['file']}:{where['line']}",
        files=tuple(files),
    )
