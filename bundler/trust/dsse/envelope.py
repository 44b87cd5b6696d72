"""DSSE, the envelope of in-toto: a text, and a signature over the text and its type.

    {"payload": BASE64, "payloadType": "application/vnd.in-toto+json", "signatures": [{"keyid": …, "sig": BASE64}]}

Rule book:

* what is signed is not the text but its encoding with type and lengths (PAE), so a signature over a text of another
  type is none over this;
* `keyid` is a hint that nobody signed: nothing is decided by it;
* one signature, as sigstore has it.

Source: github.com/secure-systems-lab/dsse, protocol.md and envelope.md (v1.0.2).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from bundler.text.rules import Key, Rule, key
from bundler.trust.dsse.keys import sign_by, verify_by
from bundler.trust.ssh.public_key import PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Envelope:
    """A text with its signature.

    Attributes:
        payload: The text.
        signature: By a key that is not in it.
        key_id: What the signer calls the key.
    """

    payload: bytes
    signature: bytes
    key_id: str = ""

    def verify(self, public_key: PublicKey) -> None:
        """Make sure that the signature is of this key.

        Raises:
            BadSignatureError: It is not.
        """
        verify_by(public_key, self.signature, encode_for_signing(self.payload))

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": self.key_id, "sig": base64.b64encode(self.signature).decode()}],
        }


def encode_for_signing(payload: bytes) -> bytes:
    """Return what is signed for a text: PAE of the protocol."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def sign_payload(payload: bytes, key_file: Path) -> tuple[Envelope, PublicKey]:
    """Sign a text with a private key in a file; returns the envelope, and the key's public half.

    Raises:
        UsageError: The file has no key that can.
    """
    public_key, signature = sign_by(key_file, encode_for_signing(payload))
    return Envelope(payload, signature, public_key.fingerprint), public_key


def read_base64(text: str) -> bytes:
    """Read base64 in either alphabet, as the protocol asks of a reader.

    Raises:
        ValueError: It is none.
    """
    return base64.b64decode(text.replace("-", "+").replace("_", "/").encode(), validate=True)


def _base64_problem(text: str) -> str | None:
    try:
        read_base64(text)
    except (binascii.Error, ValueError):
        return "expected base64"
    return None


def _one_problem(signatures: tuple[SignatureFile, ...]) -> str | None:
    return None if len(signatures) == 1 else f"expected one signature, found {len(signatures)}"


_Base64 = Annotated[str, Rule(check=_base64_problem)]


@dataclass(frozen=True, kw_only=True)
class SignatureFile:
    """A signature as an envelope has it."""

    sig: _Base64
    keyid: Annotated[str, Rule(check=lambda text: None)] = ""


@dataclass(frozen=True, kw_only=True)
class EnvelopeFile:
    """An envelope as it is written."""

    payload: _Base64
    payload_type: Literal["application/vnd.in-toto+json"] = key(about=Key(name="payloadType"))
    signatures: tuple[SignatureFile, ...] = key(about=Key(check=_one_problem))

    def open(self) -> Envelope:
        """Return what it says."""
        [only] = self.signatures
        return Envelope(read_base64(self.payload), read_base64(only.sig), only.keyid)
