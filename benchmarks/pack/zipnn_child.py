"""A folder through zipnn and back; zipnn's package has no command, so this is one, run in the peers' environment.

    python zipnn_child.py compress DTYPE FOLDER OUT
    python zipnn_child.py decompress DTYPE FOLDER OUT

Each safetensors file goes through one call on its bytes, with zipnn's defaults (all cores); others are copied.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

_SUFFIX = ".znn"


def main(arguments: list[str]) -> None:
    """Do what the command line says (see the module's text)."""
    from zipnn import ZipNN  # type: ignore[import-not-found, unused-ignore]

    action, dtype, source, target = arguments
    Path(target).mkdir()
    for path in sorted(Path(source).iterdir()):
        # A coder for each file: its header keeps the sizes of the file that it saw last.
        coder: Any = ZipNN(input_format="byte", bytearray_dtype=dtype)
        if action == "compress" and path.suffix == ".safetensors":
            content = coder.compress(path.read_bytes())
            Path(target, path.name + _SUFFIX).write_bytes(content)
        elif action == "decompress" and path.suffix == _SUFFIX:
            Path(target, path.name.removesuffix(_SUFFIX)).write_bytes(coder.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, Path(target, path.name))


if __name__ == "__main__":
    main(sys.argv[1:])
