"""`bundle fetch`: manifest → lock → verified blobs → proof → one bundle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.bundle_arguments import (
    VOLUME_SIZE_HELP,
    OutputFile,
    VolumeSize,
    check_standard_output,
    take_standard_output,
)
from bundler.console.options import json_option
from bundler.console.output import print_json, progress_bar, say
from bundler.console.paths import GivenPath
from bundler.errors import LockError
from bundler.files.paths import atomic_write, check_writable
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.format.storage.destinations import (
    Destination,
    FileDestination,
    PipeDestination,
    VolumeDestination,
)
from bundler.hub.connection.endpoint import check_endpoint
from bundler.make.delta import Base
from bundler.make.fetch import DEFAULT_JOBS, FetchResult, Observer, RepoPlan, plan
from bundler.make.fetch import fetch as fetch_files
from bundler.make.store import Store
from bundler.plan.lock import Lock
from bundler.plan.lockfile import differences, is_current, lock_path, read_lock
from bundler.plan.manifest import Manifest
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.make.pack_once import Packed
    from bundler.make.proof.run import Proof


@click.command(
    epilog="""
    \b
    Examples:
      bundle fetch manifests/demo.yaml
      bundle fetch manifests/demo.yaml --dry-run
      bundle fetch manifests/demo.yaml --volume-size 3900M
      bundle fetch manifests/demo.yaml -o - | ssh login bundle install -
      HF_ENDPOINT=https://mirror.example bundle fetch manifests/demo.yaml -o /scratch/demo.tar.zst --locked
    """
)
@click.argument("manifest_path", metavar="MANIFEST", type=GivenPath())
@click.option(
    "-o",
    "--output",
    metavar="BUNDLE",
    type=OutputFile(),
    help="The bundle to write, - for a pipe.  [default: NAME.tar.zst in the current folder]",
)
@click.option(
    "--volume-size",
    metavar="SIZE",
    type=VolumeSize(),
    help=f"Write BUNDLE.001, BUNDLE.002, … {VOLUME_SIZE_HELP}",
)
@click.option("--locked", is_flag=True, help="Insist on the lock beside MANIFEST, and never write it.")
@click.option("--upgrade", is_flag=True, help="Take the newest commits instead of those that the lock pins.")
@click.option("--dry-run", is_flag=True, help="Show files and bytes, download nothing.")
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=GivenPath(file_okay=False),
    help="Where downloads are staged.  [default: $BUNDLE_CACHE, else ~/.cache/bundle]",
)
@click.option(
    "-j",
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 64),
    default=DEFAULT_JOBS,
    show_default=True,
    help="How many files to download at once.",
)
@click.option(
    "--base",
    metavar="OLD",
    type=GivenPath(),
    help="Pack only what OLD lacks: the bundle carried over before, its lock, or its receipt (NAME.json).",
)
@click.option(
    "--codec",
    type=click.Choice(["auto", "zstd"]),
    default="auto",
    show_default=True,
    help="auto: weights as byte planes, smaller and faster. zstd: `tar --zstd -xf` alone unpacks the bundle.",
)
@click.option(
    "--level",
    type=click.IntRange(1, 22),
    default=DEFAULT_LEVEL,
    show_default=True,
    help="zstd level, for the patient; it matters for text more than for weights.",
)
@json_option
def fetch(
    manifest_path: Path,
    output: Path | None,
    volume_size: int | None,
    locked: bool,
    upgrade: bool,
    dry_run: bool,
    cache_dir: Path | None,
    jobs: int,
    base: Path | None,
    codec: CodecChoice,
    level: int,
    as_json: bool,
) -> None:
    """Download what MANIFEST asks for, check every file, prove that it loads offline, and pack one bundle.

    Tokens, proxies and HF_ENDPOINT are honoured as huggingface_hub honours them. An interrupted fetch goes on where
    it was. The proof loads every entry in a process without network; it needs `infini-llama[train]` here.
    """
    if locked and upgrade:
        raise click.UsageError("--locked keeps the lock as it is, --upgrade renews it: choose one")
    if is_pipe := output == Path("-"):
        if as_json or volume_size:
            raise click.UsageError("-o - writes the bundle to stdout: leave --json and --volume-size away")
        check_standard_output()
    manifest = Manifest.load(manifest_path)
    check_endpoint()
    old = Base.open(base) if base else None
    store = Store(Store.default_root(cache_dir))
    lock, warnings = _lock(manifest, manifest_path, locked=locked, upgrade=upgrade)
    for warning in warnings:
        say(f"warning: {warning}")
    plans = plan(lock, store)
    if dry_run:
        _report_plan(plans, warnings, as_json)
        return
    from bundler.make.proof.prepared import prepare
    from bundler.make.proof.proven import prove_once
    from bundler.make.proof.run import check_packages

    check_packages(lock)
    out = output or Path(f"{lock.name}.tar.zst")
    if not is_pipe:
        check_writable(out.absolute().parent)
    destination: Destination
    if is_pipe:
        destination = PipeDestination(take_standard_output())
    else:
        destination = VolumeDestination(out, volume_size) if volume_size else FileDestination(out)
    if not locked:
        # Written before the first download, so that an interrupted fetch goes on with these commits.
        _write_lock(lock_path(manifest_path), lock)
    store.sweep()
    fetched = _download(lock, store, plans, jobs, None if is_pipe else out.absolute().parent)
    say("preparing datasets and proving that everything loads offline")
    complete = prepare(fetched.lock, store, insist=locked)
    proof = prove_once(complete, store)
    if not locked:
        _write_lock(lock_path(manifest_path), complete)
    packed = _pack(complete, store, destination, old, codec, level)
    _report(manifest_path, fetched, proof, packed, destination, warnings, as_json)


def _lock(manifest: Manifest, manifest_path: Path, *, locked: bool, upgrade: bool) -> tuple[Lock, tuple[str, ...]]:
    """Return the lock to fetch: the one beside the manifest where it fits, else a new one."""
    path = lock_path(manifest_path)
    try:
        previous = read_lock(path)
    except LockError:
        if not upgrade:
            raise
        previous = None
    if locked:
        problems = ["there is no lock yet"] if previous is None else differences(previous, manifest)
        if previous is None or problems:
            listing = "".join(f"\n  {problem}" for problem in problems)
            raise LockError(
                f"--locked: {path} does not fit {manifest_path}{listing}",
                hint=f"write it with `bundle lock {manifest_path}`, or leave --locked away",
            )
        return previous, ()
    if previous is not None and is_current(previous, manifest) and not upgrade:
        return previous, ()
    from bundler.hub.connection.client import HubClient
    from bundler.hub.selection.resolve import resolve

    resolution = resolve(manifest, HubClient(on_note=say), previous=previous, upgrade=upgrade)
    return resolution.lock, resolution.warnings


def _write_lock(path: Path, lock: Lock) -> None:
    content = lock.dumps().encode()
    if not path.exists() or path.read_bytes() != content:
        atomic_write(path, content)


class _Bar(Observer):
    """Draws what arrives; a line for what is unusual."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        # tqdm's counter is not made for several threads.
        self._mutex = threading.Lock()

    def progress(self, count: int) -> None:
        with self._mutex:
            self._advance(count)

    def note(self, text: str) -> None:
        say(f"note: {text}")


