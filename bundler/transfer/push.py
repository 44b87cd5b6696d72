"""Send a bundle to an address. To a registry: its blob, what is attached to it, and last the tag that shows it all.

Rule book:

* the bundle is read from where it is, volumes as one, and never copied; memory does not grow with it;
* the tag comes last: whoever finds the bundle by it finds its signature too;
* what is there is not sent again, so pushing twice sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import TrustError, UsageError
from bundler.files.digest import Hasher, sha256_bytes
from bundler.format.codec.codecs import find_codec
from bundler.format.reader import BundleReader
from bundler.format.storage.volumes import open_stored
from bundler.make.store import Store
from bundler.remote.address import REGISTRY_SCHEMES, Address
from bundler.remote.oci.manifest import Descriptor
from bundler.remote.oci.registry import Registry
from bundler.remote.oci.types import (
    BUNDLE_DIGEST,
    BUNDLE_PIECE,
    IMAGE_CONFIG,
    IMAGE_LAYER,
    MANIFEST,
    MODEL_CONFIG,
    MODEL_FILE_PATH,
    MODEL_RAW,
    MODEL_TAR,
    SIGNATURE,
)
from bundler.remote.oci.upload import Uploader
from bundler.transfer.artifact import (
    bundle_manifest,
    image_config,
    model_config,
    receipt_layer,
)
from bundler.transfer.attach import attach, list_attachments
from bundler.transfer.pieces import cut_into_pieces, hash_piece
from bundler.transfer.put import put_bundle
from bundler.trust.paths import signature_path
from bundler.trust.signature_file import read_signature


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A bundle that is at an address.

    Attributes:
        address: Where, with the digest of its manifest.
        name: The bundle's name.
        digest: The bundle's digest.
        manifest_digest: That of its manifest; None where it is in no registry.
        size_bytes: Its length.
        sent_bytes: How much of it was sent now; the registry had the rest.
        attached: Artifact types of what is attached to it.
    """

    address: str
    name: str
    digest: str
    manifest_digest: str | None
    size_bytes: int
    sent_bytes: int
    attached: tuple[str, ...]


