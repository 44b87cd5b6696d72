"""The bundle, and the signature, that an ``oci://`` address leads to.

An address with a digest is a promise about content. The manifest is compared with it; the bundle, which is read by
ranges, with the bundle digest in that manifest. Where the manifest has none, which is so where another tool pushed it,
the promise could not be kept, and the address is refused.
"""

from __future__ import annotations

from bundler.errors import FormatError
from bundler.remote.address import Address
from bundler.remote.http.object import HttpObject
from bundler.remote.oci.registry import Registry
from bundler.remote.oci.types import SIGNATURE


def open_registry(address: Address, *, is_read_whole: bool = False) -> HttpObject:
    """Open the bundle of an address.

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
        if registry.reference.digest and not (bundle_digest or is_read_whole):
            raise FormatError(
                f"{address}: its manifest does not say which bundle it holds, so that reading a part of it cannot be "
                "compared with its digest",
                hint="`bundle pull` compares all of it; or leave out the digest",
            )
        blob = manifest.find_bundle(registry.label)
        found = registry.open_blob(blob)
        found.content_digest = blob.digest
        found.bundle_digest = bundle_digest
        return found
    except BaseException:
        registry.close()
        raise


def read_registry_signature(address: Address, *, most_bytes: int) -> tuple[bytes, str] | None:
    """Read the newest signature that is attached to the bundle of an address; None where there is none.

    Raises:
        RemoteError: It cannot be told whether there is one.
        NetworkError: Nor can it: the registry cannot be reached.
    """
    registry = Registry(address)
    try:
        manifest = registry.find_manifest()
        listed = registry.list_referrers(manifest.digest, SIGNATURE)
        if not listed:
            return None
        # In the order of their making where they say it; what says nothing was there before.
        newest = max(listed, key=lambda one: one.annotations.get("org.opencontainers.image.created", ""))
        attached = registry.read_manifest(newest.digest)
        layers = attached.list_descriptors("layers", registry.label)
        if len(layers) != 1:
            raise FormatError(f"{address}: expected one layer in signature {newest.digest}, found {len(layers)}")
        return registry.read_blob(layers[0], most_bytes=most_bytes), f"{address}, signature {newest.digest[:19]}"
    finally:
        registry.close()
