"""One installed bundle: what its receipt says, where its snapshots are, and whether it is still what it must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import NotInstalledError
from bundler.files.parallel import available_cores
from bundler.home.generation import view_path
from bundler.home.receipt import Receipt
from bundler.plan.names import RepoType, repo_place
from bundler.text.wording import close_matches
from bundler.verify.report import Progress, Report, no_progress

if TYPE_CHECKING:
    from bundler.home.verify.hashing import Hashed
    from bundler.plan.layout import Layout
    from bundler.plan.lock import Lock


@dataclass
class Neighbours:
    """Generations that have a folder in common with one at hand.

    Attributes:
        current: The current generations of other bundles, by name: what the shared view shows of each.
        kept: All generations but the one at hand, by name and digest: what must stay.
    """

    current: dict[str, InstalledBundle] = field(default_factory=dict)
    kept: dict[tuple[str, str], InstalledBundle] = field(default_factory=dict)

    @property
    def layouts(self) -> list[Layout]:
        """Those of all that must stay."""
        return [bundle.layout for bundle in self.kept.values()]


@dataclass(frozen=True)
class View:
    """Where a launch reads its bundles: `bundler.home.view.open` makes it.

    Attributes:
        bundles: Which.
        root: The folder that has `hub/` in it: the view of a generation, one put together of several, or HF_HOME.
        datasets: Where `datasets` looks for prepared datasets.
        is_checked: Whether its names were compared when it was opened: one put together of several.
    """

    bundles: tuple[InstalledBundle, ...]
    root: Path
    datasets: Path
    is_checked: bool = False

    @property
    def hub(self) -> Path:
        """Where huggingface_hub looks for repos."""
        return self.root / "hub"

    @property
    def files(self) -> tuple[Path, ...]:
        """The folders with files of other hosts: what is below them goes into one folder of a launch."""
        return tuple(
            self.root / repo.folder / "snapshots" / commit
            for bundle in self.bundles
            if bundle.receipt.has_kind("file")
            for repo in bundle.names.repos
            if repo.repo_type == "file"
            for commit in repo.trees
        )


# How `bundle path` is asked for a repo of a type.
_TYPE_OPTIONS = {"model": "", "dataset": " --dataset"}


def _no_neighbours(content: Layout) -> Neighbours:
    return Neighbours()


@dataclass(frozen=True)
class InstalledBundle:
    """A bundle whose receipt is in place; `bundler.home.home.Home` opens it.

    Attributes:
        hf_home: Where.
        receipt: What says so. Its lock is parsed when it is asked for.
        lock: What it must be; of a bundle that was installed in part, that part.
        digest: The bundle's digest, ``sha256:<hex>``.
        left_out: Ids of the bundle's repos that are not installed.
        find_neighbours: Returns the other generations of this home that have a folder in common with a layout.
        computed_layout: The layout of its lock, where it was computed already.
    """

    hf_home: Path
    receipt: Receipt = field(repr=False)
    find_neighbours: Callable[[Layout], Neighbours] = field(default=_no_neighbours, repr=False, compare=False)
    computed_layout: Layout | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        """Say in short what it is: a notebook prints what `enforce_offline` returns."""
        return f"InstalledBundle(hf_home={self.hf_home!r}, digest={self.digest!r}, left_out={self.left_out!r})"

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.receipt.name

    @property
    def lock(self) -> Lock:
        """What it must be; of a bundle that was installed in part, that part."""
        return self.receipt.lock

    @property
    def digest(self) -> str:
        """The bundle's digest, ``sha256:<hex>``."""
        return self.receipt.digest

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of the bundle's repos that are not installed."""
        return self.receipt.left_out

    @property
    def is_checked(self) -> bool:
        """See `Receipt.is_checked`."""
        return self.receipt.is_checked

    @property
    def has_view(self) -> bool:
        """Whether it has a view of its own; without, it is read in the shared one.

        It has none if an earlier version installed it, or if the file system has no symlinks.
        """
        return self.receipt.has_view

    @property
    def names(self) -> Layout:
        """See `Receipt.names`; what the names of the shared view are told by, without parsing the whole lock."""
        return self.receipt.names

    @property
    def view(self) -> Path:
        """The root of its own view, a folder like an HF_HOME; `hf_home` itself where it has none."""
        return view_path(self.hf_home, self.name, self.digest) if self.has_view else self.hf_home

    @cached_property
    def layout(self) -> Layout:
        """Every name below `hf_home` that it owns."""
        from bundler.plan.layout import layout

        return layout(self.lock) if self.computed_layout is None else self.computed_layout

    def verify(
        self,
        *,
        quick: bool = False,
        repo_id: str | None = None,
        jobs: int | None = None,
        progress: Progress = no_progress,
        view: View | None = None,
        hashed: Hashed | None = None,
    ) -> Report:
        """Check it, or one of its repos (id or alias), against its lock; nothing is written.

        Args:
            quick: Look at names, links and sizes, hash nothing.
            repo_id: The one repo to look at; default all.
            jobs: Cores; default all.
            progress: Called with the number of bytes hashed since the last call.
            view: What a launch reads; by default its own view, and what it has in the shared one.
            hashed: What verifications of other bundles have hashed, which is not hashed again; empty to begin with.
        """
        # Not where stamps say all that a launch wants to know.
        from bundler.home.common.conflicts import settle_refs
        from bundler.home.verify.installed import InstalledCheck, verify_installed

        checks = []
        if view is not None:
            others = [other.layout for other in view.bundles if other.digest != self.digest]
            checks.append(
                InstalledCheck(
                    self.hf_home,
                    view.root,
                    settle_refs(self.layout, others),
                    kept=others,
                    datasets_root=view.datasets.parent,
                )
            )
        elif self.view != self.hf_home:
            checks.append(InstalledCheck(self.hf_home, self.view, self.layout))
        if view is None or view.root == self.hf_home:
            near = self.find_neighbours(self.layout)
            checks.append(
                InstalledCheck(
                    self.hf_home,
                    self.hf_home,
                    self.layout,
                    current=[bundle.layout for bundle in near.current.values()],
                    kept=near.layouts,
                )
            )
        return verify_installed(
            f"bundle {self.name} in {self.hf_home}",
            self.digest,
            checks,
            only=lambda repo: repo_id is None or repo_id in (repo.repo_id, *repo.aliases),
            quick=quick,
            jobs=jobs or available_cores(),
            progress=progress,
            hashed=hashed,
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
                    return self.view / repo_place(repo.repo_id, repo_type) / "snapshots" / repo.commit
        if any(repo_id in (repo.repo_id, *repo.aliases) for repo in self.lock.repos):
            other = next(repo.repo_type for repo in self.lock.repos if repo_id in (repo.repo_id, *repo.aliases))
            raise NotInstalledError(
                f"{repo_id} of bundle {self.name} is a {other}, not a {repo_type}",
                hint=f"bundle path {repo_id}{_TYPE_OPTIONS.get(other, f' --type {other}')}",
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
