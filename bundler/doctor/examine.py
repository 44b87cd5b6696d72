"""Everything that `bundle doctor` looks at, in the order in which it says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundler.doctor import cache, machine, network
from bundler.doctor.diagnosis import Diagnosis


def examine(environment: Mapping[str, str], hf_home: Path) -> list[Diagnosis]:
    """Look at everything.

    Args:
        environment: The variables of this process: proxies are looked up there by the standard library as well.
        hf_home: The cache root.
    """
    findings = [
        *network.switches(environment),
        *network.endpoint(environment),
        *network.proxies(environment),
        *network.connection(environment),
        *network.certificates(environment),
        *network.token(environment, hf_home),
        *cache.place(environment, hf_home),
    ]
    if hf_home.is_dir():
        findings += [*cache.bundles(hf_home), *cache.traces(hf_home), *cache.repos(hf_home)]
    return [*findings, *machine.file_system(hf_home), *machine.isolation(), *machine.versions()]
