"""How the content of a bundle is looked at before a launch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RECHECK_DAYS = 30.0
# A sample stays below this, however large the bundle is.
MOST_SAMPLED_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class ContentCheck:
    """How the content of a bundle is looked at before a launch.

    Attributes:
        kind: ``stamped`` hashes what has no stamp, or another one than when it was hashed; ``full`` hashes all;
            ``quick`` compares names and sizes.
        sample_percent: With ``stamped``: each file is drawn with this chance, and hashed; of all that is drawn, at most
            4 GiB.
        recheck_days: With ``stamped``: after so many days all is hashed again; 0 for never.
    """

    kind: Literal["stamped", "full", "quick"] = "stamped"
    sample_percent: float = 0.0
    recheck_days: float = RECHECK_DAYS


CHECK_STAMPS = ContentCheck()
