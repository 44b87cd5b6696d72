"""Which files below a folder belong to a repo, and which of these are LFS files.

Rule book:

* served are regular files whose real place is below the root that the user named; a link that leaves it is not
  followed, whatever it points to;
* names that start with a dot are not part of a repo (`.git`, `.cache`, `.env`, half-written files), but for git's
  and the Hub's own settings; nor are names under which Hugging Face libraries keep access tokens;
* a file is opened at the place that was listed, without following a link, and must be the very file that was
  hashed (`FileStamp`): nothing can be swapped in between.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import FormatError
from bundler.hub.source import ContentChangedError
from bundler.paths import check_relative_path

SERVED_DOTFILES = frozenset({".gitattributes", ".gitignore", ".huggingface.yaml"})
# `token` and `stored_tokens` lie at the root of HF_HOME; one wrong PATH must not publish them.
SECRETS = frozenset({"token", "stored_tokens"})

# The Hub refuses regular git files of this size, so there every larger file is an LFS file.
LFS_THRESHOLD_BYTES = 10 << 20
# For repos without a .gitattributes: what the one that the Hub puts into a new repo names, less its rarities.
DEFAULT_LFS_PATTERNS = (
    *("*.7z", "*.arrow", "*.avro", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gguf", "*.gz", "*.h5", "*.joblib"),
    *("*.lz4", "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.parquet", "*.pb"),
    *("*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors", "*.tar", "*.tflite", "*.tgz", "*.wasm"),
    *("*.xz", "*.zip", "*.zst", "*tfevents*"),
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileStamp:
    """What tells one state of a file from another without reading it."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class DiskFile:
    """A file that may be served.

    Attributes:
        path: POSIX path in the repo.
        location: Where it really lies, links resolved.
        stamp: Its state when it was listed.
    """

    path: str
    location: Path
    stamp: FileStamp

    def open(self) -> FileContent:
        """Open the listed file.

        Raises:
            ContentChangedError: It is gone, or was changed or replaced since.
        """
        try:
            descriptor = os.open(self.location, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ContentChangedError(f"{self.path}: cannot be read any more ({error.strerror})") from error
        if FileStamp.of(os.fstat(descriptor)) != self.stamp:
            os.close(descriptor)
            raise ContentChangedError(f"{self.path}: changed on disk since its commit was computed")
        return FileContent(descriptor)


class FileContent:
    """The bytes of an open file; safe to read from several threads.

    Args:
        descriptor: Open for reading; closed by `close`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from `offset`; fewer only when the file ends there."""
        parts = []
        while size_bytes > 0 and (part := os.pread(self._descriptor, size_bytes, offset)):
            parts.append(part)
            offset += len(part)
            size_bytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def is_served_name(name: str) -> bool:
    """Tell whether a file or folder of this name can be part of a repo."""
    return name not in SECRETS and (not name.startswith(".") or name in SERVED_DOTFILES)


def is_real_folder(path: Path, *, root: Path) -> bool:
    """Tell whether `path`, a name below `root`, is a folder with no link on the way to it."""
    while path != root:
        if path.is_symlink() or not path.is_dir():
            return False
        path = path.parent
    return True


def list_repo_files(folder: Path, *, root: Path) -> dict[str, DiskFile]:
    """Return what may be served below `folder`, by path in the repo, sorted.

    Args:
        folder: The repo's files; a real folder below `root`.
        root: The resolved folder that no served file may lie outside of.
    """
    found = {file.path: file for file in _walk(folder, "", root)}
    return dict(sorted(found.items()))


def _walk(folder: Path, prefix: str, root: Path) -> Iterator[DiskFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if not is_served_name(entry.name):
                continue
            try:
                check_relative_path(path)
            except FormatError as error:
                _log.warning("not served: %s", error.message)
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{path}/", root)
            elif file := _disk_file(path, Path(entry.path), root):
                yield file


def _disk_file(path: str, place: Path, root: Path) -> DiskFile | None:
    location = place
    if place.is_symlink():
        location = Path(os.path.realpath(place))
        if not location.is_relative_to(root) or location.name in SECRETS:
            _log.warning("not served: %s is a link that leaves %s", place, root)
            return None
    try:
        status = location.lstat()
    except OSError as error:
        _log.warning("not served: %s (%s)", place, error.strerror)
        return None
    if not stat.S_ISREG(status.st_mode):
        # Links to folders are left out as well: they can be circular, and git repos have none that clients follow.
        _log.warning("not served: %s is not a regular file", place)
        return None
    return DiskFile(path, location, FileStamp.of(status))


class LfsRule:
    """Decides which files of a repo are LFS files, from its `.gitattributes` where it has one.

    Args:
        attributes: Text of `.gitattributes`, or None when the repo has none.
    """

    def __init__(self, attributes: str | None) -> None:
        self._patterns: list[tuple[re.Pattern[str], bool]] = []
        if attributes is None:
            self._patterns = [(attribute_pattern(pattern), True) for pattern in DEFAULT_LFS_PATTERNS]
            return
        for line in attributes.splitlines():
            pattern, *settings = line.split() or [""]
            filters = [s for s in settings if s.lstrip("-!").split("=")[0] == "filter"]
            if pattern and not pattern.startswith("#") and filters:
                self._patterns.append((attribute_pattern(pattern), filters[-1] == "filter=lfs"))

    def __call__(self, path: str, size_bytes: int) -> bool:
        """Tell whether the file is an LFS file; as in git, the last line that matches decides."""
        is_lfs = False
        for pattern, value in self._patterns:
            if pattern.fullmatch(path):
                is_lfs = value
        return is_lfs or size_bytes >= LFS_THRESHOLD_BYTES


def attribute_pattern(pattern: str) -> re.Pattern[str]:
    """Translate a pattern of `.gitattributes` (gitignore's, less negation) to match paths from the root."""
    anchored = "/" in pattern.rstrip("/")
    text = pattern.strip("/")
    parts = [] if anchored else ["(?:.*/)?"]
    position = 0
    while position < len(text):
        rest = text[position:]
        if rest.startswith("**/"):
            parts.append("(?:.*/)?")
            position += 3
        elif rest == "**":
            parts.append(".*")
            position += 2
        elif rest[0] in "*?":
            parts.append("[^/]*" if rest[0] == "*" else "[^/]")
            position += 1
        elif (end := text.find("]", position + 2)) > 0 and rest[0] == "[":
            inner = text[position + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]")
            position = end + 1
        else:
            parts.append(re.escape(rest[0]))
            position += 1
    return re.compile("".join(parts))
