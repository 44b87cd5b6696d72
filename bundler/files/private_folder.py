"""A private folder below the temporary folder, for what belongs to an HF_HOME and cannot be kept there."""

from __future__ import annotations

import os
import stat
import tempfile
import zlib
from pathlib import Path

from bundler.errors import OfflineError


def make_private_folder(hf_home: Path) -> Path:
    """Return the folder of this user for `hf_home`; it is kept between launches.

    It is used only if it belongs to this user: on a shared machine somebody else could have made it first.

    Raises:
        OfflineError: It belongs to another user, or others may write to it.
    """
    name = f"bundle-{os.getuid()}-{zlib.crc32(os.fsencode(hf_home.resolve())):08x}"
    folder = Path(tempfile.gettempdir(), name)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise OfflineError(
            f"{folder} should be a folder that only this user can write, for what {hf_home} cannot take; it is not",
            hint="set TMPDIR to a folder of your own",
        )
    return folder
