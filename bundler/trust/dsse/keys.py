"""The keys of DSSE signatures: the arithmetic for a key that a list of signers, or a file, has.

Ed25519 signs the text itself; ECDSA its SHA-2 of the curve's size, written as DER; RSA its SHA-256, by PKCS #1 v1.5.
These are the choices of sigstore (its `PublicKeyDetails`) and of securesystemslib. FIDO tokens sign something else than
the text that they are given, so they make no DSSE signatures; agents are not asked.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from bundler.errors import UsageError
from bundler.files.bounded import read_bounded
from bundler.files.digest import sha256_bytes
from bundler.trust.ssh.public_key import (
    SK_ECDSA,
    SK_ED25519,
    BadSignatureError,
    PublicKey,
    rsa_size_problem,
)

_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
# Curves by the names that cryptography gives them, and the digest that they sign by.
_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
# An RSA key of the greatest length has some 13 kB.
_MOST_KEY_BYTES = 64 << 10


class UnfitKeyError(Exception):
    """A key makes no DSSE signatures. The message is one sentence."""


def verify_by(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Make sure that a signature is of this key over `message`.

    Raises:
        BadSignatureError: It is not, or the key is of a kind that makes none.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        public = _open(key)
        public.verify(signature, message, *_scheme(public))
    except InvalidSignature as error:
        raise BadSignatureError("the signature is not of this key over these bytes") from error
    except UnfitKeyError as error:
        raise BadSignatureError(str(error)) from error


def hint_of(key: PublicKey) -> str:
    """Return what sigstore bundles of OpenSSF's model_signing call a key: SHA-256 of its PEM, in hex.

    Raises:
        UnfitKeyError: It is of a kind that makes no DSSE signatures.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256_bytes(_open(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def sign_by(path: Path, message: bytes) -> tuple[PublicKey, bytes]:
    """Sign with a private key in a file: OpenSSH's own form or PEM, without a passphrase.

    Returns:
        Its public half, and the signature.

    Raises:
        UsageError: There is no such key in it.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = _load(path)
    try:
        scheme = _scheme(private.public_key())
    except UnfitKeyError as error:
        raise _unusable(path, str(error)) from error
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return PublicKey.parse(base64.b64decode(line.split()[1])), private.sign(message, *scheme)


# What cryptography returns is one of many classes that have these methods, but no base with them.
def _open(key: PublicKey) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    # cryptography would take a token's key for a plain one.
    if key.kind in (SK_ED25519, SK_ECDSA):
        raise UnfitKeyError(f"a FIDO token, {key.kind}, makes no DSSE signatures")
    try:
        return load_ssh_public_key(f"{key.kind} {base64.b64encode(key.blob).decode()}".encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnfitKeyError(f"the key of type {key.kind} is malformed: {error}") from error


def _scheme(key: Any) -> tuple[Any, ...]:
    """Return what `sign` and `verify` of this kind of key take besides."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if isinstance(key, ed25519.Ed25519PublicKey):
        return ()
    if isinstance(key, rsa.RSAPublicKey):
        if problem := rsa_size_problem(key.key_size):
            raise UnfitKeyError(problem)
        return (padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return (ec.ECDSA(getattr(hashes, _CURVES[key.curve.name])()),)
    raise UnfitKeyError("expected a key of Ed25519, RSA, or ECDSA on P-256, P-384 or P-521")


def _load(path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    try:
        content = read_bounded(path.resolve(), _MOST_KEY_BYTES)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    load = load_ssh_private_key if content.startswith(_OPENSSH) else load_pem_private_key
    try:
        return load(content, None)
    except TypeError as error:
        raise _unusable(path, "it has a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(path, f"it is no private key: {error}") from error


def _unusable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path}: cannot sign in the form of DSSE with it: {why}",
        hint="name a file with a private key of Ed25519, ECDSA or RSA, in OpenSSH's form or PEM, without a passphrase; "
        "agents and tokens sign in the form `ssh` only",
    )
