"""Names in the shared view that an installation makes anew, since they belong to somebody who is not trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from bundler.files.access import raise_unless_absent
from bundler.home.sharing.trusted_users import Distrust, TrustedUsers
from bundler.plan.layout import Layout, RepoLayout
from bundler.text.wording import and_more


def remove_untrusted(users: TrustedUsers, content: Layout, on_note: Callable[[str], None]) -> None:
    """Delete links, refs, listings and markers of `content` that are not to be trusted; they are about to be written.

    Args:
        users: Whom the home trusts. Its folders were looked at: what is deleted there stays away.
        content: What is about to be published; its content is in place.
        on_note: Told what was deleted.
    """
    told = []
    for path, distrust in _find_untrusted(users, content):
        (users.hf_home / path).unlink()
        told.append(f"{path} was {distrust.reason}")
    if told:
        on_note("made again: " + "; ".join(and_more(told)))


def _find_untrusted(users: TrustedUsers, content: Layout) -> Iterator[tuple[str, Distrust]]:
    for repo in content.repos:
        for path in _list_names(repo):
            try:
                status = os.lstat(f"{users.hf_home}/{path}")
            except OSError as error:
                raise_unless_absent(error)
                continue
            if not stat.S_ISDIR(status.st_mode) and (distrust := users.judge(status)):
                yield path, distrust


def _list_names(repo: RepoLayout) -> Iterator[str]:
    # Other names first: what is below one of them is reached through it.
    for path, _ in repo.alias_links():
        yield path
    names = [item.path for item in (*repo.snapshots, *repo.markers, *repo.ref_texts())]  # type: ignore[attr-defined]
    for folder in repo.hub_folders:
        for name in (*names, *repo.tree_paths()):
            yield repo.path_in(folder, name)
