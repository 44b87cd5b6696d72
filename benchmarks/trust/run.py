"""What signing and verifying cost beyond doing without: ``python -m benchmarks.trust.run``.

For each kind of key a bundle is signed and its signature judged by a policy, each in a fresh process that has loaded
what an unsigned bundle takes and no more, since what a command loads for a signature is most of the cost. CPU
time is taken, user and system, of the process and of ssh-keygen, which does not depend on what else runs. With
`--write` the table replaces the one in README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish, spread
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.keys import certify, make_key

MARKS = Marks("bench-trust")
KINDS = ("ed25519", "ecdsa-256", "rsa", "certificate")
# What each of the two may cost.
TARGET_MS = 50

_SPENT = """
import resource
def spent():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return 1000 * sum(usage.ru_utime + usage.ru_stime for usage in usages)
"""
_SIGN = """
import json, sys
from pathlib import Path
from bundler.format.reader import BundleReader
from bundler.make import bundle as fetching
bundle, key = Path(sys.argv[1]), Path(sys.argv[2])
with BundleReader(bundle) as reader:
    reader.lock.digest
begun = spent()
from bundler.make.sign import sign_bundle
sign_bundle(bundle, key)
print(json.dumps(spent() - begun))
"""
_VERIFY = """
import datetime, json, sys
from pathlib import Path
from bundler.format.reader import BundleReader
from bundler.home.installation import install
bundle, policy = Path(sys.argv[1]), Path(sys.argv[2])
reader = BundleReader(bundle)
lock = reader.lock
begun = spent()
from bundler.trust.judge import Subject, judge
from bundler.trust.policy import listed_keys, load_policies
from bundler.trust.signature_file import find_signature
now, policies = datetime.datetime.now(datetime.UTC), load_policies(policy)
signed = find_signature(bundle, keys=listed_keys(policies))
judge(Subject(lock, reader.digest), signed, policies, now).raise_if_refused()
print(json.dumps(spent() - begun))
"""


def measure(folder: Path, *, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Return for each kind of key the milliseconds of CPU of signing and of verifying, one a round."""
    contents = {"config.json": b"{}"}
    bundle = tiny_bundle(folder / "packed", locked_repo("org/m", contents), contents=contents.values())
    found = {}
    for kind in KINDS:
        key, line = _make_key(folder / kind, kind)
        (folder / "signers").write_text(line)
        policy = folder / "policy.yaml"
        policy.write_text('version: 1\nrules: [{bundles: ["*"], allowed_signers: signers}]\n')
        signing = [_run(_SIGN, bundle, key) for _ in range(rounds)]
        found[kind] = (signing, [_run(_VERIFY, bundle, policy) for _ in range(rounds)])
    return found


def markdown(readings: dict[str, tuple[list[float], list[float]]]) -> str:
    """Return the table."""
    lines = ["| key | sign, ms | verify, ms |", "| --- | --- | --- |"]
    lines += [
        f"| {kind} | {_spell(signing)} | {_spell(verifying)} |" for kind, (signing, verifying) in readings.items()
    ]
    return "\n".join(lines)


def _make_key(folder: Path, kind: str) -> tuple[Path, str]:
    if kind != "certificate":
        key = make_key(folder, kind=kind)
        return key.path, key.line("alice@example.org")
    authority = make_key(folder, "authority")
    return certify(authority, make_key(folder)), authority.line("*@example.org", "cert-authority")


def _run(program: str, *words: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _SPENT + program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    if done.returncode:
        sys.exit(f"the measured process ended with {done.returncode}:\n{done.stderr}")
    return float(json.loads(done.stdout))


def _spell(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    verdict = "reached" if middle <= TARGET_MS else "**not reached**"
    return f"{spread(values, unit='', digits=0)}, {verdict}: {TARGET_MS}"


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Measure what signing and verifying cost beyond doing without.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    options = parser.parse_args()
    machine.keep_bytecode()
    with tempfile.TemporaryDirectory(prefix="bench-trust-") as folder:
        before = machine.load()
        readings = measure(Path(folder), rounds=options.rounds)
        known = circumstances(Path(folder), before, f"{options.rounds} rounds, milliseconds of CPU")
    publish(MARKS, f"{known}\n\n{markdown(readings)}", write=options.write)


if __name__ == "__main__":
    main()
