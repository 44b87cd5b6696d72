"""The bundle, and the signature, that an ``oci://`` address leads to.

An address with a digest is a promise about content. The manifest is compared with it; the bundle, which is read by
ranges, with the bundle digest in that manifest. Where the manifest has none, which is so where another tool pushed it,
the promise could not be kept, and the address is refused.
"""

from __future__ import annotations

from bundler.errors import BundleError, ChangedError, FormatError, RemoteError
from bundler.remote.address import Address
from bundler.remote.joined import JoinedObject
from bundler.remote.object import RemoteObject
from bundler.remote.oci.registry import Registry
from bundler.remote.oci.types import SIGNATURE
from bundler.remote.signature import FoundSignature

# More than anybody signs one bundle with; each takes two requests.
_MOST_SIGNATURES = 50


def open_registry(address: Address, *, is_read_whole: bool = False) -> RemoteObject:
    """Open the bundle of an address; one in pieces as if it were not.

    Args:
        address: Where it is.
        is_read_whole: The caller compares all of it with `content_digest`.

    Raises:
        RemoteError: The registry refused.
        NetworkError: It cannot be reached.
        FormatError: What is there has no bundle in it.
    """
    registry = Registry(address)
    try:
        manifest = registry.find_manifest()
        bundle_digest = manifest.find_bundle_digest(registry.label)
        pieces = manifest.find_pieces(registry.label)
        # Of pieces there is no digest of all of it.
        if registry.reference.digest and not (bundle_digest or (is_read_whole and len(pieces) == 1)):
            raise FormatError(
                f"{address}: its manifest does not say which bundle it holds, so that reading a part of it cannot be "
                "compared with its digest",
                hint="`bundle pull` compares all of it; or leave out the digest",
            )
        blobs = [registry.open_blob(piece) for piece in pieces]
        found: RemoteObject
        if len(pieces) == 1:
            [found] = blobs
            found.content_digest = pieces[0].digest
        else:
            found = JoinedObject(blobs, [piece.size_bytes for piece in pieces], manifest.digest)
        found.bundle_digest = bundle_digest
        return found
    except BaseException:
        registry.close()
        raise


def read_registry_signatures(address: Address, *, most_bytes: int) -> list[FoundSignature]:
    """Read the signatures that are attached to the bundle of an address.

    Whoever may write to the repository can attach more, and say of them what they like; so all are read, as far as they
    can be, and what is in them decides.

    Raises:
        RemoteError: It cannot be told whether there is one.
        NetworkError: Nor can it: the registry cannot be reached.
        FormatError, ChangedError: There are some, and none can be read.
    """
    registry = Registry(address)
    try:
        manifest = registry.find_manifest()
        bundle_digest = manifest.find_bundle_digest(registry.label)
        listed = registry.list_referrers(manifest.digest, SIGNATURE)
        # The newest, where they say it; what says nothing was there before.
        listed.sort(key=lambda one: one.annotations.get("org.opencontainers.image.created", ""), reverse=True)
        found: list[FoundSignature] = []
        failure: BundleError | None = None
        for one in listed[:_MOST_SIGNATURES]:
            try:
                content = _read_attached(registry, one.digest, most_bytes)
            except (FormatError, ChangedError, RemoteError) as error:
                failure = error
            else:
                found.append(FoundSignature(content, f"{address}, signature {one.digest[:19]}", bundle_digest))
        if failure is not None and not found:
            raise failure
        return found
    finally:
        registry.close()


def _read_attached(registry: Registry, digest: str, most_bytes: int) -> bytes:
    layers = registry.read_manifest(digest).list_descriptors("layers", registry.label)
    if len(layers) != 1:
        raise FormatError(f"{registry.label}: expected one layer in signature {digest}, found {len(layers)}")
    return registry.read_blob(layers[0], most_bytes=most_bytes)
