"""The file `BUNDLE.sig`: an SSH signature, and after it the statement that was signed.

Both in one file, so that no two can be mixed up on the way; and in this order, since ``ssh-keygen -Y verify -s`` wants
the signature first and passes over what follows:

    sed '1,/^-----END/d' demo.tar.zst.sig | ssh-keygen -Y verify -s demo.tar.zst.sig -n NAMESPACE -f SIGNERS -I WHO

A single file, volumes and a pipe of one bundle have one and the same `BUNDLE.sig`.

A signature may also be a sigstore bundle whose payload is that statement. An SSH signature has its key in it, so it can
be right by a key that nobody here knows; a sigstore bundle has none, so it is right by a key of a list of signers only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ChangedError, TrustError
from bundler.remote.address import Address, Place
from bundler.text.wording import counted
from bundler.trust.paths import signature_path
from bundler.trust.ssh.certificate import Certificate
from bundler.trust.ssh.public_key import BadSignatureError, PublicKey
from bundler.trust.ssh.sshsig import BEGIN, END, SshSignature
from bundler.trust.ssh.wire import MalformedError
from bundler.trust.statement import Statement

# Of the form that PROTOCOL.sshsig asks for: a name, and a domain that is ours.
NAMESPACE = "bundle@infini-llama.github.io"
# A proof of a thousand repos has a tenth of this.
MAX_BYTES = 1 << 20

_AGAIN = "get it from the sender again, or have the bundle signed anew with `bundle sign`"


@dataclass(frozen=True)
class SignedStatement:
    """A statement whose signature is right; whose it is, and whether that is enough, is not said.

    Attributes:
        statement: What is said.
        key: The key that signed it.
        certificate: What vouches for that key, where it came with one.
        content: The file.
        source: Where it was read.
    """

    statement: Statement
    key: PublicKey
    certificate: Certificate | None
    content: bytes
    source: str


def find_signature(
    place: Place | Sequence[Path] | None,
    given: Path | None = None,
    *,
    keys: Collection[PublicKey],
    authorities: Collection[PublicKey] = (),
) -> SignedStatement | TrustError | None:
    """Return the signature of a bundle; why it cannot be used; or None where there is none.

    Args:
        place: The bundle's file, address or volumes; None of a stream.
        given: Where its signature is; default beside it.
        keys: As `parse_signature` takes them.
        authorities: As `choose_signature` takes them.

    Raises:
        NetworkError, RemoteError: It cannot be told whether there is one at the address.
    """
    if isinstance(place, Address):
        if given is None:
            chosen = choose_signature(place, keys=keys, authorities=authorities)
            return chosen[1] if chosen else None
        place = None
    path = given or (signature_path(place) if place is not None else None)
    try:
        return read_signature(path, keys=keys) if path and (given or path.exists()) else None
    except TrustError as error:
        return error


def choose_signature(
    address: Address,
    *,
    keys: Collection[PublicKey] = (),
    authorities: Collection[PublicKey] = (),
    of: str | None = None,
) -> tuple[bytes, SignedStatement | TrustError] | None:
    """Return the signature at an address, and what it says or why it cannot be used; None where there is none.

    Of several in a registry: one of this bundle before others, by a key that counts here before others, and then the
    one that was signed last by its own statement.

    Args:
        address: The bundle's.
        keys: As `parse_signature` takes them; a signature by one of them counts.
        authorities: A signature by a key that one of these vouches for counts, too.
        of: The digest of the bundle that was found there a moment ago.

    Raises:
        ChangedError: There is another bundle by now.
        NetworkError, RemoteError: It cannot be told whether there is one.
    """
    from bundler.format.storage.volume_names import volume_base
    from bundler.remote.opening import read_signatures

    # A bundle that is named as a volume, and is none, has its own; volumes have one together.
    base = volume_base(address)
    chosen: tuple[bytes, SignedStatement | TrustError] | None = None
    best: tuple[bool, bool, float] | None = None
    signatures = read_signatures(address, most_bytes=MAX_BYTES)
    if base is not None and not signatures:
        signatures = read_signatures(base, most_bytes=MAX_BYTES)
    for found in signatures:
        if of is not None and found.bundle_digest not in (None, of):
            raise ChangedError(
                f"{address}: it was replaced while it was read: it led to bundle {of}, and leads to "
                f"{found.bundle_digest} now",
                hint="run the same command again",
            )
        try:
            signed = parse_signature(found.content, source=found.source, keys=keys)
        except TrustError as error:
            chosen = chosen or (found.content, error)
            continue
        statement, certificate = signed.statement, signed.certificate
        counts = signed.key in keys or (certificate is not None and certificate.authority in authorities)
        fits = found.bundle_digest in (None, statement.digest, statement.delta_digest)
        rank = (fits, counts, statement.signed_at.timestamp())
        if best is None or rank > best:
            best, chosen = rank, (found.content, signed)
    return chosen


def read_signature(path: Path, *, keys: Collection[PublicKey] = ()) -> SignedStatement:
    """Read a signature file; `keys` as `parse_signature` takes them.

    Raises:
        TrustError: It is not there, is none, or its signature is wrong.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise TrustError(f"{path}: expected a signature there, found no file", hint=_AGAIN) from error
    return parse_signature(content, source=str(path), keys=keys)


def parse_signature(content: bytes, *, source: str, keys: Collection[PublicKey] = ()) -> SignedStatement:
    """Read the content of a signature file, and verify the signature.

    Args:
        content: The content.
        source: The file's name for messages.
        keys: Those that a sigstore bundle may be signed by. That one of them did says no more than an SSH signature
            does by itself: which signer is accepted is asked afterwards.

    Raises:
        TrustError: It is none, or wrong.
    """
    if len(content) > MAX_BYTES:
        raise TrustError(f"{source}: expected a signature, found more than {MAX_BYTES:,} bytes", hint=_AGAIN)
    if content.startswith(b"{"):
        return _open_sigstore_bundle(content, source, keys)
    armored, end, text = content.partition(END)
    if not armored.startswith(BEGIN) or not end:
        found = f"{len(content):,} bytes that begin with {content[:20]!r}"
        raise TrustError(f"{source}: expected an SSH signature and a statement, found {found}", hint=_AGAIN)
    try:
        signature = SshSignature.parse(armored + end)
        signature.verify(text, NAMESPACE)
    except MalformedError as error:
        raise TrustError(f"{source}: the signature is malformed: {error}", hint=_AGAIN) from error
    except BadSignatureError as error:
        raise TrustError(f"{source}: the signature is wrong: {error}", hint=_AGAIN) from error
    statement = Statement.loads(text, source=source)
    return SignedStatement(statement, signature.key, signature.certificate, content, source)


def _open_sigstore_bundle(content: bytes, source: str, keys: Collection[PublicKey]) -> SignedStatement:
    # The rarer form, which the other need not wait for.
    from bundler.trust.dsse.sigstore_bundle import SigstoreBundle

    bundle = SigstoreBundle.loads(content, source=source)
    key = bundle.find_key(keys)
    if key is None:
        raise TrustError(
            f"{source}: the signature is of none of the {counted(len(keys), 'key')} in the lists of signers of the "
            "policies here; a sigstore bundle does not hold its key",
            hint="if you trust the signer, list their key in a policy; an SSH signature needs that, too, but can be "
            "checked without",
        )
    return SignedStatement(Statement.loads(bundle.envelope.payload, source=source), key, None, content, source)
