"""SSHSIG, the signatures of ``ssh-keygen -Y sign`` (OpenSSH's PROTOCOL.sshsig).

What is signed is not the message but its digest, together with a namespace: a signature that a key made for something
else, a commit or a login, is none for this.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from bundler.files.digest import sha256_raw, sha512_raw
from bundler.trust.ssh.certificate import Certificate, is_certificate, read_certificate
from bundler.trust.ssh.public_key import BadSignatureError, PublicKey
from bundler.trust.ssh.wire import MalformedError, WireReader, string

BEGIN = b"-----BEGIN SSH SIGNATURE-----\n"
END = b"-----END SSH SIGNATURE-----\n"
_MAGIC = b"SSHSIG"
_VERSION = 1
_DIGESTS = {"sha256": sha256_raw, "sha512": sha512_raw}
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\n]*")


@dataclass(frozen=True)
class SshSignature:
    """A signature.

    Attributes:
        key: The key that made it.
        certificate: What vouches for that key, where it came with one.
        namespace: What it was made for.
    """

    key: PublicKey
    certificate: Certificate | None
    namespace: str
    _hash: str
    _reserved: bytes
    _value: bytes

    @classmethod
    def parse(cls, armored: bytes) -> SshSignature:
        """Read a signature from `BEGIN` to `END`; that a certificate in it was signed by its authority is checked.

        Raises:
            MalformedError: It is none.
            BadSignatureError: The certificate in it was not signed by its authority.
        """
        body = armored.removeprefix(BEGIN).removesuffix(END)
        if len(body) != len(armored) - len(BEGIN) - len(END) or not _BASE64.fullmatch(body):
            raise MalformedError("expected an SSH signature in base64 between its BEGIN and END lines")
        try:
            content = base64.b64decode(body.replace(b"\n", b""), validate=True)
        except binascii.Error as error:
            raise MalformedError(f"expected base64: {error}") from error
        reader = WireReader(content)
        if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != _VERSION:
            raise MalformedError(f"expected an SSH signature of version {_VERSION}")
        blob = reader.string()
        namespace, reserved, name, value = reader.text(), reader.string(), reader.text(), reader.string()
        reader.end()
        if name not in _DIGESTS:
            raise MalformedError(f"expected a digest by {' or '.join(_DIGESTS)}, found {name[:60]!r}")
        certificate = read_certificate(blob) if is_certificate(blob) else None
        key = certificate.key if certificate else PublicKey.parse(blob)
        return cls(key, certificate, namespace, name, reserved, value)

    def verify(self, message: bytes, namespace: str) -> None:
        """Make sure that it was made of `message`, and for `namespace`.

        Raises:
            BadSignatureError: It was not.
        """
        if self.namespace != namespace:
            raise BadSignatureError(f"expected one made for namespace {namespace}, found {self.namespace[:80]!r}")
        digest = _DIGESTS[self._hash](message)
        signed = _MAGIC + b"".join(map(string, (namespace.encode(), self._reserved, self._hash.encode(), digest)))
        self.key.verify(self._value, signed)
