"""A signed bundle, and keys as both sides have them."""

from __future__ import annotations

import base64
from pathlib import Path

from bundler.make.sign import sign_bundle
from bundler.trust.paths import Form
from bundler.trust.signature_file import SignedStatement
from bundler.trust.ssh.public_key import PublicKey
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.keys import Key, make_key


def public_key(key: Key) -> PublicKey:
    """The public half of a key."""
    return PublicKey.parse(base64.b64decode(key.public.split()[1]))


def signed_bundle(folder: Path, *, form: Form, kind: str = "ecdsa-256") -> tuple[Key, SignedStatement, Path]:
    """Sign a small bundle; returns the key, what was signed, and where the signature is."""
    bundle = tiny_bundle(folder, locked_repo("org/m", {"config.json": b"{}"}), contents=[b"{}"], name="prod")
    key = make_key(folder / "keys", kind=kind)
    return (key, *sign_bundle(bundle, key.path, sequence=7, form=form))
