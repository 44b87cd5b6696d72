"""What an installation needs besides a bundle's own content: what a delta leaves to its base, bases of differences.

It is looked for in what is installed, and hashed, before anything is written; all that is missing is named.
"""

from __future__ import annotations

from collections.abc import Mapping

from bundler.errors import IntegrityError
from bundler.files.paths import path_inside
from bundler.format.source import Source
from bundler.home.home import Home, ignore_damage
from bundler.home.installation.unpack import collect_checked, find_matching
from bundler.plan.content import Content
from bundler.plan.layout import Blob, Layout
from bundler.text.wording import and_more
from bundler.verify.report import repo_names


def find_base_content(
    bundle: Source, content: Layout, home: Home, places: Mapping[str, str], jobs: int
) -> dict[str, str]:
    """Find what a delta leaves to its base in what is installed; any generation of any bundle will do.

    That is content that it leaves out, and content that others of its contents are stored as differences from.

    Returns:
        sha256 -> a verified file with that content.

    Raises:
        IntegrityError: Some of it is missing or damaged; all of it is named.
    """
    omitted = {blob.sha256: blob for blob in content.blobs if blob.sha256 in (bundle.omitted or ())}
    bases = _follow_bases(bundle, content, places)
    wanted = (omitted.keys() | {base for base in bases if base not in bundle.plan.first_of}) - places.keys()
    if not wanted:
        return {}
    installed = [one for name in home.all_names() for one in home.generations(name, on_damage=ignore_damage)]
    contents: dict[str, Content] = {}
    candidates: dict[tuple[Blob, str], None] = {}
    for other in installed:
        for blob in other.layout.blobs:
            if blob.sha256 in wanted:
                known = content.contents.get(blob.sha256) or other.layout.contents[blob.sha256]
                contents.setdefault(blob.sha256, known)
                # Prepared files of a generation that is not the current one are in its view alone.
                roots = [home.path, other.view] if blob.path.startswith("datasets/") else [home.path]
                candidates |= {
                    (omitted.get(blob.sha256, blob), path_inside(root, blob.path)): None for root in roots
                }
    matching = find_matching(list(candidates), contents, collect_checked(installed), jobs, home.trusted_users)
    found = {blob.sha256: path for blob, path in matching}
    if lacking := wanted - found.keys():
        names = repo_names(content)
        lines = [f"{names[b.path]} ({b.size_bytes:,} bytes)" for sha256, b in omitted.items() if sha256 in lacking]
        lines += [
            f"content {sha256}, which {names[bases[sha256].path]} is stored as a difference from"
            for sha256 in sorted(lacking - omitted.keys())
        ]
        raise _missing(bundle, home, lines)
    return found


def list_passing(bundle: Source, content: Layout, places: Mapping[str, str]) -> list[Blob]:
    """Return the content of a stream that is not wanted, but that wanted content is stored as a difference from.

    A bundle in a file is decoded again for it, without a copy.

    Args:
        bundle: The bundle.
        content: What is wanted of it.
        places: sha256 -> a verified file with that content.
    """
    if not bundle.is_read_once:
        return []
    wanted = {blob.sha256 for blob in content.blobs}
    members = [
        bundle.plan.first_of[base]
        for base in _follow_bases(bundle, content, places)
        if base in bundle.plan.first_of and base not in wanted and base not in places
    ]
    return [member.blob for member in members if member.blob is not None]


def _follow_bases(bundle: Source, content: Layout, places: Mapping[str, str]) -> dict[str, Blob]:
    """Return all contents that wanted content is a difference from, over others too -> a blob that needs it."""
    needed: dict[str, Blob] = {}
    rest = [(blob.sha256, blob) for blob in content.blobs if blob.sha256 in bundle.plan.first_of]
    while rest:
        sha256, blob = rest.pop()
        if sha256 not in places:
            new = [base for base in bundle.bases.get(sha256, ()) if base not in needed]
            needed |= dict.fromkeys(new, blob)
            rest += [(base, blob) for base in new]
    return needed


def _missing(bundle: Source, home: Home, lines: list[str]) -> IntegrityError:
    # A stream names its base at its end only.
    base = bundle.base
    named = f"bundle {base.name} ({base.digest or 'known by its lock'})" if base else "another bundle"
    listing = "\n  ".join(and_more(lines))
    return IntegrityError(
        f"{bundle.label} is a delta of {named}, and {home.path} lacks {len(lines)} of the files "
        f"that it leaves to that:\n  {listing}",
        hint=f"install {base.name if base else 'its base'} first, or fetch the whole bundle without --base",
    )
