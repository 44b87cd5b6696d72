"""Where nothing is asked of signatures and policies, nothing is loaded for them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.process import run


def test_an_unsigned_bundle_without_a_policy_loads_nothing_of_both(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"config.json": b"{}"}), contents=[b"{}"])
    program = f"""
import sys
from pathlib import Path
import bundler.offline.run
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.trust.policies import check_policies
home = Path({str(tmp_path / "home")!r})
install(Path({str(bundle)!r}), home)
check_policies(Home(home).bundles())
names = ["bundler.trust.policy", "bundler.trust.signature_file", "bundler.trust.statement", "cryptography"]
print([name for name in names if name in sys.modules])
"""
    assert run([sys.executable, "-c", program]).stdout == "[]\n"
