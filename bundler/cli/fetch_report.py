"""What `bundle fetch` says of a plan, and of a bundle that was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bundler.cli.parity_options import parity_files
from bundler.cli.replaced import describe_old_signature, describe_replaced, old_signature_json, replaced_json
from bundler.cli.rooms import end_by_room, print_rooms, rooms_json
from bundler.console.output import print_json, say
from bundler.errors import TrustError
from bundler.make.bundle import Made
from bundler.make.bundle_plan import BundlePlan
from bundler.make.delta import Base
from bundler.make.pack import PackResult
from bundler.make.pickles import PickleScan
from bundler.make.proof.run import Proof
from bundler.make.room import RepoPlan
from bundler.parity.make import ParityMade
from bundler.text.wording import counted, size
from bundler.trust.signature_file import SignedStatement


def report_plan(ctx: click.Context, planned: BundlePlan, notes: Sequence[str], *, as_json: bool) -> None:
    """Print what would be downloaded, for `--dry-run`; ends with 10 where there is too little room."""
    rooms = planned.rooms()
    if as_json:
        rows = [_plan_json(item) for item in planned.repos]
        print_json(
            {
                "repos": rows,
                "download_bytes": planned.download_bytes,
                "commands": list(planned.commands),
                "bundle": str(planned.destination.path),
                "replaced": planned.replaced and replaced_json(planned.replaced),
                "rooms": rooms_json(rooms),
                "warnings": list(planned.locked.warnings),
                "notes": list(notes),
            }
        )
        end_by_room(ctx, rooms)
        return
    for item in planned.repos:
        repo, staged = item.repo, item.staged_bytes + item.partial_bytes
        click.echo(
            f"{repo.kind} {repo.repo_id} {repo.revision} ({repo.commit[:12]}): {counted(item.files, 'file')}, "
            f"{size(item.size_bytes)}, {size(staged)} of it staged"
        )
        for file in repo.files:
            click.echo(f"  {size(file.size_bytes):>9}  {file.path}")
    click.echo(f"to download: {size(planned.download_bytes)}")
    for command in planned.commands:
        click.echo(f"to prove: {command}")
    print_rooms(rooms)
    if planned.replaced is not None:
        click.echo(f"unless it is the same, {describe_replaced(planned.replaced)}")
    end_by_room(ctx, rooms)


def describe_stale_signature(old: SignedStatement | TrustError | None, made: Made) -> str | None:
    """Return what to say of a signature that stands beside a new bundle and is of another one; None if none does."""
    if old is None or isinstance(old, TrustError) or old.statement.digest in (made.digest, made.whole_digest):
        return None
    return (
        f"{old.source} signs another bundle, {old.statement.digest}, so nobody can install this one beside it: "
        "sign it with `bundle sign`, or delete that file"
    )


def report_made(
    made: Made,
    signed: tuple[SignedStatement, Path] | None,
    old_signature: SignedStatement | TrustError | None,
    notes: Sequence[str],
    parity: ParityMade | None,
    *,
    as_json: bool,
) -> None:
    """Say what was proven, fetched, packed and signed, and what that replaced."""
    _say_proof(made.proof)
    for proven in made.commands:
        say(
            f"proven: `{proven.command}` runs, {proven.seconds:.1f} s, 0 network attempts; {proven.isolation_detail}"
        )
    _say_pickles(made.pickles)
    fetched, packed = made.fetched, made.packed.result
    say(
        f"fetched {counted(fetched.files, 'file')}, {size(fetched.size_bytes)}, of these downloaded now: "
        f"{counted(fetched.downloaded_files, 'file')}, {size(fetched.received_bytes)}"
    )
    if fetched.cached_files:
        say(f"taken from the HF cache: {counted(fetched.cached_files, 'file')}")
    did = "already packed, hashed again:" if made.packed.was_there else "packed"
    say(f"{did} {made.path}: {size(packed.size_bytes)}, {packed.ratio:.2f} times smaller, {made.digest}")
    if made.base is not None:
        say(describe_base(made.base, packed))
    if made.replaced is not None:
        say(describe_replaced(made.replaced))
    if made.volumes:
        first, last = made.volumes[0].name, made.volumes[-1].name
        say(f"in {counted(len(made.volumes), 'volume')}, {first} to {last}")
    if signed:
        say(f"signed as release {signed[0].statement.sequence}: {signed[1]}")
        if old_signature:
            say(describe_old_signature(old_signature))
    if as_json:
        signature = signed and {
            "path": str(signed[1]),
            "sequence": signed[0].statement.sequence,
            "replaced": old_signature and old_signature_json(old_signature),
        }
        print_json(
            {**_made_json(made), "notes": list(notes), "signature": signature, "parity": parity_files(parity)}
        )


def _plan_json(item: RepoPlan) -> dict[str, Any]:
    return {
        "kind": item.repo.kind,
        "repo_id": item.repo.repo_id,
        "revision": item.repo.revision,
        "commit": item.repo.commit,
        "files": item.files,
        "size_bytes": item.size_bytes,
        "staged_bytes": item.staged_bytes + item.partial_bytes,
        "cached_bytes": item.cached_bytes,
        "download_bytes": item.missing_bytes,
    }


def _say_proof(proof: Proof) -> None:
    for entry in proof.entries:
        say(f"{entry.entry} {entry.repo_id}")
        for line in entry.proven:
            say(f"  proven: {line}")
        for line in entry.notes:
            say(f"  note: {line}")
    when = f"{proof.seconds:.1f} s"
    if proof.is_remembered:
        when = f"that of {proof.proven_at}, same files and packages"
    say(
        f"proof: {when}, {proof.network_attempts} network attempts; {proof.isolation_detail}; {proof.sandbox_detail}"
    )
    for text in proof.refused:
        say(f"  refused: {text}")


def _say_pickles(scans: tuple[PickleScan, ...]) -> None:
    for scan in scans:
        found = [f"dangerous: {', '.join(scan.dangerous)}"] if scan.dangerous else []
        found += [f"unknown: {', '.join(scan.unknown)}"] if scan.unknown else []
        found += [f"not scanned to its end: {scan.problem}"] if scan.problem else []
        words = "; ".join(found) or "nothing that picklescan knows, which is no proof"
        say(f"pickle {scan.repo_id} {scan.path}: {words}")


def _made_json(made: Made) -> dict[str, Any]:
    fetched, packed = made.fetched, made.packed.result
    return {
        "name": made.lock.name,
        "bundle": str(made.path),
        "volumes": [str(path) for path in made.volumes],
        "already_packed": made.packed.was_there,
        "digest": made.digest,
        "whole_digest": made.whole_digest,
        "base": made.base and {"name": made.base.name, "digest": made.base.digest},
        "replaced": made.replaced and replaced_json(made.replaced),
        "bundle_bytes": packed.size_bytes,
        "tar_bytes": packed.raw_bytes,
        "ratio": round(packed.ratio, 4),
        "lock": str(made.locked.path),
        "files": fetched.files,
        "size_bytes": fetched.size_bytes,
        "downloaded_files": fetched.downloaded_files,
        "downloaded_bytes": fetched.received_bytes,
        "cached_files": fetched.cached_files,
        "proof": asdict(made.proof),
        "commands": [asdict(proven) for proven in made.commands],
        "pickles": [asdict(scan) for scan in made.pickles],
        "warnings": list(made.locked.warnings),
    }


def describe_base(base: Base, packed: PackResult) -> str:
    """Say over what a delta installs what, or that its base was of no use."""
    named = f"{base.name} ({base.digest or 'known by its lock'})"
    if packed.needs_base:
        return f"a delta: over {named} it installs {packed.whole_digest}"
    misnamed = "; its name says delta, and may be changed" if ".delta." in packed.path.name else ""
    return (
        f"no delta: {named} has nothing of it, nor weights near its own, so that all of it was packed; it installs "
        f"{packed.whole_digest} anywhere{misnamed}. Is that the right --base?"
    )
