"""Fail where the tests' own processes run less of bundler/ than the floor: ``python -m scripts.coverage_floor FILE``.

FILE is what slipcover wrote as JSON. It fails by itself under a floor, but does not say so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# A floor under what there is, not a goal; in percent of lines and branches.
FLOOR = 75.0


def main(path: Path) -> int:
    """Print the coverage; return 0 if it is at the floor or above, else 1."""
    found = float(json.loads(path.read_text("utf-8"))["summary"]["percent_covered"])
    sys.stderr.write(f"coverage of bundler/ in the tests' own processes: {found:.1f} % (floor {FLOOR:g} %)\n")
    return int(found < FLOOR)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
