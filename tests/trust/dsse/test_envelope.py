"""DSSE envelopes: securesystemslib accepts ours, we accept its; the statement in them is one that in-toto reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement as InTotoStatement
from in_toto_attestation.v1.statement_pb2 import Statement as InTotoMessage
from securesystemslib.dsse import Envelope as TheirEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from bundler.errors import UsageError
from bundler.trust.dsse.envelope import PAYLOAD_TYPE, Envelope, encode_for_signing, sign_payload
from bundler.trust.ssh.public_key import BadSignatureError, PublicKey
from tests.support.keys import KINDS, keygen, make_key
from tests.trust.dsse.support import public_key, signed_bundle

TEXT = b'{"_type": "https://in-toto.io/Statement/v1"}'


def _their_key(path: Path, key_id: str) -> SSlibKey:
    key = load_ssh_public_key(path.with_suffix(".pub").read_bytes())
    # Of RSA its default is PSS, which neither sigstore nor SSH has.
    scheme = "rsa-pkcs1v15-sha256" if isinstance(key, RSAPublicKey) else None
    return SSlibKey.from_crypto(key, keyid=key_id, scheme=scheme)  # type: ignore[arg-type]


def test_what_is_signed_is_the_encoding_of_the_protocol() -> None:
    # The example of protocol.md, with our type in place of its own.
    assert encode_for_signing(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"


@pytest.mark.parametrize("kind", KINDS)
def test_securesystemslib_verifies_what_we_sign(tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, kind=kind)
    envelope, public = sign_payload(TEXT, key.path)
    assert public == public_key(key)
    theirs = TheirEnvelope.from_dict(json.loads(json.dumps(envelope.as_json())))
    assert (theirs.payload, theirs.payload_type) == (TEXT, PAYLOAD_TYPE)
    ours = _their_key(key.path, public.fingerprint)
    assert theirs.verify([ours], 1) == {public.fingerprint: ours}
    theirs.payload = TEXT + b" "
    with pytest.raises(VerificationError):
        theirs.verify([ours], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_we_verify_what_securesystemslib_signs(tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, kind=kind)
    private = load_ssh_private_key(key.path.read_bytes(), None)
    signer = CryptoSigner(private, _their_key(key.path, "theirs"))  # type: ignore[arg-type]
    made = TheirEnvelope(TEXT, PAYLOAD_TYPE, {}).sign(signer)
    envelope = Envelope(TEXT, bytes.fromhex(made.signature))
    envelope.verify(public_key(key))
    for other in (Envelope(TEXT + b" ", envelope.signature), Envelope(TEXT, envelope.signature[:-1])):
        with pytest.raises(BadSignatureError):
            other.verify(public_key(key))
    with pytest.raises(BadSignatureError):
        envelope.verify(public_key(make_key(tmp_path, "other", kind)))


def test_a_signature_over_a_text_of_another_type_is_none(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    signer = CryptoSigner(load_ssh_private_key(key.path.read_bytes(), None), _their_key(key.path, "theirs"))  # type: ignore[arg-type]
    made = TheirEnvelope(TEXT, "application/json", {}).sign(signer)
    with pytest.raises(BadSignatureError):
        Envelope(TEXT, bytes.fromhex(made.signature)).verify(public_key(key))


def test_the_key_of_a_fido_token_verifies_nothing(tmp_path: Path) -> None:
    # Its bytes are those of a plain key, and more; what it signs is never the text alone.
    plain = public_key(make_key(tmp_path))
    envelope, _ = sign_payload(TEXT, tmp_path / "key")
    token = b"\0\0\0\x1ask-ssh-ed25519@openssh.com" + plain.blob[15:] + b"\0\0\0\4ssh:"
    with pytest.raises(BadSignatureError, match="FIDO"):
        envelope.verify(PublicKey.parse(token))


def test_in_toto_reads_the_statement(tmp_path: Path) -> None:
    _, signed, path = signed_bundle(tmp_path, form="dsse")
    assert path.name == "prod.tar.zst.dsse.json"
    payload = TheirEnvelope.from_dict(json.loads(path.read_bytes())).payload
    read = InTotoStatement.copy_from_pb(json_format.Parse(payload, InTotoMessage()))
    read.validate()
    [subject] = read.pb.subject
    assert (subject.name, dict(subject.digest)) == (
        "prod",
        {"bundleIndexSha256": signed.statement.digest.removeprefix("sha256:")},
    )


def test_keys_that_cannot_sign_are_refused(tmp_path: Path) -> None:
    locked = make_key(tmp_path, "locked")
    keygen("-q", "-p", "-P", "", "-N", "secret", "-f", str(locked.path))
    short = generate_private_key(65537, 1024)
    (tmp_path / "short.pem").write_bytes(short.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for path, why in {
        locked.path: "it has a passphrase",
        locked.path.with_suffix(".pub"): "no private key",
        tmp_path / "short.pem": "2048 to 16384 bits",
        tmp_path / "missing": "No such file",
        tmp_path: "Is a directory",
    }.items():
        with pytest.raises(UsageError, match=why):
            sign_payload(TEXT, path)
