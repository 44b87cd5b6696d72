"""One installed bundle: what its receipt says, where its snapshots are, and whether it is still what it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bundler.errors import NotInstalledError
from bundler.files.parallel import available_cores
from bundler.home.verify.installed import verify_installed
from bundler.plan.layout import Layout, layout, repo_folder
from bundler.plan.lock import Lock
from bundler.plan.names import RepoType
from bundler.text.wording import close_matches
from bundler.verify.report import Progress, Report, no_progress


def _no_neighbours(content: Layout) -> dict[str, Layout]:
    return {}


@dataclass(frozen=True)
class InstalledBundle:
    """A bundle whose receipt is in place; `bundler.home.home.Home` opens it.

    Attributes:
        hf_home: Where.
        lock: What it must be; of a bundle that was installed in part, that part.
        digest: The bundle's digest, ``sha256:<hex>``.
        left_out: Ids of the bundle's repos that are not installed.
        find_neighbours: Returns the layouts of other bundles of this home that have a folder in common with a
            layout, by name.
    """

    hf_home: Path
    # Not shown: a notebook prints what `enforce_offline` returns.
    lock: Lock = field(repr=False)
    digest: str
    left_out: tuple[str, ...] = ()
    find_neighbours: Callable[[Layout], Mapping[str, Layout]] = field(
        default=_no_neighbours, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.lock.name

    @cached_property
    def layout(self) -> Layout:
        """Every name below `hf_home` that it owns."""
        return layout(self.lock)

    def verify(
        self,
        *,
        quick: bool = False,
        repo_id: str | None = None,
        jobs: int | None = None,
        progress: Progress = no_progress,
    ) -> Report:
        """Check it, or one of its repos (id or alias), against its lock; nothing is written."""
        return verify_installed(
            self.hf_home,
            self.lock.name,
            self.layout,
            digest=self.digest,
            others=self.find_neighbours(self.layout),
            only=lambda repo: repo_id is None or repo_id in (repo.repo_id, *repo.aliases),
            quick=quick,
            jobs=jobs or available_cores(),
            progress=progress,
        )

    def snapshot_path(self, repo_id: str, repo_type: RepoType = "model") -> Path:
        """Return the snapshot folder of a repo by id or alias; nothing is verified.

        Raises:
            NotInstalledError: The bundle has no such repo; close names are given.
        """
        known: list[str] = []
        for repo in self.lock.repos:
            if repo.repo_type == repo_type:
                known += [repo.repo_id, *repo.aliases]
                if repo_id in known:
                    folder = repo_folder(repo.repo_id, repo_type)
                    return self.hf_home / "hub" / folder / "snapshots" / repo.commit
        if any(repo_id in (repo.repo_id, *repo.aliases) for repo in self.lock.repos):
            other = "model" if repo_type == "dataset" else "dataset"
            raise NotInstalledError(
                f"{repo_id} of bundle {self.name} is a {other}, not a {repo_type}",
                hint=f"bundle path {repo_id}{' --dataset' if other == 'dataset' else ''}",
            )
        if repo_id in self.left_out:
            raise NotInstalledError(
                f"{repo_id} of bundle {self.name} was left out when it was installed (--only)",
                hint=f"install it with `bundle install BUNDLE --only {repo_id}`",
            )
        close = close_matches(repo_id, known)
        raise NotInstalledError(
            f"bundle {self.name} has no {repo_type} {repo_id!r}; it has: {', '.join(sorted(set(known))) or 'none'}",
            hint=f"did you mean {close[0]!r}?" if close else "add it to the manifest, or as an alias there",
        )
