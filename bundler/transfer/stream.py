"""Send a bundle to a registry while it is being made: through a pipe, so that it is stored nowhere here.

Rule book:

* that it may be pushed is found out before the work begins, by a small blob that every artifact has;
* the upload begins with the first byte of the bundle, since hours may pass before that;
* of what is not finished nothing is to be seen in the registry: the tag comes last. It cannot be gone on with: only its
  end says what the digest is that an upload is known by. What was downloaded for it is in the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from bundler.errors import OutputError, UsageError
from bundler.files.digest import Hasher, sha256_bytes
from bundler.format.storage.destinations import PipeDestination
from bundler.plan.lock import Lock
from bundler.remote.address import REGISTRY_SCHEMES, Address
from bundler.remote.oci.manifest import Descriptor
from bundler.remote.oci.registry import Registry
from bundler.remote.oci.types import BUNDLE_DIGEST, EMPTY, MANIFEST, MODEL_CONFIG, MODEL_FILE_PATH, MODEL_RAW
from bundler.remote.oci.upload import Uploader
from bundler.transfer.artifact import EMPTY_CONTENT, bundle_manifest, model_config
from bundler.transfer.attach import attach, list_attachments

_BLOCK_BYTES = 1 << 20
_STOP_SECONDS = 1.0


class _GivenUpError(Exception):
    """The bundle will not be finished."""


class _Upload(PipeDestination):
    """A pipe that is read as soon as it is written to, and not before: a proof forks, which no thread should see."""

    def __init__(self, descriptor: int, begin: Callable[[], None]) -> None:
        super().__init__(descriptor)
        self._begin = begin

    @contextlib.contextmanager
    def open(self) -> Iterator[PipeDestination]:
        """Begin the upload, and write to it (see `Destination`)."""
        self._begin()
        with super().open() as sink:
            yield sink


class StreamedPush:
    """A bundle on its way to a registry; a context manager that gives it up unless `finish` was called.

    Args:
        address: Where it goes.
        notes: See `bundler.transfer.push.push`.

    Attributes:
        destination: Where to write the bundle to.

    Raises:
        UsageError: It is no address of a registry, or has a digest.
        RemoteError: The registry does not let it be pushed.
        NetworkError: It cannot be reached.
    """

    def __init__(self, address: Address, notes: Path) -> None:
        if address.scheme not in REGISTRY_SCHEMES:
            raise UsageError(
                f"{address}: expected the address of a registry, oci://REGISTRY/NAME:TAG",
                hint="for another address fetch into a file, and `bundle push` that",
            )
        self._registry = Registry(address, "push")
        if self._registry.reference.digest:
            raise UsageError(f"{address}: expected an address without a digest: that follows from what is pushed")
        self._uploader = Uploader(self._registry, notes)
        self._uploader.put_small(EMPTY_CONTENT, EMPTY)
        self._hasher = Hasher(("sha256",), size_bytes=0)
        self._size_bytes = 0
        self._error: BaseException | None = None
        self._is_given_up = False
        self._sent: Callable[[str], None] | None = None
        self._reading, self._writing = os.pipe()
        # Not on a Mac, and not where a user has many; a small one is slower, and no less right.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, _BLOCK_BYTES)
        self._thread: threading.Thread | None = None
        self.destination: PipeDestination = _Upload(self._writing, self._begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_given_up = True
        self._end_writing()
        self._registry.close()
        if isinstance(error, OutputError) and self._error is not None:
            # Why nobody read on.
            raise self._error from error

    def finish(
        self, lock: Lock, digest: str, signature: Path | None, on_note: Callable[[str], None]
    ) -> tuple[str, tuple[str, ...]]:
        """Show the bundle under its tag, with what is attached to it.

        Args:
            lock: Its lock.
            digest: Its digest.
            signature: Its signature, if it has one.
            on_note: Told what a person should know of and is no error.

        Returns:
            The address with the digest of the manifest, and the types of what is attached.

        Raises:
            RemoteError: The registry refused.
            NetworkError: It cannot be reached, or the connection broke: all of it has to be sent again.
        """
        self._end_writing()
        if self._error is not None:
            raise self._error
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

    def _end_writing(self) -> None:
        if self._writing < 0:
            return
        os.close(self._writing)
        self._writing = -1
        if self._thread is None:
            os.close(self._reading)
        else:
            # Who has given up does not wait for a server that may have stopped reading.
            self._thread.join(_STOP_SECONDS if self._is_given_up else None)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._send, name="push", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        try:
            blocks = self._read()
            first = next(blocks, None)
            if first is not None:
                self._sent = self._uploader.put_stream(first, blocks)
        except _GivenUpError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            # Who writes learns of it.
            os.close(self._reading)

    def _read(self) -> Iterator[bytes]:
        while block := os.read(self._reading, _BLOCK_BYTES):
            self._hasher.update(memoryview(block))
            self._size_bytes += len(block)
            yield block
        if self._is_given_up:
            raise _GivenUpError
