"""What a bundle is in a registry: a model artifact, or an image, with what is attached to it.

Sources: OCI image specification 1.1 (manifest.md, config.md, artifacts-guidance.md), ModelPack (model-spec, config.md).

Everything here follows from the bundle, and nothing is dated: who pushes it again makes the same manifest.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zstandard

from bundler.files.digest import sha256_bytes
from bundler.home.receipt import Receipt
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.lock import Lock
from bundler.remote.oci.manifest import Descriptor
from bundler.remote.oci.types import (
    BUNDLE_DIGEST,
    BUNDLE_NAME,
    EMPTY,
    IMAGE_CONFIG,
    MANIFEST,
    MODEL,
    MODEL_CONFIG,
)

EMPTY_CONTENT = b"{}"


@dataclass(frozen=True)
class Attachment:
    """Something that is attached to a bundle.

    Attributes:
        kind: Its artifact type.
        content: Its content.
        annotations: What else is said of it.
    """

    kind: str
    content: bytes
    annotations: Mapping[str, str]


def model_config(lock: Lock, diff_ids: Sequence[str]) -> bytes:
    """Return the configuration of a model artifact.

    Args:
        lock: The bundle's lock.
        diff_ids: Digests of its layers, unpacked.
    """
    licenses = sorted({name for repo in lock.repos for name in (repo.card.licenses if repo.card else ())})
    descriptor: dict[str, Any] = {"name": lock.name, "title": ", ".join(sorted({r.repo_id for r in lock.repos}))}
    if licenses:
        descriptor["licenses"] = licenses
    return _dump(
        {"descriptor": descriptor, "modelfs": {"type": "layers", "diffIds": list(diff_ids)}, "config": {}},
    )


def image_config(diff_ids: Sequence[str]) -> bytes:
    """Return the configuration of an image that is mounted, and runs nothing.

    Args:
        diff_ids: Digests of its layers, unpacked.
    """
    return _dump(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created_by": "bundle push --image"} for _ in diff_ids],
        }
    )


def receipt_layer(lock: Lock, digest: str) -> tuple[bytes, str]:
    """Return a layer with the receipt that makes an HF_HOME of an unpacked bundle.

    The bundle is read where it is mounted, without a view of its own, and nobody has computed all of its digests yet.

    Returns:
        The layer, tar and zstd, and the digest of its tar.
    """
    receipt = Receipt(lock, digest, has_view=False, is_checked=False).dumps()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(f"{BUNDLES_FOLDER}/{lock.name}.json")
        member.size = len(receipt)
        archive.addfile(member, io.BytesIO(receipt))
    layer = buffer.getvalue()
    # Compressed, since tools that copy images compress what is not, and then the manifest is another one.
    return zstandard.ZstdCompressor().compress(layer), f"sha256:{sha256_bytes(layer)}"


def bundle_manifest(name: str, digest: str, config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """Return the manifest of a bundle.

    Args:
        name: The bundle's name.
        digest: Its digest, by which a reader of ranges knows what it must find.
        config: The configuration, of a model or of an image.
        layers: The bundle, and of an image its receipt.
    """
    manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST}
    if config.media_type == MODEL_CONFIG:
        manifest["artifactType"] = MODEL
    assert config.media_type in (MODEL_CONFIG, IMAGE_CONFIG), "there are no others"
    manifest |= {
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "annotations": {BUNDLE_DIGEST: digest, BUNDLE_NAME: name},
    }
    return _dump(manifest)


def attachment_manifest(
    attachment: Attachment, config: Descriptor, layer: Descriptor, subject: Descriptor
) -> bytes:
    """Return the manifest of what is attached to a bundle."""
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": attachment.kind,
        "config": config.to_json(),
        "layers": [layer.to_json()],
        "subject": subject.to_json(),
    }
    assert config.media_type == EMPTY, "it says nothing but what it is"
    if attachment.annotations:
        manifest["annotations"] = dict(attachment.annotations)
    return _dump(manifest)


def referrers_index(listed: Sequence[Descriptor]) -> bytes:
    """Return the index that stands for the referrers API."""
    from bundler.remote.oci.types import INDEX

    return _dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one.to_json() for one in listed]})


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
