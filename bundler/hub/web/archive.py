"""The files in a zip of a repository, as torch.hub unpacks it, and nothing that leads out of its folder.

Rule book:

* all names lie in one folder, which is left out, as torch renames it; a name that is absolute, or has `..`, a backslash
  or a control character, is refused, and so are a second file of one name and a file that is also a folder;
* what a member claims of its length is a bound: no more is read. All of them together have bounds besides;
* a link is a file with its target as content, as Python's own unpacking makes it; nothing is ever linked.

Source: torch 2.13, `torch.hub._get_cache_or_reload` and `_safe_extract_zip`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from bundler.errors import FormatError
from bundler.files.paths import check_relative_path

MOST_MEMBERS = 50_000
MOST_BYTES = 4 << 30
_BLOCK_BYTES = 1 << 20


def list_members(archive: zipfile.ZipFile, what: str) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their paths below its one folder.

    Raises:
        FormatError: It has a name that is refused, too many members, or too much content.
    """
    members = archive.infolist()
    if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > MOST_BYTES:
        raise FormatError(
            f"{what}: expected at most {MOST_MEMBERS:,} files and {MOST_BYTES:,} bytes in it, found more"
        )
    found: dict[str, zipfile.ZipInfo] = {}
    tops = set()
    for member in members:
        # The raw name: zipfile cuts a name at a NUL.
        name = member.orig_filename
        top, is_below, path = name.partition("/")
        tops.add(top)
        check_relative_path(name.removesuffix("/"))
        if member.is_dir():
            continue
        if not is_below or len(tops) > 1:
            raise FormatError(
                f"{what}: expected one folder in it, as in a zip of GitHub, found {sorted(tops)[:3]}"
            )
        if member.flag_bits & 1:
            raise FormatError(f"{what}: {path!r} is encrypted")
        if path in found:
            raise FormatError(f"{what}: has {path!r} twice")
        found[path] = member
    folders = {parent for path in found for parent in _list_parents(path)}
    if both := sorted(folders & set(found)):
        raise FormatError(f"{what}: has {both[0]!r} as a file and as a folder")
    if not found:
        raise FormatError(f"{what}: expected files in it, found none")
    return found


def unpack(path: Path, folder: Path, what: str) -> Iterator[tuple[str, Path]]:
    """Yield the path of each file of an archive, and where its content lies until the next one is asked for.

    Args:
        path: The archive.
        folder: A folder for that content.
        what: What it is called in messages.

    Raises:
        FormatError: It is no zip file, or refused.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name, member in sorted(list_members(archive, what).items()):
                target, left = folder / "member", member.file_size
                with archive.open(member) as source, target.open("wb") as sink:
                    while block := source.read(_BLOCK_BYTES):
                        left -= len(block)
                        if left < 0:
                            raise FormatError(f"{what}: {name!r} is longer than it says")
                        sink.write(block)
                yield name, target
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise FormatError(
            f"{what}: expected a zip file: {error}",
            hint="a log-in page may have answered: open the address in a browser",
        ) from error


def _list_parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
