"""What the commands say that add to a manifest."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from bundler.console.output import say

if TYPE_CHECKING:
    from bundler.draft.write import Written


def say_written(written: Written, next_step: str) -> None:
    """Say what became of each entry, and what to do next."""
    for change in written.changes:
        say(f"  {change.status:<9} {change.kind} {change.repo_id} {change.revision}".rstrip())
    has_changed = any(change.status != "unchanged" for change in written.changes)
    say(f"{written.manifest}: {'written' if has_changed else 'has all of it'}; next: {next_step}")


def describe_written(written: Written) -> dict[str, object]:
    """Return the same as a JSON object."""
    return {
        "manifest": str(written.manifest),
        "created": written.created,
        "changes": [asdict(change) for change in written.changes],
    }
