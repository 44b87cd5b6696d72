"""`bundle sign`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.replaced import describe_old_signature, old_signature_json
from bundler.console.options import json_option
from bundler.console.output import print_json, say
from bundler.console.paths import GivenPath
from bundler.trust.paths import SUFFIXES, Form, signature_path


@click.command()
@click.argument("bundle", nargs=-1, required=True, type=GivenPath())
@click.option(
    "--key",
    required=True,
    metavar="KEY",
    type=GivenPath(dir_okay=False),
    help="SSH key: private, or the public half or certificate of one that an agent or a FIDO token has.",
)
@click.option("--sequence", metavar="N", type=int, help="Number of this release.  [default: seconds since 1970]")
@click.option(
    "--valid-days", metavar="DAYS", type=float, help="Days in which it may be installed.  [default: for ever]"
)
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=GivenPath(file_okay=False),
    help="Where `bundle fetch` remembers what it proved.  [default: $BUNDLE_CACHE, else ~/.cache/bundle]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(SUFFIXES)),
    default="ssh",
    show_default=True,
    help="ssh: BUNDLE.sig. sigstore: BUNDLE.sigstore.json, and dsse: BUNDLE.dsse.json, with a key in a file.",
)
@json_option
def sign(
    bundle: tuple[Path, ...],
    key: Path,
    sequence: int | None,
    valid_days: float | None,
    cache_dir: Path | None,
    form: Form,
    as_json: bool,
) -> None:
    """Sign BUNDLE, a file or volumes, with an SSH key: write BUNDLE.sig beside it.

    The signature is one of `ssh-keygen -Y sign`, over a statement that names the bundle, its release, and what was
    proven to load. It goes with the bundle; `bundle install` and `bundle verify` look for it there. Sign what you
    have just made, or verified: only index and lock are read.

    `--format sigstore` writes a sigstore bundle, which `bundle install --signature FILE` takes where a policy lists the
    key; `--format dsse` writes a DSSE envelope, which is for in-toto tools only.

    \b
    Examples:
      bundle sign demo.tar.zst --key ~/.ssh/id_ed25519
      bundle sign demo.tar.zst.001 --key ~/.ssh/id_ed25519_sk --valid-days 90
      bundle sign demo.tar.zst --key release.pem --format sigstore
    """
    from bundler.format.find import find_bundle
    from bundler.format.reader import BundleReader
    from bundler.make.proof.proven import recall_proof
    from bundler.make.sign import sign_bundle
    from bundler.make.store import Store
    from bundler.trust.signature_file import find_signature

    place = find_bundle(bundle)
    with BundleReader(place) as reader:
        proof = recall_proof(reader.lock, Store(Store.default_root(cache_dir)))
    if proof is None:
        say("note: nothing is remembered here of a proof with these packages: the statement says nothing of one")
    target = signature_path(place, form)
    old = find_signature(place, target, keys=()) if target.exists() else None
    signed, path = sign_bundle(place, key, proof=proof, sequence=sequence, valid_days=valid_days, form=form)
    statement = signed.statement
    say(f"signed release {statement.sequence} of {statement.name}, {statement.digest}: {path}")
    if old:
        say(describe_old_signature(old))
    if as_json:
        print_json(
            {
                "signature": str(path),
                "name": statement.name,
                "digest": statement.digest,
                "sequence": statement.sequence,
                "key": signed.key.fingerprint,
                "is_proven": statement.proof is not None,
                "replaced": old and old_signature_json(old),
            }
        )
