"""Turn files of other hosts that libraries keep into entries of a manifest, where it has entries for them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bundler.draft.record.notes import UrlUse
from bundler.plan.file_entry import FileEntry
from bundler.plan.file_rules import Into, url_problem

_INTO: dict[str, Into] = {"tiktoken": "tiktoken", "torch": "torch_hub"}
# What `torch.hub.load` is asked for, as an address; it downloads the second form, if it has not yet.
_TORCH_REPO = re.compile(r"https://github\.com/([^/:]+)/([^/:]+)(?::(.+))?")


def make_files(uses: Iterable[UrlUse]) -> tuple[tuple[FileEntry, ...], tuple[UrlUse, ...]]:
    """Return the entries, and what there can be none for."""
    found: dict[tuple[str, str], FileEntry] = {}
    left = []
    for use in uses:
        url = use.url
        if use.library == "torch" and (match := _TORCH_REPO.fullmatch(url)):
            owner, name, ref = match.groups()
            url = f"https://github.com/{owner}/{name}/zipball/{ref}" if ref else url
        entry = FileEntry(url=url, into=_INTO[use.library], path=use.name or None)
        if use.is_own or url_problem(url) or _TORCH_REPO.fullmatch(url) or any(entry.conflicts()):
            left.append(use)
        else:
            found.setdefault((entry.into, entry.destination), entry)
    repos = {url.partition("/zipball/")[0] for url in (entry.url for entry in found.values())}
    return tuple(found.values()), tuple(use for use in left if use.url not in repos)
