"""What the parts can do on this machine: the rates that the simulation takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.measure import Step, command, measure
from benchmarks.pack.weights import Shape, generate
from benchmarks.scale import registry
from tests.support.bundles import locked_repo, tiny_bundle

# 330 MB in bf16.
_SHAPE = Shape(hidden=1024, intermediate=2816, layers=8, heads=16, kv_heads=4, vocabulary=32000)


@dataclass(frozen=True)
class Rates:
    """Measured on one machine.

    Attributes:
        stored_share: Bytes of a bundle for a byte of weights.
        install_rate: Bytes of a bundle that `bundle install` decodes, hashes, writes and waits for, a second.
        registry_rate: Bytes that `bundle pull` brings from the registry over loopback, checked, a second.
    """

    stored_share: float
    install_rate: float
    registry_rate: float


def measure_rates(work: Path) -> Rates:
    """Measure with a bundle of generated weights in bf16."""
    weights, made, home, log = work / "weights", work / "made", work / "rates-home", work / "log"
    weights.mkdir()
    made.mkdir()
    generate(_SHAPE, weights)
    contents = {path.name: path.read_bytes() for path in sorted(weights.iterdir())}
    bundle = tiny_bundle(made, locked_repo("org/scale", contents), contents=contents.values(), name="scale")
    stored, size_bytes = bundle.stat().st_size, sum(map(len, contents.values()))
    install = Step(
        argv=command(registry.BUNDLE, "install", bundle, "--hf-home", home),
        shown="bundle install BUNDLE",
        reads=(bundle,),
        writes=(home,),
    )
    installed = measure(install, log)
    pulled = work / "pulled.tar.zst"
    with registry.serve(work, "127.0.0.1", bundle) as place:
        pull = Step(
            argv=command(registry.BUNDLE, "pull", place, "-o", pulled),
            shown="bundle pull ADDRESS",
            writes=(pulled,),
        )
        sent = measure(pull, log)
    return Rates(stored / size_bytes, stored / installed.wall_seconds, stored / sent.wall_seconds)
