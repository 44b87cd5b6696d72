"""A real registry (docker-registry of Debian) with one bundle in it, for what is measured and run for real."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.lib import machine

BUNDLE = Path(sys.executable).with_name("bundle")
_CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {storage}}}}}
http: {{addr: "{host}"}}
"""


def why_not() -> str | None:
    """Return what is missing to start one, or None."""
    missing = [tool for tool in ("docker-registry", "curl") if not shutil.which(tool)]
    return f"{' and '.join(missing)} not found (Debian has packages)" if missing else None


@contextlib.contextmanager
def serve(work: Path, address: str, bundle: Path, *, inside: Sequence[str] = ()) -> Iterator[str]:
    """Run a registry and push a bundle to it; yields the bundle's address.

    Args:
        work: A folder for its configuration and its content.
        address: The address of this machine that it listens on.
        bundle: The bundle.
        inside: Words before a command, for instance `ip netns exec NAME`.
    """
    config, host = work / "registry.yaml", f"{address}:{machine.find_port()}"
    config.write_text(_CONFIG.format(storage=work / "registry", host=host), encoding="utf-8")
    process = subprocess.Popen([*inside, "docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL)
    place = f"oci+http://{host}/bundles/scale:1"
    try:
        wait = ("curl", "--silent", "--retry", "60", "--retry-connrefused", "--retry-delay", "1")
        subprocess.run([*inside, *wait, f"http://{host}/v2/"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*inside, str(BUNDLE), "push", str(bundle), place], check=True, stdout=subprocess.DEVNULL)
        yield place
    finally:
        process.terminate()
        process.wait()
