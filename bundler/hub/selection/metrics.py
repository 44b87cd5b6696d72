"""What a metric of the `evaluate` library, which is a space, needs besides its own script.

`evaluate.load("org/name")` takes `name.py` of the space `org/name`, and what that imports: other files of the space
(`from .x import y`), files of other hosts (the same with a comment ``# From: URL``), and installed packages. It does
not look at the imports of those files.

Source: evaluate 0.4.6, `evaluate.loading.get_imports` and `_download_additional_modules`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bundler.plan.manifest import Entry

# Two patterns of the library, in one.
_IMPORT = re.compile(
    r"^(?:import\s+\.([^\s\.]+)[^#\r\n]*|from\s+\.([^\s\.]+)\S*\s+import\s+[^#\r\n]*)(?:#\s+From:\s+)?([^\r\n]*)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class RelativeImport:
    """A module that a script imports from beside itself.

    Attributes:
        name: Of the module.
        url: Where the library downloads it; empty for a file of the space.
    """

    name: str
    url: str = ""


def script_of(repo_id: str) -> str:
    """Return the name of the file that the library runs."""
    return f"{repo_id.rpartition('/')[2]}.py"


def relative_imports(script: bytes) -> list[RelativeImport]:
    """Return the modules that a script imports from beside itself, as the library finds them."""
    found: dict[str, RelativeImport] = {}
    is_in_docstring = False
    for line in script.decode(errors="replace").splitlines():
        if line.count('"""') == 1:
            is_in_docstring = not is_in_docstring
        if not is_in_docstring and (match := _IMPORT.match(line)):
            name = match[1] or match[2]
            # A page of GitHub stands for the file that it shows, as the library has it.
            url = match[3].strip()
            is_page = url.startswith(("https://github.com/", "http://github.com/")) and "blob" in url
            found.setdefault(name, RelativeImport(name, url.replace("blob", "raw") if is_page else url))
    return list(found.values())


def metric_warnings(entry: Entry, script: bytes, paths: Collection[str], urls: Iterable[str] = ()) -> list[str]:
    """Return a warning for each module that the script of an entry imports and nothing brings.

    Args:
        entry: The entry.
        script: Its script.
        paths: The files that it takes.
        urls: The files of other hosts that the manifest takes.
    """
    warnings = []
    for one in relative_imports(script):
        imported = f"{entry.label}: {script_of(entry.repo_id)} imports .{one.name}"
        if one.url and one.url not in urls:
            warnings.append(f"{imported} from {one.url}, which is not of the Hub; add to files: - url: {one.url}")
        elif not one.url and f"{one.name}.py" not in paths:
            warnings.append(f"{imported}, and there is no {one.name}.py among its files")
    return warnings
