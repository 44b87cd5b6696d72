"""Run all checks of `bundle doctor`, in the order in which it prints them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundler.doctor import cache, machine, network
from bundler.doctor.diagnosis import Diagnosis


def examine(environment: Mapping[str, str], hf_home: Path) -> list[Diagnosis]:
    """Run all checks, and return their results.

    Args:
        environment: The variables of this process; the standard library looks for proxies in `os.environ` itself.
        hf_home: The cache root.
    """
    findings = [
        *network.check_switches(environment),
        *network.check_endpoint(environment),
        *network.check_proxies(environment),
        *network.check_connection(environment),
        *network.check_certificates(environment),
        *network.check_token(environment, hf_home),
        *cache.check_place(environment, hf_home),
    ]
    if hf_home.is_dir():
        findings += [*cache.check_bundles(hf_home), *cache.check_traces(hf_home), *cache.check_repos(hf_home)]
    return [
        *findings,
        *machine.check_file_system(hf_home),
        *machine.check_isolation(),
        *machine.check_compiled(),
        *machine.check_versions(),
    ]
