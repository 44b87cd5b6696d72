"""Random tamperings with signed bundles; `make soak-trust` makes ten thousand of them."""

from __future__ import annotations

import json
import sys

from tests.support.process import run


def test_tamperings_of_every_kind_are_refused_before_a_byte_is_visible() -> None:
    refused = json.loads(run([sys.executable, "-m", "tests.trust.tamperings", "0", "300"]).stdout)
    assert refused.pop("refused") == sum(refused.values()) == 300
    assert len(refused) == 14