def push(
    place: Path | Sequence[Path],
    address: Address,
    notes: Path | None = None,
    *,
    image: bool = False,
    signature: Path | None = None,
    mount_from: str | None = None,
    piece_bytes: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Pushed:
    """Send a bundle to a registry, or to another address (`bundler.transfer.put`).

    Args:
        place: The bundle: a file or volumes.
        address: Where it goes; in a registry a repository and a tag.
        notes: A folder for notes of what was begun, for the next run of one that was killed; default in the store.
        image: Make an image of it, which is mounted; else a model artifact. The bundle's codec must be `zstd`.
        signature: Its signature; default the one beside it, where there is one.
        mount_from: Another repository of the registry that may have it.
        piece_bytes: Cut it into blobs that are no longer, elsewhere than in a registry into volumes, so that a push
            that was killed goes on behind the last whole one where what broke off is forgotten; default one blob.
        on_total: Called once with the number of bytes that `progress` will add up to.
        progress: Called with the number of bytes that are hashed here, or there, since the last call.
        on_note: Told what a person should know of and is no error.

    Raises:
        UsageError: The address is of no registry or names a digest, or the codec is not one that an image has.
        FormatError: It is no bundle.
        TrustError: The signature is malformed, or of another bundle: nothing is sent.
        NetworkError: The registry cannot be reached; what it has is not sent again.
        RemoteError: It refused.
    """
    if address.scheme not in REGISTRY_SCHEMES:
        if image or mount_from:
            raise UsageError(
                f"{address}: expected the address of a registry, oci://REGISTRY/NAME:TAG, for an image"
            )
        return _put(place, address, signature, piece_bytes, on_total, progress)
    if image and piece_bytes:
        raise UsageError("an image has the bundle as one layer, which cannot be cut into pieces")
    registry = Registry(address, "push")
    try:
        if registry.reference.digest:
            raise UsageError(f"{address}: expected an address without a digest: that follows from what is pushed")
        with BundleReader(place) as reader:
            return _Push(
                registry, Uploader(registry, notes or upload_notes(), progress), reader, image, on_note
            ).run(place, signature, mount_from, piece_bytes, on_total, progress)
    finally:
        registry.close()


def upload_notes() -> Path:
    """Return the folder for notes of uploads, in the folder of the store."""
    return Store.default_root() / "uploads"


def _put(
    place: Path | Sequence[Path],
    address: Address,
    given: Path | None,
    piece_bytes: int | None,
    on_total: Callable[[int], None],
    progress: Callable[[int], None],
) -> Pushed:
    with BundleReader(place) as reader, closing(open_stored(place)) as stored:
        on_total(reader.size_bytes)
        signature = _find_signature(place, given, reader.digest)
        sent = put_bundle(stored, reader, address, signature, piece_bytes=piece_bytes, progress=progress)
        return Pushed(
            address=str(address),
            name=reader.name,
            digest=reader.digest,
            manifest_digest=None,
            size_bytes=reader.size_bytes,
            sent_bytes=sent,
            attached=(SIGNATURE,) if signature else (),
        )


def _find_signature(place: Path | Sequence[Path], given: Path | None, digest: str) -> Path | None:
    """Return the signature that goes along: one that is malformed, or of another bundle, does not."""
    path = given or signature_path(place)
    if given is None and not path.exists():
        return None
    statement = read_signature(path).statement
    if (signed := statement.delta_digest or statement.digest) != digest:
        raise TrustError(
            f"{path} signs another bundle, {signed}, and this one is {digest}: nobody could install it from there",
            hint="sign it again with `bundle sign`, or move the signature away",
        )
    return path


class _Push:
    def __init__(
        self,
        registry: Registry,
        uploader: Uploader,
        reader: BundleReader,
        image: bool,
        on_note: Callable[[str], None],
    ) -> None:
        self._registry, self._uploader, self._reader, self._on_note = registry, uploader, reader, on_note
        self._is_image = image
        self._is_tar = all(find_codec(chunk.codec).name == "zstd" for chunk in reader.index.chunks)
        if image and not self._is_tar:
            raise UsageError(
                f"{reader.label}: an image has layers that tar and zstd unpack, and this bundle has byte planes",
                hint="make it with `bundle fetch --codec zstd`; or push it without --image",
            )
        if image and reader.omitted is not None:
            raise UsageError(f"{reader.label}: is a delta, which an image of its own cannot be")

    def run(
        self,
        place: Path | Sequence[Path],
        signature: Path | None,
        mount_from: str | None,
        piece_bytes: int | None,
        on_total: Callable[[int], None],
        progress: Callable[[int], None],
    ) -> Pushed:
        reader, uploader = self._reader, self._uploader
        attachments = list_attachments(
            reader.lock, reader.digest, _find_signature(place, signature, reader.digest), self._on_note
        )
        # Read here once, to know its digest, and there once.
        on_total(2 * reader.size_bytes)
        stored = open_stored(place)
        try:
            pieces = cut_into_pieces(stored, piece_bytes)
            blobs = []
            sent = 0
            # Piece by piece: what was sent before a kill is hashed again, and no more than that.
            for piece in pieces:
                digest = f"sha256:{hash_piece(piece, 'sha256', progress).sha256}"
                blobs.append((digest, piece.size_bytes))
                sent += uploader.put_large(piece, digest, mount_from)
        finally:
            stored.close()
        manifest = self._make_manifest(blobs)
        subject = Descriptor(MANIFEST, f"sha256:{sha256_bytes(manifest)}", len(manifest))
        for attachment in attachments:
            attach(uploader, self._registry, attachment, subject)
        reference = self._registry.reference
        uploader.put_manifest(manifest, MANIFEST, reference.wanted)
        return Pushed(
            address=f"{self._registry.label}@{subject.digest}",
            name=reader.name,
            digest=reader.digest,
            manifest_digest=subject.digest,
            size_bytes=reader.size_bytes,
            sent_bytes=sent,
            attached=tuple(attachment.kind for attachment in attachments),
        )

    def _make_manifest(self, blobs: Sequence[tuple[str, int]]) -> bytes:
        """Return the manifest.

        Args:
            blobs: Digest and length of the bundle, or of each of its pieces.
        """
        reader = self._reader
        marks = {BUNDLE_DIGEST: reader.digest}
        digest, size_bytes = blobs[0]
        if self._is_image:
            receipt, receipt_id = receipt_layer(reader.lock, reader.digest)
            config = self._uploader.put_small(image_config([self._hash_tar(), receipt_id]), IMAGE_CONFIG)
            layers = [
                Descriptor(IMAGE_LAYER, digest, size_bytes, annotations=marks),
                self._uploader.put_small(receipt, IMAGE_LAYER),
            ]
        elif len(blobs) > 1:
            config = self._uploader.put_small(
                model_config(reader.lock, [digest for digest, _ in blobs]), MODEL_CONFIG
            )
            layers = [
                Descriptor(
                    MODEL_RAW,
                    digest,
                    size_bytes,
                    annotations={
                        BUNDLE_PIECE: f"{number}/{len(blobs)}",
                        MODEL_FILE_PATH: f"{reader.name}.tar.zst.part-{number:03}",
                    },
                )
                for number, (digest, size_bytes) in enumerate(blobs, 1)
            ]
        else:
            diff_id = self._hash_tar() if self._is_tar else digest
            config = self._uploader.put_small(model_config(reader.lock, [diff_id]), MODEL_CONFIG)
            kind = MODEL_TAR if self._is_tar else MODEL_RAW
            path = f"{reader.name}.tar" if self._is_tar else f"{reader.name}.tar.zst"
            layers = [Descriptor(kind, digest, size_bytes, annotations={**marks, MODEL_FILE_PATH: path})]
        return bundle_manifest(reader.name, reader.digest, config, layers)

    def _hash_tar(self) -> str:
        """Return the digest of what tar and zstd tools unpack the bundle to."""
        hasher = Hasher(("sha256",), size_bytes=self._reader.index.tar_bytes)
        reader = self._reader
        for _, raw in reader.chunks(range(len(reader.index.chunks)), jobs=2):
            hasher.update(raw)
        return f"sha256:{hasher.result().sha256}"
