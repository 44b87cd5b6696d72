"""`bundle fetch` again: of what is packed already, beside hashing the files; and of what is not, beside `tar`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.lib.measure import Step, command, measure
from benchmarks.pack.tools import BIN, Case, TarZstd

_MANIFEST = "version: 1\nname: fetched\nmodels:\n  - repo_id: {repo_id}\n"


def measure_fetches(
    case: Case, *, endpoint: str, rounds: int, log: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Fetch `case` once from nothing, then again `rounds` times, between its two limits.

    Beside each further fetch stand a dry run, which does all that comes before the first byte of content (start,
    resolve), and `openssl dgst -sha256` of the same files; beside one that finds the files but no bundle of them, `tar`
    through `zstd`. What the proof took is in the fetch's own report.

    Raises:
        StepError: A command failed.
    """
    place = case.work / "fetch"
    place.mkdir(parents=True, exist_ok=True)
    manifest, bundle, staging, report = (
        place / name for name in ("fetched.yaml", "fetched.tar.zst", "staging", "report.json")
    )
    manifest.write_text(_MANIFEST.format(repo_id=case.repo_id), encoding="utf-8")
    env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(place / "hf-home")}
    fetch = command(BIN / "bundle", "fetch", manifest, "-o", bundle, "--cache-dir", staging, "--json")
    shown = "bundle fetch MANIFEST -o BUNDLE"
    first = Step(argv=fetch, shown=shown, writes=(bundle, staging), kept=(bundle,), env=env, stdout=report)
    again = Step(argv=fetch, shown=shown, reads=(staging, bundle), kept=(bundle,), env=env, stdout=report)
    packing = Step(argv=fetch, shown=shown, reads=(staging,), writes=(bundle,), env=env, stdout=report)
    tar = TarZstd()
    tar.prepare(case)
    archive = tar.step("pack", case)
    assert isinstance(archive, Step), "tar packs"
    dry = Step(argv=(*fetch, "--dry-run"), shown=f"{shown} --dry-run", env=env, stdout=report)
    digest = Step(argv=command("openssl", "dgst", "-sha256", *case.files), shown="openssl", reads=(case.folder,))

    def measure_fetch(step: Step) -> dict[str, Any]:
        run = asdict(measure(step, log))
        facts = json.loads(report.read_text())
        # A fetch that finds everything proven already may have no proof to tell of.
        proof = facts.get("proof") or {}
        return {**run, "proof_seconds": proof.get("seconds", 0.0), "downloaded_bytes": facts["downloaded_bytes"]}

    say("  bundle fetch")
    results: dict[str, Any] = {"case": case.name, "command": shown, "first": measure_fetch(first), "rounds": []}
    for number in range(rounds):
        say(f"  bundle fetch, again ({number + 1} of {rounds})")
        results["rounds"].append(
            {
                "dry_run": asdict(measure(dry, log)),
                "again": measure_fetch(again),
                "openssl": asdict(measure(digest, log)),
                "packing": measure_fetch(packing),
                "tar": asdict(measure(archive, log)),
            }
        )
    return results
