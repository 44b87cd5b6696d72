"""OpenSSF's model_signing and we read each other's sigstore bundles: `make test-signing`, which installs it.

It signs a manifest of files, and its command takes no other statement; so its signer and its verifier are called
below the command.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

pytest.importorskip("model_signing", reason="`make test-signing` installs it")

from model_signing import signing, verifying
from model_signing._signing import sign_ec_key, sign_sigstore_pb

from bundler.errors import TrustError
from bundler.trust.signature_file import parse_signature
from tests.support.keys import Key
from tests.trust.dsse.support import public_key, signed_bundle

_KINDS = ["ecdsa-256", "ecdsa-384", "ecdsa-521"]


def pem_pair(key: Key) -> tuple[Path, Path]:
    """The key in PEM, private and public."""
    opened: Any = load_ssh_private_key(key.path.read_bytes(), None)
    private, public = key.path.with_suffix(".pem"), key.path.with_suffix(".pub.pem")
    private.write_bytes(opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(opened.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.mark.parametrize("kind", _KINDS)
def test_its_verifier_accepts_our_bundle(tmp_path: Path, kind: str) -> None:
    key, signed, path = signed_bundle(tmp_path, form="sigstore", kind=kind)
    _, public = pem_pair(key)
    found = sign_ec_key.Verifier(public)._verify_signed_content(sign_sigstore_pb.Signature.read(path))
    assert found == ("application/vnd.in-toto+json", signed.statement.dumps())


@pytest.mark.parametrize("kind", _KINDS)
def test_we_accept_what_its_signer_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    key, signed, path = signed_bundle(tmp_path, form="sigstore", kind=kind)
    private, _ = pem_pair(key)
    # It signs what protobuf makes of a statement, which has no whole numbers: a sequence of 7 would become 7.0.
    monkeypatch.setattr(sign_ec_key.json_format, "MessageToJson", bytes.decode)
    payload: Any = SimpleNamespace(statement=SimpleNamespace(pb=signed.statement.dumps()))
    sign_ec_key.Signer(private).sign(payload).write(path)
    found = parse_signature(path.read_bytes(), source=str(path), keys=[public_key(key)])
    assert found.statement == signed.statement


def test_its_own_manifest_is_no_statement_about_a_bundle(tmp_path: Path) -> None:
    key, _, path = signed_bundle(tmp_path, form="sigstore")
    private, public = pem_pair(key)
    bundle = tmp_path / "prod.tar.zst"
    signing.Config().use_elliptic_key_signer(private_key=private).sign(bundle, path)
    verifying.Config().use_elliptic_key_verifier(public_key=public).verify(bundle, path)
    assert "sequence" not in json.loads(path.read_bytes())
    with pytest.raises(TrustError, match="predicateType"):
        parse_signature(path.read_bytes(), source=str(path), keys=[public_key(key)])
