"""`docs/reference/json.md` has every key that the commands write for a bundle on its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from bundler.cli import main
from bundler.make.sign import sign_bundle
from docs.generate.observed import faults
from docs.generate.transfer_outputs import OUTPUTS
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.keys import make_key
from tests.support.network.ranged import RangedServer
from tests.support.network.registry import Registry, needs_registry

DOCUMENTED = {output.call: output for output in OUTPUTS}


def check(call: str, *values: Any) -> None:
    assert faults(DOCUMENTED[call], values) == []


def bundle(*words: object) -> Any:
    done = CliRunner().invoke(main, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@needs_registry
def test_what_push_writes_is_documented(tmp_path: Path) -> None:
    packed = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}), contents=[b"a"])
    with Registry(tmp_path / "registry") as registry:
        check("bundle push --json", bundle("push", packed, registry.address()))


def test_what_pull_writes_is_documented(tmp_path: Path) -> None:
    packed = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}), contents=[b"a"])
    with RangedServer({"/a.tar.zst": packed.read_bytes()}) as web:
        pull = ("pull", f"{web.url}/a.tar.zst", "-o", tmp_path / "out.tar.zst")
        first = bundle(*pull)
        sign_bundle(packed, make_key(tmp_path).path)
        web.files["/a.tar.zst.sig"] = packed.with_name(f"{packed.name}.sig").read_bytes()
        check("bundle pull --json", first, bundle(*pull))


def test_what_parity_and_repair_write_is_documented(tmp_path: Path) -> None:
    packed = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}), contents=[b"a"])
    check("bundle parity --json", bundle("parity", packed, "--share", "100%"))
    whole = bundle("repair", packed)
    packed.unlink()
    check("bundle repair --json", whole, bundle("repair", packed))
