"""What keeps volumes from being one complete set: missing ones, and such as are stale, swapped or of another bundle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from bundler.errors import FormatError
from bundler.format.index import PREAMBLE
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader
from bundler.format.storage.volume_names import parse_number
from bundler.remote.address import Place
from bundler.text.wording import and_more, name_some


class FoundVolume(Protocol):
    """A volume that was found, in a file or at an address."""

    @property
    def path(self) -> Place:
        """Where."""

    @property
    def header(self) -> VolumeHeader:
        """Its header."""

    @property
    def offset(self) -> int:
        """Offset there at which its part of the bundle begins."""


def find_commonest(volumes: Sequence[FoundVolume]) -> VolumeHeader:
    """Return a header from the split that most volumes belong to, so that the error names the others."""
    cuts = Counter((v.header.bundle_sha256, v.header.count) for v in volumes)
    [(cut, _)] = cuts.most_common(1)
    return next(v.header for v in volumes if (v.header.bundle_sha256, v.header.count) == cut)


def list_faults(volumes: Sequence[FoundVolume], reference: VolumeHeader) -> list[str]:
    """Return why volumes are not the complete set that `reference` is of, a line each; empty if they are."""
    complaints: list[str] = []
    known: dict[int, FoundVolume] = {}
    for volume in volumes:
        path, header = volume.path, volume.header
        what = f"{path}: is volume {header.number} of {header.count}"
        named = parse_number(path)
        if header.bundle_sha256 != reference.bundle_sha256:
            complaints.append(
                f"{what} of another bundle ({header.digest}), perhaps from an earlier run; "
                f"expected {reference.digest}"
            )
        elif (header.count, header.bundle_bytes) != (reference.count, reference.bundle_bytes):
            complaints.append(
                f"{what} of this bundle, from a split into other sizes; expected one of {reference.count}"
            )
        elif header.number in known:
            complaints.append(f"{what}, and so is {known[header.number].path}")
        else:
            known[header.number] = volume
            if named and named != header.number and volume.offset == VOLUME_HEAD_BYTES:
                complaints.append(f"{what}, but is named as number {named}: swapped or renamed")
    if len(known) < reference.count:
        # At most 20 numbers: a damaged or hostile header may state four billion volumes.
        missing = islice((str(n) for n in range(1, reference.count + 1) if n not in known), 20)
        shown = name_some(missing, shown=20, total=reference.count - len(known))
        complaints.append(f"missing: volume {shown} of {reference.count}")
    for number, volume in sorted(known.items()):
        before = known.get(number - 1)
        start = before.header.stop if before else len(PREAMBLE) if number == 1 else volume.header.start
        if volume.header.start != start:
            complaints.append(
                f"{volume.path}: starts at byte {volume.header.start} of the bundle, expected {start}: "
                "from a split into other sizes"
            )
    return complaints


def refuse_set(
    place: Place,
    complaints: Sequence[str],
    *,
    hint: str = "put all volumes of one bundle into one folder, and no other files with such names",
) -> FormatError:
    """Return the error that volumes with these faults are refused with."""
    listing = "".join(f"\n  {complaint}" for complaint in and_more(complaints))
    return FormatError(f"{place}: not one complete set of volumes{listing}", hint=hint)
