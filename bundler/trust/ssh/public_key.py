"""SSH public keys, and whether a signature is one of theirs.

Rule book:

* RSA signs with SHA-2 and has at least 2048 bits; SHA-1 (``ssh-rsa`` as a signature) and DSA are refused;
* a FIDO key says in what it signs whether its owner touched it; where nobody did, the signature is refused;
* the arithmetic is that of the package cryptography, imported when the first signature is verified and, since each
  kind of key costs milliseconds to import, only for the kind at hand.

Sources: RFC 4253 (RSA), RFC 5656 (ECDSA), RFC 8332 (RSA with SHA-2), RFC 8709 (Ed25519), OpenSSH's PROTOCOL.u2f.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from bundler.files.digest import sha256_raw
from bundler.trust.ssh.wire import MalformedError, WireReader, string

ED25519 = "ssh-ed25519"
RSA = "ssh-rsa"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
# Key type -> its curve, and the digest that it signs by (RFC 5656, section 6.2.1).
CURVES = {
    "ecdsa-sha2-nistp256": ("nistp256", "SECP256R1", "SHA256"),
    "ecdsa-sha2-nistp384": ("nistp384", "SECP384R1", "SHA384"),
    "ecdsa-sha2-nistp521": ("nistp521", "SECP521R1", "SHA512"),
    SK_ECDSA: ("nistp256", "SECP256R1", "SHA256"),
}
RSA_DIGESTS = {"rsa-sha2-256": "SHA256", "rsa-sha2-512": "SHA512"}
# The key type, and how many strings of its own follow it in a key.
FIELDS = {ED25519: 1, RSA: 2, SK_ED25519: 2, **dict.fromkeys(CURVES, 2), SK_ECDSA: 3}

_LEAST_RSA_BITS = 2048
# A longer one takes seconds to verify by.
_MOST_RSA_BITS = 16384
_USER_PRESENT = 1


class BadSignatureError(Exception):
    """A signature is not one of this key over these bytes. The message is one sentence."""


@dataclass(frozen=True)
class PublicKey:
    """A public key.

    Attributes:
        kind: Its type, such as ``ssh-ed25519``.
        blob: It, as SSH writes it.
    """

    kind: str
    blob: bytes

    @classmethod
    def parse(cls, blob: bytes) -> PublicKey:
        """Read a key as SSH writes it; that its numbers make sense is found out when it verifies.

        Raises:
            MalformedError: It is none, or of a kind that is not taken here.
        """
        reader = WireReader(blob)
        kind = reader.text()
        if kind not in FIELDS:
            raise MalformedError(f"expected a key of a kind such as {ED25519}, found {kind[:60]!r}")
        for _ in range(FIELDS[kind]):
            reader.string()
        reader.end()
        return cls(kind, blob)

    @property
    def fingerprint(self) -> str:
        """What ``ssh-keygen -l`` calls it: ``SHA256:`` and base64."""
        return f"SHA256:{base64.b64encode(sha256_raw(self.blob)).decode().rstrip('=')}"

    def verify(self, signature: bytes, message: bytes) -> None:
        """Make sure that `signature`, as SSH writes it, is of this key over `message`.

        Raises:
            BadSignatureError: It is not.
        """
        from cryptography.exceptions import InvalidSignature

        try:
            self._verify(WireReader(signature), WireReader(self.blob), message)
        except InvalidSignature as error:
            raise BadSignatureError("the signature is not of this key over these bytes") from error
        except (MalformedError, ValueError) as error:
            raise BadSignatureError(f"key or signature is malformed: {error}") from error

    def _verify(self, signature: WireReader, key: WireReader, message: bytes) -> None:
        algorithm = signature.text()
        expected = RSA_DIGESTS if self.kind == RSA else (self.kind,)
        if algorithm not in expected:
            raise BadSignatureError(f"expected a signature by {' or '.join(expected)}, found {algorithm[:60]!r}")
        value = signature.string()
        key.text()
        if self.kind in (SK_ED25519, SK_ECDSA):
            message = self._signed_by_token(signature, message)
        signature.end()
        if self.kind in (ED25519, SK_ED25519):
            _verify_ed25519(key.string(), value, message)
        elif self.kind == RSA:
            _verify_rsa(key.mpint(), key.mpint(), value, message, RSA_DIGESTS[algorithm])
        else:
            _verify_ecdsa(self.kind, key.text(), key.string(), value, message)

    def _signed_by_token(self, signature: WireReader, message: bytes) -> bytes:
        """Return what a FIDO token signs for `message`."""
        flags, counter = signature.take(1), signature.take(4)
        if not flags[0] & _USER_PRESENT:
            raise BadSignatureError("nobody touched the FIDO token that signed")
        key = WireReader(self.blob)
        application = [key.string() for _ in range(1 + FIELDS[self.kind])][-1]
        return sha256_raw(application) + flags + counter + sha256_raw(message)


def _verify_ed25519(key: bytes, value: bytes, message: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    Ed25519PublicKey.from_public_bytes(key).verify(value, message)


def _verify_rsa(exponent: int, modulus: int, value: bytes, message: bytes, digest: str) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    if problem := rsa_size_problem(modulus.bit_length()):
        raise BadSignatureError(problem)
    size_bytes = (modulus.bit_length() + 7) // 8
    # Some signers leave leading zeros out (RFC 8332 allows no others).
    value = value.rjust(size_bytes, b"\0")
    public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    public.verify(value, message, padding.PKCS1v15(), getattr(hashes, digest)())


def rsa_size_problem(bits: int) -> str | None:
    """Say what is wrong with the size of an RSA key, or return None."""
    if _LEAST_RSA_BITS <= bits <= _MOST_RSA_BITS:
        return None
    return f"expected an RSA key of {_LEAST_RSA_BITS} to {_MOST_RSA_BITS} bits, found {bits}"


def _verify_ecdsa(kind: str, curve: str, point: bytes, value: bytes, message: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    expected, name, digest = CURVES[kind]
    if curve != expected:
        raise BadSignatureError(f"expected a key on {expected}, found {curve[:60]!r}")
    numbers = WireReader(value)
    r, s = numbers.mpint(), numbers.mpint()
    numbers.end()
    public = ec.EllipticCurvePublicKey.from_encoded_point(getattr(ec, name)(), point)
    public.verify(encode_dss_signature(r, s), message, ec.ECDSA(getattr(hashes, digest)()))


def write_key(kind: str, *fields: bytes) -> bytes:
    """Write a key of these strings."""
    return b"".join(map(string, (kind.encode(), *fields)))
