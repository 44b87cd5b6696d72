"""The options of `bundle run` that bring bundles into the home of a node first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.bundle_arguments import VolumeSize
from bundler.console.output import progress_bar
from bundler.console.paths import GivenPlace
from bundler.remote.address import Place

if TYPE_CHECKING:
    from bundler.home.provision.provide import Provision


def provision_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--from` and `--keep-below`; the command gets what they ask for as `provision`, None for nothing."""

    @click.option(
        "--from",
        "sources",
        multiple=True,
        type=GivenPlace(),
        metavar="BUNDLE",
        help="Bundle to run on, a file or an address; one process of the node installs it where it is not there. "
        "Repeatable.",
    )
    @click.option(
        "--keep-below",
        "limit_bytes",
        type=VolumeSize(),
        help="When --from installs, delete what was launched longest ago until all that is installed fits into SIZE.",
    )
    @functools.wraps(command)
    def with_provision(
        *arguments: object, sources: tuple[Place, ...], limit_bytes: int | None, **others: object
    ) -> object:
        return command(*arguments, provision=_make_provision(sources, limit_bytes), **others)

    return with_provision


def _make_provision(sources: tuple[Place, ...], limit_bytes: int | None) -> Provision | None:
    if not sources:
        if limit_bytes is not None:
            raise click.UsageError("--keep-below goes with --from; `bundle prune --keep-below` deletes now")
        return None
    from bundler.home.provision.provide import Provision

    return Provision(sources, limit_bytes, _show_installation)


@contextmanager
def _show_installation(name: str) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    with progress_bar(f"installing {name}") as (advance, set_total):
        yield set_total, advance
