"""Which files of a trained model's folder may be packed, and which must not leave this machine.

Rule book:

* a link is followed to a file below the folder that the user named, and nowhere else; links to folders are not, as
  they can be circular;
* what is hidden is no part of a model, nor are names under which libraries and ssh keep secrets: left out, and named;
* text that holds a token of Hugging Face is refused, not left out: what it says was wanted, and a bundle that was
  carried away cannot be called back. Weights are not searched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bundler.errors import UsageError
from bundler.hub.selection.pickle_names import PICKLE_SUFFIXES
from bundler.serve.sources.files import SECRETS, is_served_name

_PRIVATE_STEMS = SECRETS | {"env", "secret", "secrets"}
# User access tokens: `hf_` and 34 letters. Shorter ones too, but no words of code such as hf_device_map.
_TOKEN = re.compile(rb"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{20,}")
_WEIGHTS = PICKLE_SUFFIXES | {".safetensors", ".gguf"}


@dataclass(frozen=True)
class FolderFiles:
    """The files below a folder.

    Attributes:
        places: Path in the repo -> where the file lies, links resolved.
        outside: Path in the repo -> where outside of the root a link leads.
        private: Names of secrets, those of folders with a slash at the end.
        others: What is hidden, links to folders, and what is no regular file.
    """

    places: dict[str, Path] = field(default_factory=dict)
    outside: dict[str, Path] = field(default_factory=dict)
    private: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def list_files(folder: Path, *, root: Path) -> FolderFiles:
    """List the files below a folder.

    Args:
        folder: A model's folder.
        root: The resolved folder outside of which no file may lie.

    Raises:
        OSError: A folder cannot be read.
    """
    found = FolderFiles()
    _walk(folder, "", root, found)
    return found


def _walk(folder: Path, prefix: str, root: Path, found: FolderFiles) -> None:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path, is_folder = prefix + entry.name, entry.is_dir(follow_symlinks=False)
        place = Path(os.path.realpath(entry.path))
        if _is_private(entry.name):
            found.private.append(f"{path}/" if is_folder else path)
        elif not is_served_name(entry.name):
            found.others.append(f"{path}/" if is_folder else path)
        elif is_folder:
            _walk(Path(entry.path), f"{path}/", root, found)
        elif not place.is_relative_to(root):
            found.outside[path] = place
        elif _is_private(place.name) or not is_served_name(place.name):
            found.private.append(path)
        elif place.is_file():
            found.places[path] = place
        else:
            found.others.append(path)


def _is_private(name: str) -> bool:
    lower = name.lower()
    return lower.split(".")[0] in _PRIVATE_STEMS or re.search(r"\.env(?:\.|$)", lower) is not None


def refuse_links(links: Mapping[Path, Path], root: Path) -> None:
    """Refuse links that lead outside of the folder that is packed.

    Raises:
        UsageError: There are any; all are named.
    """
    if links:
        lines = "".join(f"\n  {link} -> {place}" for link, place in links.items())
        raise UsageError(
            f"expected files that lie in {root}, found links that lead out of it:{lines}",
            hint="if they are to be packed, put the files themselves there (cp --dereference); else delete the links",
        )


def refuse_tokens(files: Iterable[Path]) -> None:
    """Refuse files that hold what looks like a token of Hugging Face; weights are not searched.

    Raises:
        UsageError: There are any; each is named with the line, and the token is not repeated.
    """
    holding = []
    for path in files:
        if PurePosixPath(path).suffix.lower() in _WEIGHTS:
            continue
        content = path.read_bytes()
        lines = sorted({content.count(b"\n", 0, match.start()) + 1 for match in _TOKEN.finditer(content)})
        holding += [f"\n  {path}, line {line}" for line in lines]
    if holding:
        raise UsageError(
            f"found what looks like a Hugging Face token (hf_…), which everybody could read in the bundle:"
            f"{''.join(holding)}",
            hint="take it out of the file, and revoke it at https://huggingface.co/settings/tokens if others saw it",
        )


def name_left_out(left: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return names of what was left out: a folder of which nothing was taken is named as one."""
    folders = {str(parent) for path in taken for parent in PurePosixPath(path).parents}
    names = set()
    for path in left:
        whole = [parent for parent in PurePosixPath(path).parents if str(parent) not in {*folders, "."}]
        names.add(f"{whole[-1]}/" if whole else path)
    return sorted(names)
