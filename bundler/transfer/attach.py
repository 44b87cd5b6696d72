"""What is attached to a bundle in a registry: its lock, its signature, and its bill of materials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bundler.errors import DependencyError, LockError
from bundler.files.digest import sha256_bytes
from bundler.plan.lock import Lock
from bundler.remote.oci.manifest import Descriptor
from bundler.remote.oci.registry import Registry, referrers_tag
from bundler.remote.oci.types import EMPTY, INDEX, LOCK, MANIFEST, SBOM, SIGNATURE
from bundler.remote.oci.upload import Uploader
from bundler.transfer.artifact import EMPTY_CONTENT, Attachment, attachment_manifest, referrers_index
from bundler.trust.sbom import write_sbom
from bundler.trust.signature_file import read_signature

_CREATED = "org.opencontainers.image.created"


def list_attachments(
    lock: Lock, digest: str, signature: Path | None, on_note: Callable[[str], None]
) -> list[Attachment]:
    """Return what belongs to a bundle.

    Args:
        lock: Its lock.
        digest: Its digest.
        signature: Its signature, if it has one.
        on_note: Told what is missing and why.

    Raises:
        TrustError: The signature is malformed: it is not sent.
    """
    found = [Attachment(LOCK, lock.encoded, {})]
    if signature is not None:
        signed = read_signature(signature)
        found.append(Attachment(SIGNATURE, signed.content, {_CREATED: signed.statement.signed_at.isoformat()}))
    try:
        found.append(Attachment(SBOM, write_sbom(lock, digest).encode(), {}))
    except (DependencyError, LockError) as error:
        on_note(f"no bill of materials is attached: {error.message}")
    return found


def attach(uploader: Uploader, registry: Registry, attachment: Attachment, subject: Descriptor) -> None:
    """Send what is attached to a manifest, and have it listed as a referrer.

    Args:
        uploader: Sends it.
        registry: The same repository.
        attachment: What it is.
        subject: The manifest, which need not be there yet.

    Raises:
        RemoteError: The registry refused.
        NetworkError: It cannot be reached.
    """
    config = uploader.put_small(EMPTY_CONTENT, EMPTY)
    layer = uploader.put_small(attachment.content, attachment.kind)
    content = attachment_manifest(attachment, config, layer, subject)
    digest = f"sha256:{sha256_bytes(content)}"
    _, is_listed = uploader.put_manifest(content, MANIFEST, digest)
    if is_listed:
        return
    # A registry without the referrers API, which would have said that it lists it.
    index = registry.read_referrers_tag(subject.digest)
    listed = index.list_descriptors("manifests", registry.label) if index else []
    if all(one.digest != digest for one in listed):
        own = Descriptor(MANIFEST, digest, len(content), attachment.kind, dict(attachment.annotations))
        uploader.put_manifest(referrers_index([*listed, own]), INDEX, referrers_tag(subject.digest))
