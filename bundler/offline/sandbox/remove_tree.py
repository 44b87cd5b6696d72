"""Delete a folder whatever was made in it by a program that nobody trusts.

`shutil.rmtree` calls itself for each level, so it ends in a traceback a thousand levels down, and it stops at a folder
that its owner may not write to. Here what stands deep is moved up first, and each folder is opened to its owner.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def remove_tree(top: Path) -> None:
    """Delete `top` and all in it; nobody may be writing in it any more, and links are not followed.

    Raises:
        OSError: Something cannot be deleted.
    """
    top.chmod(0o700)
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while names := os.listdir(at):  # noqa: PTH208 -- of a descriptor
            for name in names:
                if _is_folder(name, at):
                    _empty(name, at)
                    os.rmdir(name, dir_fd=at)
                else:
                    os.unlink(name, dir_fd=at)
    finally:
        os.close(at)
    top.rmdir()


def _empty(name: str, at: int) -> None:
    """Delete the files of a folder, and move its folders up, beside it."""
    os.chmod(name, 0o700, dir_fd=at)
    inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        for inner in os.listdir(inside):  # noqa: PTH208 -- of a descriptor
            if _is_folder(inner, inside):
                # Moving it changes its `..`, so it must be writable.
                os.chmod(inner, 0o700, dir_fd=inside)
                os.rename(inner, f"up-{os.urandom(8).hex()}", src_dir_fd=inside, dst_dir_fd=at)
            else:
                os.unlink(inner, dir_fd=inside)
    finally:
        os.close(inside)


def _is_folder(name: str, at: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
