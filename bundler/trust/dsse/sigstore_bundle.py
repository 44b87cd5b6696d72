"""Sigstore bundles that a key signed: a DSSE envelope, and what tells which key it was.

    {"mediaType": …, "verificationMaterial": {"publicKey": {"hint": …}, "tlogEntries": []}, "dsseEnvelope": {…}}

Rule book:

* the key is not in it: one of a list of signers must verify it, and the hint only says which to try first;
* bundles of certificates, of Fulcio or of others, are refused by name: who may sign is said by a list of keys
  (`docs/decisions/0008-dsse-and-sigstore-bundles.md`);
* entries of a transparency log and time stamps are passed over: they add nothing to a key that is listed.

Source: github.com/sigstore/protobuf-specs, sigstore_bundle.proto (media type v0.3).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from bundler.errors import TrustError
from bundler.text import strict_json
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.reader import Reader
from bundler.text.rules import Key, Rule, key
from bundler.text.strict_json import StrictJsonError
from bundler.text.trees import JsonTree
from bundler.trust.dsse.envelope import Envelope, EnvelopeFile
from bundler.trust.dsse.keys import UnfitKeyError, hint_of
from bundler.trust.ssh.public_key import BadSignatureError, PublicKey

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_CERTIFICATES = ("certificate", "x509CertificateChain")
_PASSED_OVER = ("tlogEntries", "timestampVerificationData")


class InvalidSigstoreBundleError(InvalidFileError, TrustError):
    """A sigstore bundle with its faults."""

    next_step = "get it from the sender again; `bundle sign --format sigstore` makes one"


@dataclass(frozen=True, kw_only=True)
class _PublicKey:
    hint: Annotated[str, Rule(check=lambda text: None)] | None = None


@dataclass(frozen=True, kw_only=True)
class _Material:
    public_key: _PublicKey = key(about=Key(name="publicKey"))


@dataclass(frozen=True, kw_only=True)
class _BundleFile:
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = key(about=Key(name="mediaType"))
    verification_material: _Material = key(about=Key(name="verificationMaterial"))
    dsse_envelope: EnvelopeFile = key(about=Key(name="dsseEnvelope"))


@dataclass(frozen=True)
class SigstoreBundle:
    """A sigstore bundle.

    Attributes:
        envelope: What was signed.
        hint: Which key signed it, as nobody but the writer says.
    """

    envelope: Envelope
    hint: str

    @classmethod
    def loads(cls, content: bytes, *, source: str) -> SigstoreBundle:
        """Read one; nothing is verified.

        Args:
            content: Its text.
            source: The file's name for messages.

        Raises:
            InvalidSigstoreBundleError: It is malformed, or of a kind that is not taken; every fault is named.
        """
        try:
            root = strict_json.read(content.decode())
        except (StrictJsonError, UnicodeDecodeError) as error:
            raise _invalid(source, "", f"expected a sigstore bundle in JSON: {error}") from error
        if isinstance(root, dict) and isinstance(material := root.get("verificationMaterial"), dict):
            if found := [name for name in _CERTIFICATES if name in material]:
                text = "expected a bundle that a listed key signed, found one of a certificate"
                raise _invalid(source, f"verificationMaterial.{found[0]}", text)
            for name in _PASSED_OVER:
                material.pop(name, None)
        reader = Reader(JsonTree())
        read = reader.read(_BundleFile, root)
        if read is None or reader.faults:
            raise InvalidSigstoreBundleError(source, reader.faults)
        return cls(read.dsse_envelope.open(), read.verification_material.public_key.hint or "")

    @classmethod
    def of(cls, envelope: Envelope, public_key: PublicKey) -> SigstoreBundle:
        """Wrap an envelope that this key signed."""
        return cls(envelope, hint_of(public_key))

    def dumps(self) -> bytes:
        """Return the text."""
        whole = {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.hint}, "tlogEntries": []},
            "dsseEnvelope": self.envelope.as_json(),
        }
        return f"{json.dumps(whole)}\n".encode()

    def find_key(self, keys: Iterable[PublicKey]) -> PublicKey | None:
        """Return the key that signed it, of some; None if none of them did."""
        return next((one for one in sorted(keys, key=self._is_unlikely) if self._is_by(one)), None)

    def _is_unlikely(self, public_key: PublicKey) -> bool:
        try:
            return hint_of(public_key) != self.hint
        except UnfitKeyError:
            return True

    def _is_by(self, public_key: PublicKey) -> bool:
        try:
            self.envelope.verify(public_key)
        except BadSignatureError:
            return False
        return True


def _invalid(source: str, path: str, text: str) -> InvalidSigstoreBundleError:
    return InvalidSigstoreBundleError(source, [Fault(path, None, text)])