def _download(lock: Lock, store: Store, plans: list[RepoPlan], jobs: int, folder: Path | None) -> FetchResult:
    total = sum(item.size_bytes for item in plans)
    missing = sum(item.missing_bytes for item in plans)
    say(f"fetching {lock.name}: {size(missing)} to download, {size(total - missing)} staged in {store.root}")
    with progress_bar("fetch", total) as (advance, _):
        return fetch_files(lock, store, jobs=jobs, bundle_folder=folder, observer=_Bar(advance))


def _pack(lock: Lock, store: Store, out: Destination, base: Base | None, codec: CodecChoice, level: int) -> Packed:
    from bundler.make.pack_once import pack_once

    with progress_bar("pack", sum(repo.size_bytes for repo in lock.repos)) as (advance, _):
        return pack_once(lock, store, out, base=base, codec=codec, level=level, progress=advance)


def _report_plan(plans: list[RepoPlan], warnings: tuple[str, ...], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "kind": item.repo.kind,
            "repo_id": item.repo.repo_id,
            "revision": item.repo.revision,
            "commit": item.repo.commit,
            "files": item.files,
            "size_bytes": item.size_bytes,
            "staged_bytes": item.staged_bytes + item.partial_bytes,
            "download_bytes": item.missing_bytes,
        }
        for item in plans
    ]
    total = sum(item.missing_bytes for item in plans)
    if as_json:
        print_json({"repos": rows, "download_bytes": total, "warnings": list(warnings)})
        return
    for row, item in zip(rows, plans, strict=True):
        click.echo(
            f"{row['kind']} {row['repo_id']} {row['revision']} ({row['commit'][:12]}): "
            f"{counted(row['files'], 'file')}, {size(row['size_bytes'])}, {size(row['staged_bytes'])} of it staged"
        )
        for file in item.repo.files:
            click.echo(f"  {size(file.size_bytes):>9}  {file.path}")
    click.echo(f"to download: {size(total)}")


def _report(
    manifest_path: Path,
    fetched: FetchResult,
    proof: Proof,
    bundle: Packed,
    destination: Destination,
    warnings: tuple[str, ...],
    as_json: bool,
) -> None:
    packed = bundle.result
    ratio = packed.raw_bytes / packed.size_bytes
    for entry in proof.entries:
        say(f"{entry.entry} {entry.repo_id}")
        for line in entry.proven:
            say(f"  proven: {line}")
        for line in entry.notes:
            say(f"  note: {line}")
    when = (
        f"that of {proof.proven_at}, same files and packages" if proof.is_remembered else f"{proof.seconds:.1f} s"
    )
    say(f"proof: {when}, {proof.network_attempts} network attempts; {proof.isolation_detail}")
    for text in proof.refused:
        say(f"  refused: {text}")
    say(
        f"fetched {counted(fetched.files, 'file')}, {size(fetched.size_bytes)}, of these downloaded now: "
        f"{counted(fetched.downloaded_files, 'file')}, {size(fetched.received_bytes)}"
    )
    did = "already packed, hashed again:" if bundle.was_there else "packed"
    say(f"{did} {packed.path}: {size(packed.size_bytes)}, {ratio:.2f} times smaller, {packed.digest}")
    volumes = destination.volumes if isinstance(destination, VolumeDestination) else []
    if volumes:
        say(f"in {counted(len(volumes), 'volume')}, {volumes[0].name} to {volumes[-1].name}")
    if as_json:
        print_json(
            {
                "name": fetched.lock.name,
                "bundle": str(packed.path),
                "volumes": [str(path) for path in volumes],
                "already_packed": bundle.was_there,
                "digest": packed.digest,
                "size_bytes": packed.size_bytes,
                "raw_bytes": packed.raw_bytes,
                "ratio": round(ratio, 4),
                "lock": str(lock_path(manifest_path)),
                "files": fetched.files,
                "content_bytes": fetched.size_bytes,
                "downloaded_files": fetched.downloaded_files,
                "downloaded_bytes": fetched.received_bytes,
                "proof": asdict(proof),
                "warnings": list(warnings),
            }
        )
