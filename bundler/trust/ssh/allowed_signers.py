"""The list of signers that OpenSSH calls allowed_signers (ssh-keygen(1), ALLOWED SIGNERS).

A line is principals, options, and a key:

    release@example.org valid-before="20270101" ssh-ed25519 AAAA…
    *@example.org cert-authority,namespaces="bundle@*" ssh-ed25519 AAAA…

Rule book:

* every line must be right; ssh-keygen passes over one that is not, which may be the one that somebody relied on;
* validity is that at the time of verifying, as with ``ssh-keygen -Y verify``: by the time in a statement, whoever stole
  a key that has ended could choose a time when it had not;
* a certificate is accepted by its authority's line alone, for principals that both line and certificate name.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bundler.trust.ssh.certificate import Certificate
from bundler.trust.ssh.public_key import PublicKey
from bundler.trust.ssh.wire import MalformedError

# Options hold no spaces but in double quotes.
_FIELD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?(,|$)')
_TIME = re.compile(r"(\d{8})(?:(\d{4})(\d{2})?)?(Z?)")


@dataclass(frozen=True, kw_only=True)
class AllowedSigner:
    """A line of the list.

    Attributes:
        principals: Patterns of the identities that the key is accepted for.
        key: The key.
        is_authority: Whether it vouches for others' keys, by certificates.
        namespaces: Patterns of what it may sign; None for anything.
        valid_after: From when, in seconds since 1970, or None.
        valid_before: Until when, or None.
        line: Where it stands, from 1.
    """

    principals: str
    key: PublicKey
    is_authority: bool = False
    namespaces: str | None = None
    valid_after: float | None = None
    valid_before: float | None = None
    line: int = 0

    def problem(self, namespace: str, now: float) -> str | None:
        """Say why this line accepts nothing of that namespace at that time, or return None."""
        if self.namespaces is not None and not match_list(namespace, self.namespaces):
            return f"its key is not accepted for namespace {namespace}"
        if self.valid_after is not None and now < self.valid_after:
            return "its key is not valid yet"
        if self.valid_before is not None and now > self.valid_before:
            return "its key is no longer valid"
        return None


class NotAListOfSignersError(Exception):
    """Lines of a list are malformed.

    Attributes:
        faults: What is wrong, as (line from 1, message).
    """

    def __init__(self, faults: list[tuple[int, str]]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


def read_allowed_signers(text: str) -> list[AllowedSigner]:
    """Read a list.

    Raises:
        NotAListOfSignersError: Lines of it are malformed.
    """
    found, faults = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.strip().startswith("#"):
            try:
                found.append(_read_line(line.strip(), number))
            except MalformedError as error:
                faults.append((number, str(error)))
    if faults:
        raise NotAListOfSignersError(faults)
    return found


def find_signer(
    signers: Sequence[AllowedSigner],
    key: PublicKey,
    certificate: Certificate | None,
    namespace: str,
    now: float,
    identities: Sequence[str] = (),
) -> tuple[str | None, list[str]]:
    """Find whom a signature is by.

    Args:
        signers: The list.
        key: That a signature was verified by.
        certificate: What vouches for the key, where the signature has one.
        namespace: What it must have been made for.
        now: In seconds since 1970.
        identities: Whom it may be by; default anybody in the list.

    Returns:
        The identity, or what the list calls it where that is a pattern; None with the reasons why there is none.
    """
    reasons = []
    for signer in signers:
        where = f"line {signer.line}"
        if certificate and signer.is_authority and signer.key == certificate.authority:
            problem = certificate.problem(now)
            names = [name for name in certificate.principals if match_list(name, signer.principals)]
            found = [name for name in names if not identities or name in identities]
        elif not signer.is_authority and not certificate and signer.key == key:
            problem = None
            found = [name for name in identities if match_list(name, signer.principals)]
            found = found if identities else [signer.principals]
        else:
            continue
        if problem := signer.problem(namespace, now) or problem:
            reasons.append(f"{where}: {problem}")
        elif found:
            return found[0], []
        else:
            wanted = ", ".join(identities) or signer.principals
            reasons.append(f"{where}: its key stands for {signer.principals}, not for {wanted}")
    what = f"certificate {certificate.key_id!r}" if certificate else f"key {key.fingerprint}"
    return None, reasons or [f"{what} is in no line"]


def match_list(text: str, patterns: str) -> bool:
    """Tell whether a text matches a list of patterns as OpenSSH writes it: commas, ``*``, ``?``, ``!`` for never."""
    found = False
    for pattern in patterns.split(","):
        if _match(text, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _match(text: str, pattern: str) -> bool:
    # Brackets are no wildcards there.
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _read_line(line: str, number: int) -> AllowedSigner:
    principals, *rest = _split(line)
    if len(rest) >= 2 and not _is_key(rest[0]):
        options, *rest = rest
    else:
        options = ""
    if len(rest) < 2 or not _is_key(rest[0]):
        raise MalformedError("expected principals, options, the type of a key and a key")
    try:
        key = PublicKey.parse(base64.b64decode(rest[1].encode(), validate=True))
    except binascii.Error as error:
        raise MalformedError(f"expected a key in base64: {error}") from error
    if key.kind != rest[0]:
        raise MalformedError(f"expected a key of type {rest[0]}, found one of {key.kind}")
    flags = _read_options(options)
    return AllowedSigner(
        principals=principals.replace('"', ""),
        key=key,
        is_authority="cert-authority" in flags,
        namespaces=flags.get("namespaces"),
        valid_after=_read_time(flags.get("valid-after")),
        valid_before=_read_time(flags.get("valid-before")),
        line=number,
    )


def _split(line: str) -> list[str]:
    """Return the words of a line up to its key; a comment behind it may hold anything."""
    words: list[str] = []
    position = 0
    while position < len(line) and not (len(words) > 2 and _is_key(words[-2])):
        match = _FIELD.match(line, position)
        if match is None:
            raise MalformedError(f"a quote begins and does not end: {line[position : position + 40]!r}")
        words.append(match[0])
        position = match.end()
        while line[position : position + 1].isspace():
            position += 1
    return words


def _is_key(word: str) -> bool:
    return word.startswith(("ssh-", "ecdsa-", "sk-"))


def _read_options(text: str) -> dict[str, str]:
    flags: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        name = match[1].lower() if match else ""
        takes_value = name in ("namespaces", "valid-after", "valid-before")
        if not match or (name != "cert-authority" and not takes_value) or takes_value != (match[2] is not None):
            raise MalformedError(
                'expected the options cert-authority, namespaces="…", valid-after="…", valid-before="…", found '
                f"{text[position : position + 40]!r}"
            )
        if name in flags:
            raise MalformedError(f"option {name} stands twice")
        flags[name] = match[2] or ""
        position = match.end()
    return flags


def _read_time(text: str | None) -> float | None:
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        when = datetime.datetime.strptime(f"{match[1]}{match[2] or '0000'}{match[3] or '00'}", "%Y%m%d%H%M%S")
    except ValueError as error:
        raise MalformedError(f"expected a time such as 20270101 or 202701011200Z, found {text[:40]!r}") from error
    # Without a Z it is that of this machine's time zone.
    return (when.replace(tzinfo=datetime.UTC) if match[4] else when.astimezone()).timestamp()
