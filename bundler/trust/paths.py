"""Where signatures and policies stand.

Apart from what reads them, so that those who have neither do not load what would.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

SYSTEM_POLICY = Path("/etc/bundle/policy.yaml")
POLICY_VARIABLE = "BUNDLE_POLICY"
SIGNATURE_SUFFIX = ".sig"
# A signature in SSH's form, and in those of other tools.
Form = Literal["ssh", "sigstore", "dsse"]
SUFFIXES: Mapping[Form, str] = {"ssh": SIGNATURE_SUFFIX, "sigstore": ".sigstore.json", "dsse": ".dsse.json"}


def policy_paths(extra: Path | None = None) -> list[Path]:
    """Return the policies that hold here: the machine's, and the user's.

    Args:
        extra: The user's; default that of BUNDLE_POLICY.
    """
    given = os.environ.get(POLICY_VARIABLE)
    chosen = extra or (Path(given) if given else None)
    return [*([SYSTEM_POLICY] if _is_there(SYSTEM_POLICY) else []), *([chosen] if chosen else [])]


def signature_path(place: Path | Sequence[Path], form: Form = "ssh") -> Path:
    """Return where the signature of a bundle stands, of a file or of volumes."""
    # Not at the top: what moves or deletes a generation needs only the suffix.
    from bundler.format.storage.volume_names import volume_base

    path = place if isinstance(place, Path) else place[0]
    base = volume_base(path)
    # A bundle in one piece may be named as a volume, such as model.2024.
    base = path if base is None or (place is path and _is_one_piece(path)) else base
    return base.with_name(f"{base.name}{SUFFIXES[form]}")


def _is_one_piece(path: Path) -> bool:
    from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, is_volume_head

    try:
        with path.open("rb") as stream:
            head = stream.read(VOLUME_HEAD_BYTES)
    except OSError:
        return False
    return not is_volume_head(head)


def _is_there(path: Path) -> bool:
    # A folder that may not be looked into is no sign that there is no policy.
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
