"""Tell by its name whether a file is pickle.

Apart from the rules for weights, whose patterns take milliseconds to load: a policy asks only this, at each launch.
"""

from __future__ import annotations

from pathlib import PurePosixPath

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})


def is_pickle(path: str) -> bool:
    """Return whether loading this file may run code: it is pickle, or has a suffix that usually means pickle."""
    name = PurePosixPath(path)
    # OpenVINO's weights have the same suffix, and are plain numbers.
    return name.suffix.lower() in PICKLE_SUFFIXES and not name.name.startswith("openvino")
