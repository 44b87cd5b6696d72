"""Which files of a repo are LFS files: known to clients by their SHA-256, and to git by a pointer.

A repo's own `.gitattributes` decides. Without one, the suffixes that the Hub makes LFS files of in a new repo do.
In either case a large file is one, since the Hub takes no large file otherwise.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundler.serve.sources.files import DiskFile

# The Hub refuses regular git files of this size, so there every larger file is an LFS file.
LFS_THRESHOLD_BYTES = 10 << 20
# For repos without a .gitattributes: what the one that the Hub puts into a new repo names, less its rarities.
DEFAULT_LFS_PATTERNS = (
    *("*.7z", "*.arrow", "*.avro", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gguf", "*.gz", "*.h5", "*.joblib"),
    *("*.lz4", "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.parquet", "*.pb"),
    *("*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors", "*.tar", "*.tflite", "*.tgz", "*.wasm"),
    *("*.xz", "*.zip", "*.zst", "*tfevents*"),
)
# A star, and then nothing that is special, nor a slash.
_SUFFIX = re.compile(r"\*[^*?\[\\/]+")


class LfsRule:
    """Decides which files of a repo are LFS files, from its `.gitattributes` where it has one.

    Args:
        attributes: Text of `.gitattributes`, or None when the repo has none.
    """

    def __init__(self, attributes: str | None) -> None:
        lines = _parse(attributes) if attributes is not None else [(name, True) for name in DEFAULT_LFS_PATTERNS]
        # The last line that matches decides. Of neighbours that say the same it does not matter which.
        self._runs = [
            (_Patterns([pattern for pattern, _ in run]), value)
            for value, run in itertools.groupby(reversed(lines), key=lambda line: line[1])
        ]

    @classmethod
    def of(cls, files: Mapping[str, DiskFile]) -> LfsRule:
        """Return the rule of a repo with these files."""
        attributes = files.get(".gitattributes")
        return cls(Path(attributes.location).read_text("utf-8", "replace") if attributes else None)

    def __call__(self, path: str, size_bytes: int) -> bool:
        """Tell whether the file is an LFS file; as in git, the last line that matches decides."""
        if size_bytes >= LFS_THRESHOLD_BYTES:
            return True
        return next((value for patterns, value in self._runs if patterns.match(path)), False)


class _Patterns:
    """Patterns of which one has to match; most are a suffix, which takes no regular expression."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._suffixes = tuple(pattern[1:] for pattern in patterns if _SUFFIX.fullmatch(pattern))
        others = [attribute_pattern(pattern).pattern for pattern in patterns if not _SUFFIX.fullmatch(pattern)]
        self._others = re.compile("|".join(f"(?:{other})" for other in others)) if others else None

    def match(self, path: str) -> bool:
        return path.endswith(self._suffixes) or (
            self._others is not None and self._others.fullmatch(path) is not None
        )


def _parse(attributes: str) -> list[tuple[str, bool]]:
    """Return the patterns that say of files whether they are LFS files, and what they say."""
    found = []
    for line in attributes.splitlines():
        pattern, *settings = line.split() or [""]
        filters = [s for s in settings if s.lstrip("-!").split("=")[0] == "filter"]
        if pattern and not pattern.startswith("#") and filters:
            found.append((pattern, filters[-1] == "filter=lfs"))
    return found


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
