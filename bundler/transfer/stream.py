"""Send a bundle to a registry or an object store while it is being made: it is stored nowhere here.

Rule book:

* that it may be sent is found out before the work begins, in a registry by a small blob that every artifact has. A
  store is asked for what is there: a login that is refused is known then, a bucket that is missing or may only be read
  is not;
* of what is not finished nothing is to be seen: the tag comes last, and an object is there when all of it is. It cannot
  be gone on with: only its end says what the digest is that an upload is known by. What was downloaded for it is in the
  store of downloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bundler.errors import RemoteError, UsageError
from bundler.files.digest import Hasher, sha256_bytes
from bundler.format.storage.destinations import PipeDestination
from bundler.plan.lock import Lock
from bundler.remote.address import REGISTRY_SCHEMES, STORE_SCHEMES, Address
from bundler.remote.oci.manifest import Descriptor
from bundler.remote.oci.registry import Registry
from bundler.remote.oci.types import (
    BUNDLE_DIGEST,
    EMPTY,
    MANIFEST,
    MODEL_CONFIG,
    MODEL_FILE_PATH,
    MODEL_RAW,
    SIGNATURE,
)
from bundler.remote.oci.upload import Uploader
from bundler.remote.opening import NOT_THERE, open_remote
from bundler.transfer.artifact import EMPTY_CONTENT, bundle_manifest, model_config
from bundler.transfer.attach import attach, list_attachments
from bundler.transfer.piped import PipedUpload
from bundler.transfer.put import SIGNATURE_SUFFIX


class Streamed(Protocol):
    """A bundle on its way to an address; a context manager that gives it up unless `finish` was called.

    Attributes:
        destination: Where to write the bundle to.
    """

    destination: PipeDestination

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what is not finished."""

    def finish(
        self, lock: Lock, digest: str, signature: Path | None, on_note: Callable[[str], None]
    ) -> tuple[str, tuple[str, ...]]:
        """Show the bundle at its address, with what goes along.

        Args:
            lock: Its lock.
            digest: Its digest.
            signature: Its signature, if it has one.
            on_note: Told what a person should know of and is no error.

        Returns:
            The address, in a registry with the digest of the manifest, and the types of what goes along.

        Raises:
            RemoteError: The server refused.
            NetworkError: It cannot be reached, or the connection broke: all of it has to be sent again.
        """


def stream_to(address: Address, notes: Path) -> Streamed:
    """Return where to write a bundle that goes to an address.

    Args:
        address: A registry's, without a digest; or an object store's.
        notes: As `bundler.transfer.push.push` takes it.

    Raises:
        UsageError: It is another address.
        DependencyError: A package is missing; the message names the extra.
        RemoteError: The server does not let it be sent.
        NetworkError: It cannot be reached.
    """
    if address.scheme in REGISTRY_SCHEMES:
        return StreamedPush(address, notes)
    if address.scheme in STORE_SCHEMES:
        return StreamedObject(address)
    raise UsageError(
        f"{address}: expected the address of a registry or an object store",
        hint="a web server wants to know how long it will be: fetch into a file, and `bundle push` that",
    )


class StreamedPush(PipedUpload):
    """A bundle on its way to a registry (see `Streamed`).

    Args:
        address: Where it goes.
        notes: See `bundler.transfer.push.push`.

    Raises:
        UsageError: The address has a digest.
        RemoteError: The registry does not let it be pushed.
        NetworkError: It cannot be reached.
    """

    def __init__(self, address: Address, notes: Path) -> None:
        self._registry = Registry(address, "push")
        if self._registry.reference.digest:
            raise UsageError(f"{address}: expected an address without a digest: that follows from what is pushed")
        self._uploader = Uploader(self._registry, notes)
        self._uploader.put_small(EMPTY_CONTENT, EMPTY)
        self._hasher = Hasher(("sha256",), size_bytes=0)
        self._size_bytes = 0
        self._sent: Callable[[str], None] | None = None
        super().__init__(self._put)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._registry.close()

    def finish(
        self, lock: Lock, digest: str, signature: Path | None, on_note: Callable[[str], None]
    ) -> tuple[str, tuple[str, ...]]:
        """Show the bundle under its tag, with what is attached to it (see `Streamed`)."""
        self.wait()
        assert self._sent is not None, "a bundle has bytes"
        blob = f"sha256:{self._hasher.result().sha256}"
        self._sent(blob)
        uploader, registry = self._uploader, self._registry
        config = uploader.put_small(model_config(lock, [blob]), MODEL_CONFIG)
        marks = {BUNDLE_DIGEST: digest, MODEL_FILE_PATH: f"{lock.name}.tar.zst"}
        layer = Descriptor(MODEL_RAW, blob, self._size_bytes, annotations=marks)
        manifest = bundle_manifest(lock.name, digest, config, [layer])
        subject = Descriptor(MANIFEST, f"sha256:{sha256_bytes(manifest)}", len(manifest))
        attachments = list_attachments(lock, digest, signature, on_note)
        for attachment in attachments:
            attach(uploader, registry, attachment, subject)
        uploader.put_manifest(manifest, MANIFEST, registry.reference.wanted)
        return f"{registry.label}@{subject.digest}", tuple(attachment.kind for attachment in attachments)

    def _put(self, blocks: Iterator[bytes]) -> None:
        counted = self._count(blocks)
        first = next(counted, None)
        if first is not None:
            self._sent = self._uploader.put_stream(first, counted)

    def _count(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._hasher.update(memoryview(block))
            self._size_bytes += len(block)
            yield block


class StreamedObject(PipedUpload):
    """A bundle on its way to an object store (see `Streamed`); an object of that name is replaced.

    Args:
        address: Where it goes.

    Raises:
        DependencyError: A package is missing; the message names the extra.
        RemoteError: The store does not let this login in.
        NetworkError: It cannot be reached.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        try:
            open_remote(address).close()
        except RemoteError as error:
            if error.status not in NOT_THERE:
                raise
        super().__init__(self._put)

    def finish(
        self, lock: Lock, digest: str, signature: Path | None, on_note: Callable[[str], None]
    ) -> tuple[str, tuple[str, ...]]:
        """Wait until the object is there, and put the signature beside it (see `Streamed`)."""
        from bundler.remote.store import put_object

        self.wait()
        if signature is None:
            return str(self._address), ()
        put_object(self._address.beside(SIGNATURE_SUFFIX), signature.read_bytes())
        return str(self._address), (SIGNATURE,)

    def _put(self, blocks: Iterator[bytes]) -> None:
        from bundler.remote.store import put_object

        put_object(self._address, blocks)
