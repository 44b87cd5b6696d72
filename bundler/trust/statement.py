"""The statement that is signed: which bundle it is about, which release of it, until when, and what was shown of it.

It is an in-toto Statement v1 (https://github.com/in-toto/attestation/tree/main/spec/v1) whose subject is the bundle, by
its name and its bundle digest, and whose predicate is ours:

| key | value |
| --- | --- |
| `lockSha256` | digest of the lock's canonical text: what the bundle unpacks to |
| `sequence` | a number that grows from release to release of one name; the time of signing, unless one was given |
| `signedAt`, `expires` | times in UTC; `expires` may be null |
| `madeWith` | the program |
| `proof` | what was loaded without a network, and with which versions; null where the signer had no proof of it |

A bundle digest is no digest of a file (one bundle can lie in a file or in volumes), so the subject's digest is not
called `sha256` but `bundleIndexSha256`. Of a delta it is that of the whole bundle, as an installation has it; its
own stands beside it as `deltaIndexSha256`.

What was signed is the text, byte by byte. A reader takes this version and no other, and refuses unknown keys.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from bundler import __version__
from bundler.errors import TrustError
from bundler.plan.lock_rules import Sha256
from bundler.plan.names import is_bundle_name
from bundler.text import strict_json
from bundler.text.documents import REPOSITORY
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.reader import Reader
from bundler.text.rules import Key, Rule, key
from bundler.text.strict_json import StrictJsonError
from bundler.text.trees import JsonTree
from bundler.text.wording import quoted

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = f"{REPOSITORY}/bundle-statement/v1"
# What JSON readers of other languages still read exactly (RFC 8259, section 6).
MAX_SEQUENCE = 2**53 - 1

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class InvalidStatementError(InvalidFileError, TrustError):
    """A statement with its faults."""

    next_step = "get the signature from the sender again; a newer `bundle` may write what this one cannot read"


@dataclass(frozen=True, kw_only=True)
class ProvenEntry:
    """What was shown of one repo.

    Attributes:
        repo_id: Its id.
        proven: What was seen to work.
    """

    repo_id: str = key(about=Key(name="repoId"))
    proven: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProofClaim:
    """What the signer's machine loaded without a network.

    Attributes:
        proven_at: When, in UTC, as ISO 8601 has it.
        isolation: What kept the network away.
        versions: Package -> version of what loaded it; Python is one of them.
        entries: What was shown.
        commands: Commands of the maker's that ran on all of it without a network.
    """

    proven_at: str = key(about=Key(name="provenAt"))
    isolation: str
    versions: Mapping[str, str]
    entries: tuple[ProvenEntry, ...]
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a signer says of one bundle.

    Attributes:
        name: The bundle's name.
        digest: The bundle digest, ``sha256:<hex>``; of a delta that of the whole bundle.
        delta_digest: For a delta its own digest, else None.
        lock_digest: Digest of its lock, ``sha256:<hex>``.
        sequence: Grows from release to release under one name.
        signed_at: When it was made.
        expires: From when it says nothing any more, or None.
        proof: What was shown to load, or None.
        made_with: The program that wrote it.
    """

    name: str
    digest: str
    lock_digest: str
    sequence: int
    signed_at: datetime.datetime
    expires: datetime.datetime | None = None
    proof: ProofClaim | None = None
    delta_digest: str | None = None
    made_with: str = f"bundler {__version__}"

    def dumps(self) -> bytes:
        """Return the text that is signed."""
        predicate: dict[str, Any] = {
            "lockSha256": self.lock_digest.removeprefix("sha256:"),
            "sequence": self.sequence,
            "signedAt": _write_time(self.signed_at),
            "expires": _write_time(self.expires) if self.expires else None,
            "madeWith": self.made_with,
            "proof": _write_proof(self.proof) if self.proof else None,
        }
        digests = {"bundleIndexSha256": self.digest.removeprefix("sha256:")}
        if self.delta_digest:
            digests["deltaIndexSha256"] = self.delta_digest.removeprefix("sha256:")
        subject = {"name": self.name, "digest": digests}
        whole = {
            "_type": STATEMENT_TYPE,
            "subject": [subject],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
        return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes, *, source: str) -> Statement:
        """Read a statement.

        Args:
            content: Its text.
            source: The file's name for messages.

        Raises:
            InvalidStatementError: It is malformed, or of another version; every fault is named.
        """
        try:
            root = strict_json.read(content.decode())
        except (StrictJsonError, UnicodeDecodeError) as error:
            raise InvalidStatementError(
                source, [Fault("", None, f"expected an in-toto statement in JSON: {error}")]
            ) from error
        reader = Reader(JsonTree())
        read = reader.read(_StatementFile, root)
        if read is None or reader.faults:
            raise InvalidStatementError(source, reader.faults)
        [subject], predicate = read.subject, read.predicate
        delta = subject.digest.delta_index_sha256
        return cls(
            name=subject.name,
            digest=f"sha256:{subject.digest.bundle_index_sha256}",
            delta_digest=f"sha256:{delta}" if delta else None,
            lock_digest=f"sha256:{predicate.lock_sha256}",
            sequence=predicate.sequence,
            signed_at=datetime.datetime.fromisoformat(predicate.signed_at),
            expires=datetime.datetime.fromisoformat(predicate.expires) if predicate.expires else None,
            proof=predicate.proof,
            made_with=predicate.made_with,
        )


