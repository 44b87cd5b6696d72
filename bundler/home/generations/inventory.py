"""What is installed under a name, generation by generation, and what the log says of each: when, by whom, whence."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.errors import BundleError
from bundler.home.home import Home, OnDamage
from bundler.home.installed import InstalledBundle
from bundler.home.log import LogEntry


@dataclass(frozen=True)
class Generation:
    """One generation.

    Attributes:
        bundle: What it holds.
        is_current: Whether the bundle's pointer leads to it.
        installed: The line of the log about its last installation; None where the log was lost, or not believed.
    """

    bundle: InstalledBundle
    is_current: bool
    installed: LogEntry | None


def list_generations(home: Home, name: str, *, on_damage: OnDamage | None = None) -> list[Generation]:
    """Return all generations of a bundle, the newest first.

    Args:
        home: Its home.
        name: The bundle's name; it may be one that has no current generation any more.
        on_damage: Called for a receipt that cannot be used, and for a log that is not to be believed; by default the
            error is raised.

    Raises:
        IntegrityError: A receipt was changed, and there is no `on_damage`.
        LockError: A receipt holds a malformed lock, and there is no `on_damage`.
        UntrustedError: The log is not to be believed, and there is no `on_damage`.
    """
    try:
        current = home.bundle(name).digest
    except (BundleError, PermissionError):
        current = None  # Removed, closed or damaged: whoever lists the bundles has told that.
    lines = {(line.name, line.digest): line for line in home.log(on_damage=on_damage) if line.action == "install"}
    return [
        Generation(bundle, bundle.digest == current, lines.get((name, bundle.digest)))
        for bundle in home.generations(name, on_damage=on_damage)
    ]
