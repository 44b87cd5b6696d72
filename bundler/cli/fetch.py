"""`bundle fetch`: manifest → lock → verified blobs → proof → one bundle."""

from __future__ import annotations

import os
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import click

from bundler.cli.bundle_arguments import VOLUME_SIZE_HELP, OutputPlace, VolumeSize
from bundler.cli.parity_options import check_parity, parity_option, write_parity
from bundler.cli.standard_pipes import choose_output
from bundler.cli.upload import begin_upload, finish_upload
from bundler.console.options import json_option
from bundler.console.paths import GivenPath, GivenPlace
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.make.fetch import DEFAULT_JOBS
from bundler.make.lock import LockMode
from bundler.offline.sandbox.limits import DEFAULT_MINUTES
from bundler.remote.address import Place


@click.command(
    epilog="""
    \b
    Examples:
      bundle fetch manifests/demo.yaml
      bundle fetch manifests/demo.yaml --dry-run
      bundle fetch manifests/demo.yaml --volume-size 3900M --parity 10%
      bundle fetch manifests/demo.yaml -o - | ssh login bundle install -
      HF_ENDPOINT=https://mirror.example bundle fetch manifests/demo.yaml -o /scratch/demo.tar.zst --locked
    """
)
@click.argument("manifest_path", metavar="MANIFEST", type=GivenPath())
@click.option(
    "-o",
    "--output",
    metavar="BUNDLE",
    type=OutputPlace(),
    help="The bundle to write, - for a pipe, or the address of a registry or an object store.  "
    "[default: NAME.tar.zst, with --base NAME.delta.tar.zst, here]",
)
@click.option(
    "--volume-size",
    metavar="SIZE",
    type=VolumeSize(),
    help=f"Write BUNDLE.001, BUNDLE.002, … {VOLUME_SIZE_HELP}",
)
@parity_option
@click.option(
    "--sign",
    "key",
    metavar="KEY",
    type=GivenPath(dir_okay=False),
    help="Sign it with this SSH key, as `bundle sign`.",
)
@click.option(
    "--signature",
    metavar="FILE",
    type=OutputPlace(),
    help="Where --sign writes the signature; a pipe needs it.  [default: BUNDLE.sig]",
)
@click.option("--locked", is_flag=True, help="Insist on the lock beside MANIFEST, and never write it.")
@click.option("--upgrade", is_flag=True, help="Take the newest commits instead of those that the lock pins.")
@click.option("--dry-run", is_flag=True, help="Show files, bytes and the room needed; write nothing.")
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=GivenPath(file_okay=False),
    help="Where downloads are staged.  [default: $BUNDLE_CACHE, else ~/.cache/bundle]",
)
@click.option(
    "--from-cache",
    metavar="DIR",
    type=GivenPath(file_okay=False, exists=True),
    help="HF cache whose files are taken, after hashing, instead of downloading them.  [default: $HF_HOME]",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Take everything from that cache, and ask nobody. What the cache lacks counts as absent.",
)
@click.option(
    "-j",
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 64),
    default=DEFAULT_JOBS,
    show_default=True,
    help="Over how many connections to download.",
)
@click.option(
    "--base",
    metavar="OLD",
    type=GivenPlace(),
    help="Pack only what OLD lacks: the bundle carried over before, its address, lock, or receipt (NAME.json).",
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
@click.option(
    "--unsandboxed",
    is_flag=True,
    help="Prove without a sandbox: Python of repos with trust_remote_code runs as you. Without this option it does "
    "not run where the kernel has no sandbox (exit code 11).",
)
@click.option(
    "--prove",
    "prove",
    metavar="CMD",
    multiple=True,
    help="Run this shell command as a proof too, on what the bundle will hold, with the network shut; may be repeated, "
    "and named in MANIFEST (prove).",
)
@click.option(
    "--proof-timeout",
    "proof_minutes",
    metavar="MINUTES",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_MINUTES,
    show_default=True,
    help="How long the proof of one entry, or one command of --prove, may take.",
)
@json_option
def fetch(
    manifest_path: Path,
    output: Place | None,
    volume_size: int | None,
    share: Fraction | None,
    key: Path | None,
    signature: Path | None,
    locked: bool,
    upgrade: bool,
    dry_run: bool,
    cache_dir: Path | None,
    from_cache: Path | None,
    offline: bool,
    jobs: int,
    base: Place | None,
    codec: CodecChoice,
    level: int,
    unsandboxed: bool,
    prove: tuple[str, ...],
    proof_minutes: float,
    as_json: bool,
) -> None:
    """Download what MANIFEST asks for, check every file, prove that it loads offline, and pack one bundle.

    Tokens, proxies and HF_ENDPOINT are honoured as huggingface_hub honours them. An interrupted fetch goes on where
    it was. The proof loads every entry in a process without network, in a sandbox; it needs `infini-llama[train]` here.
    --prove 'python train.py --max-steps 2' proves that the program runs, in the same way.
    """
    mode = _choose_mode(locked=locked, upgrade=upgrade)
    upload = begin_upload(output, dry_run=dry_run, is_cut=volume_size is not None)
    check_parity(share, has_files=not (upload or output == Path("-")))
    is_mixed = as_json or volume_size is not None
    out = upload.destination if upload else choose_output(output, dry_run=dry_run, is_mixed=is_mixed)
    if dry_run:
        # With it the Hub's client writes to HF_HOME: a list of agents, to name the one that runs it.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if key and (output == Path("-") or upload) and not signature:
        raise click.UsageError(
            "--sign writes BUNDLE.sig beside a file, and a pipe has none: name one by --signature"
        )
    if signature and not key:
        raise click.UsageError("--signature says where --sign writes: give --sign KEY as well")
    from bundler.cli.fetch_report import describe_stale_signature, report_made, report_plan
    from bundler.cli.observer import ConsoleObserver
    from bundler.make.bundle import make_bundle
    from bundler.make.bundle_plan import plan_bundle
    from bundler.make.cache.offline import serve_cache
    from bundler.make.sign import sign_made
    from bundler.trust.signature_file import find_signature

    with (
        ConsoleObserver() as observer,
        serve_cache(from_cache, observer.warn) if offline else nullcontext() as endpoint,
        upload or nullcontext(),
    ):
        if dry_run:
            planned = plan_bundle(
                manifest_path,
                out,
                mode=mode,
                base=base,
                volume_bytes=volume_size,
                store=cache_dir,
                from_cache=from_cache,
                prove=prove,
                endpoint=endpoint,
                observer=observer,
            )
        else:
            made = make_bundle(
                manifest_path,
                out,
                mode=mode,
                base=base,
                volume_bytes=volume_size,
                codec=codec,
                level=level,
                store=cache_dir,
                from_cache=from_cache,
                endpoint=endpoint,
                jobs=jobs,
                sandbox="none" if unsandboxed else "auto",
                prove=prove,
                proof_minutes=proof_minutes,
                observer=observer,
            )
            place = (list(made.volumes) or made.path) if signature is None else None
            given = signature if signature and signature.exists() else None
            old = find_signature(place, given, keys=())
            signed = sign_made(made, key, signature) if key else None
            if upload:
                finish_upload(upload, made, signed, observer.note, as_json=as_json)
            if not key and (stale := describe_stale_signature(old, made)):
                observer.note(stale)
        parity = None if dry_run else write_parity(made.volumes or [made.path], share, keep=True)
    if dry_run:
        report_plan(click.get_current_context(), planned, observer.notes, as_json=as_json)
    else:
        report_made(made, signed, old, observer.notes, parity, as_json=as_json)


def _choose_mode(*, locked: bool, upgrade: bool) -> LockMode:
    if locked and upgrade:
        raise click.UsageError("--locked keeps the lock as it is, --upgrade renews it: choose one")
    return "insist" if locked else "upgrade" if upgrade else "reuse"
