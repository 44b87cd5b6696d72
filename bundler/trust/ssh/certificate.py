"""OpenSSH certificates: a key, and who vouches for it, for whom, and how long (OpenSSH's PROTOCOL.certkeys)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from bundler.trust.ssh.public_key import FIELDS, BadSignatureError, PublicKey, write_key
from bundler.trust.ssh.wire import WireReader

_SUFFIX = "-cert-v01@openssh.com"
_KINDS = {f"{kind.removesuffix('@openssh.com')}{_SUFFIX}": kind for kind in FIELDS}
_FOR_USERS = 1
_FOR_EVER = 2**64 - 1


@dataclass(frozen=True)
class Certificate:
    """A certificate; that its authority signed it was checked.

    Attributes:
        key: Whose it is.
        authority: The key that signed it.
        key_id: What the authority calls it.
        principals: Whom it stands for.
        is_for_users: Whether it is one for users; others are for hosts.
        valid_after: From when, in seconds since 1970.
        valid_before: Until when.
        critical_options: Names of conditions that must not be passed over.
    """

    key: PublicKey
    authority: PublicKey
    key_id: str
    principals: tuple[str, ...]
    is_for_users: bool
    valid_after: int
    valid_before: int
    critical_options: tuple[str, ...]

    def problem(self, now: float) -> str | None:
        """Say why it vouches for nobody at a time in seconds since 1970, or return None."""
        if not self.is_for_users:
            return "it is a certificate for a host"
        if not self.principals:
            return "it names no principal"
        if self.critical_options:
            return f"it has conditions that are not known here: {', '.join(self.critical_options)}"
        if now < self.valid_after:
            return f"it is valid only from {_spell(self.valid_after)}"
        if now >= self.valid_before:
            return f"it was valid until {_spell(self.valid_before)}"
        return None


def is_certificate(blob: bytes) -> bool:
    """Tell whether a key, as SSH writes it, is a certificate."""
    return WireReader(blob).text() in _KINDS


def read_certificate(blob: bytes) -> Certificate:
    """Read a certificate, and make sure that its authority signed it.

    Raises:
        MalformedError: It is none.
        BadSignatureError: The authority did not sign it.
    """
    reader = WireReader(blob)
    kind = _KINDS[reader.text()]
    reader.string()  # the nonce
    key = PublicKey.parse(write_key(kind, *(reader.string() for _ in range(FIELDS[kind]))))
    reader.number(8)  # the serial number
    is_for_users = reader.number() == _FOR_USERS
    key_id = reader.text()
    principals = _read_texts(reader.string())
    valid_after, valid_before = reader.number(8), reader.number(8)
    critical = _read_texts(reader.string())[::2]
    reader.string()  # extensions, which may be passed over
    reader.string()  # reserved
    authority = PublicKey.parse(reader.string())
    signed = blob[: reader.position]
    signature = reader.string()
    reader.end()
    try:
        authority.verify(signature, signed)
    except BadSignatureError as error:
        raise BadSignatureError(f"certificate {key_id!r}: {error}") from error
    return Certificate(key, authority, key_id, principals, is_for_users, valid_after, valid_before, critical)


def _read_texts(content: bytes) -> tuple[str, ...]:
    reader, found = WireReader(content), []
    while reader.position < len(content):
        found.append(reader.text())
    return tuple(found)


def _spell(seconds: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "for ever" if seconds == _FOR_EVER else f"{seconds} seconds after 1970"