def _name_problem(text: str) -> str | None:
    return None if is_bundle_name(text) else f"expected the name of a bundle, found {quoted(text)}"


def _time_problem(text: str) -> str | None:
    try:
        if _TIME.fullmatch(text):
            datetime.datetime.fromisoformat(text)
            return None
    except ValueError:
        pass
    return f"expected a time such as 2027-01-31T12:00:00Z, found {quoted(text)}"


def _one_problem(subjects: tuple[_Subject, ...]) -> str | None:
    return None if len(subjects) == 1 else f"expected one subject, found {len(subjects)}"


_Time = Annotated[str, Rule(check=_time_problem)]


@dataclass(frozen=True, kw_only=True)
class _SubjectDigest:
    bundle_index_sha256: Sha256 = key(about=Key(name="bundleIndexSha256"))
    delta_index_sha256: Sha256 | None = key(None, Key(name="deltaIndexSha256", shape=Sha256))


@dataclass(frozen=True, kw_only=True)
class _Subject:
    name: Annotated[str, Rule(check=_name_problem)]
    digest: _SubjectDigest


@dataclass(frozen=True, kw_only=True)
class _Predicate:
    lock_sha256: Sha256 = key(about=Key(name="lockSha256"))
    sequence: int = key(at_least=0, at_most=MAX_SEQUENCE)
    signed_at: _Time = key(about=Key(name="signedAt"))
    expires: _Time | None = None
    made_with: str = key(about=Key(name="madeWith"))
    proof: ProofClaim | None = field(default=None)


@dataclass(frozen=True, kw_only=True)
class _StatementFile:
    type: Literal["https://in-toto.io/Statement/v1"] = key(about=Key(name="_type"))
    subject: tuple[_Subject, ...] = key(about=Key(check=_one_problem))
    predicate_type: Literal["https://github.com/infini-llama/infini-llama/bundle-statement/v1"] = key(
        about=Key(name="predicateType")
    )
    predicate: _Predicate


def _write_time(time: datetime.datetime) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _write_proof(proof: ProofClaim) -> dict[str, Any]:
    return {
        "provenAt": proof.proven_at,
        "isolation": proof.isolation,
        "versions": dict(sorted(proof.versions.items())),
        "entries": [{"repoId": entry.repo_id, "proven": list(entry.proven)} for entry in proof.entries],
        # Only if there are some, so that older versions read all other statements.
        **({"commands": list(proof.commands)} if proof.commands else {}),
    }
