"""SSH signatures: what ssh-keygen made is accepted here, what it refuses is refused, and no bit may change."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bundler.files.digest import sha256_raw, sha512_raw
from bundler.trust.ssh.public_key import SK_ECDSA, SK_ED25519, BadSignatureError, write_key
from bundler.trust.ssh.sshsig import BEGIN, END, SshSignature
from bundler.trust.ssh.wire import MalformedError, string
from tests.support.keys import KINDS, certify, keygen_sign, keygen_verifies, make_key

NAMESPACE = "test@example.org"
MESSAGE = b"what is signed\n"


def armored(blob: bytes) -> bytes:
    return BEGIN + base64.encodebytes(blob) + END


def token_signature(kind: str, flags: int) -> tuple[bytes, str]:
    """What a FIDO token gives: the signature, and its key as allowed_signers has it."""
    application, state = b"ssh:", bytes([flags]) + (7).to_bytes(4, "big")
    signed = b"SSHSIG" + b"".join(map(string, (NAMESPACE.encode(), b"", b"sha512", sha512_raw(MESSAGE))))
    message = sha256_raw(application) + state + sha256_raw(signed)
    if kind == SK_ED25519:
        key = ed25519.Ed25519PrivateKey.generate()
        fields = [key.public_key().public_bytes_raw()]
        value = key.sign(message)
    else:
        other = ec.generate_private_key(ec.SECP256R1())
        fields = [b"nistp256", other.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)]
        numbers = decode_dss_signature(other.sign(message, ec.ECDSA(hashes.SHA256())))
        value = b"".join(string(number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers)
    blob = write_key(kind, *fields, application)
    made = string(kind.encode()) + string(value) + state
    parts = (blob, NAMESPACE.encode(), b"", b"sha512", made)
    text = armored(b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(string, parts)))
    return text, f"{kind} {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize("hashed", ["sha256", "sha512"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_ssh_keygen_signs_is_accepted(tmp_path: Path, kind: str, hashed: str) -> None:
    key = make_key(tmp_path, kind=kind)
    found = SshSignature.parse(keygen_sign(key.path, MESSAGE, NAMESPACE, "-O", f"hashalg={hashed}"))
    found.verify(MESSAGE, NAMESPACE)
    assert f"{found.key.kind} {base64.b64encode(found.key.blob).decode()}" == key.public
    with pytest.raises(BadSignatureError, match="not of this key over these bytes"):
        found.verify(MESSAGE + b" ", NAMESPACE)
    with pytest.raises(BadSignatureError, match="expected one made for namespace file"):
        found.verify(MESSAGE, "file")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "rsa"])
def test_what_a_certified_key_signs_is_accepted(tmp_path: Path, kind: str) -> None:
    authority = make_key(tmp_path, "authority", "ecdsa-384" if kind == "ed25519" else kind)
    certificate = certify(authority, make_key(tmp_path, kind=kind), principals="alice@example.org,bob@example.org")
    found = SshSignature.parse(keygen_sign(certificate, MESSAGE, NAMESPACE))
    found.verify(MESSAGE, NAMESPACE)
    assert found.certificate is not None
    assert found.certificate.principals == ("alice@example.org", "bob@example.org")
    assert found.certificate.key_id == "alice's"
    assert found.certificate.problem(0) is None


@pytest.mark.parametrize("kind", [SK_ED25519, SK_ECDSA])
def test_a_touched_fido_token_is_accepted_here_and_by_ssh_keygen(tmp_path: Path, kind: str) -> None:
    text, public = token_signature(kind, flags=1)
    SshSignature.parse(text).verify(MESSAGE, NAMESPACE)
    (tmp_path / "signers").write_text(f"alice@example.org {public}\n")
    (tmp_path / "sig").write_bytes(text)
    assert keygen_verifies(tmp_path / "signers", tmp_path / "sig", MESSAGE, NAMESPACE)


@pytest.mark.parametrize("kind", [SK_ED25519, SK_ECDSA])
def test_a_fido_token_that_nobody_touched_is_refused(kind: str) -> None:
    text, _ = token_signature(kind, flags=0)
    with pytest.raises(BadSignatureError, match="nobody touched"):
        SshSignature.parse(text).verify(MESSAGE, NAMESPACE)


@pytest.mark.parametrize("is_certified", [False, True])
def test_no_bit_of_a_signature_may_change(tmp_path: Path, is_certified: bool) -> None:
    key = make_key(tmp_path)
    path = certify(make_key(tmp_path, "authority"), key) if is_certified else key.path
    blob = base64.b64decode(b"".join(keygen_sign(path, MESSAGE, NAMESPACE).splitlines()[1:-1]))
    accepted = []
    for place in random.Random(1).sample(range(len(blob) * 8), 400):
        changed = bytearray(blob)
        changed[place // 8] ^= 1 << place % 8
        try:
            SshSignature.parse(armored(bytes(changed))).verify(MESSAGE, NAMESPACE)
            accepted.append(place)
        except (MalformedError, BadSignatureError):
            pass
    assert accepted == []


@pytest.mark.parametrize("cut", range(0, 160, 7))
def test_a_signature_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    text = keygen_sign(make_key(tmp_path).path, MESSAGE, NAMESPACE)
    blob = base64.b64decode(b"".join(text.splitlines()[1:-1]))
    with pytest.raises(MalformedError):
        SshSignature.parse(armored(blob[:cut]))
    with pytest.raises(MalformedError):
        SshSignature.parse(armored(blob + bytes(cut + 1)))


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = rsa.generate_private_key(65537, 1024)
    numbers = key.public_key().public_numbers()
    signed = b"SSHSIG" + b"".join(map(string, (NAMESPACE.encode(), b"", b"sha512", sha512_raw(MESSAGE))))
    blob = write_key("ssh-rsa", b"\1\0\1", b"\0" + numbers.n.to_bytes(128, "big"))
    for algorithm, digest in ((b"rsa-sha2-512", hashes.SHA512()), (b"ssh-rsa", hashes.SHA1())):
        made = string(algorithm) + string(key.sign(signed, padding.PKCS1v15(), digest))
        parts = (blob, NAMESPACE.encode(), b"", b"sha512", made)
        text = armored(b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(string, parts)))
        with pytest.raises(BadSignatureError, match=r"2048 to 16384 bits|expected a signature by"):
            SshSignature.parse(text).verify(MESSAGE, NAMESPACE)
