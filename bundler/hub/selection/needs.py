"""What a kernel or a metric needs besides its own files, and no entry of the manifest brings: a warning for each.

`bundler.hub.selection.companions` does this for adapters, `bundler.hub.selection.remote_code` for Python of models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from bundler.hub.selection.kernels import list_metadata, needed_kernel_warnings, needed_kernels
from bundler.hub.selection.metrics import metric_warnings, script_of
from bundler.plan.manifest import Entry, Manifest

# Builds of one kernel say the same of what they need.
_MOST_BUILDS = 64


def find_needs(
    entry: Entry, taken: Collection[str], manifest: Manifest, *, read: Callable[[str], bytes]
) -> list[str]:
    """Return the warnings for an entry.

    Args:
        entry: The entry.
        taken: The files that it takes.
        manifest: What else is wanted.
        read: Returns the content of a file of its repo.
    """
    if entry.kind == "kernel":
        needed = needed_kernels(map(read, list_metadata(taken)[:_MOST_BUILDS]))
        return needed_kernel_warnings(entry, needed, manifest.entries)
    script = script_of(entry.repo_id)
    if entry.kind == "space" and script in taken:
        return metric_warnings(entry, read(script), taken, [file.url for file in manifest.files])
    return []
