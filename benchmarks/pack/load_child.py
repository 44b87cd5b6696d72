"""Load every tensor of a folder of safetensors files into memory: what a program does first.

python -m benchmarks.pack.load_child FOLDER
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path


def load(folder: Path) -> int:
    """Read each tensor into memory of its own; return how many bytes they have."""
    tensors: list[bytearray] = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size))
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                begin, end = entry["data_offsets"]
                stream.seek(8 + size + begin)
                tensor = bytearray(end - begin)
                done = 0
                while done < len(tensor):
                    count = stream.readinto(memoryview(tensor)[done:])
                    if not count:
                        sys.exit(f"{path}: {name} is cut short")
                    done += count
                tensors.append(tensor)
    return sum(map(len, tensors))


if __name__ == "__main__":
    if not load(Path(sys.argv[1])):
        sys.exit(f"{sys.argv[1]}: expected safetensors files, found none")
