"""Objects of object stores, S3, Google's and Azure's, by the obstore package.

Logins are those of the environment and of the machine, as obstore finds them; a profile of AWS (AWS_PROFILE) takes
boto3 besides. Every range is asked for with the entity tag of the first look (`If-Match`). obstore itself tries again
what breaks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from bundler.errors import BundleError, ChangedError, DependencyError, NetworkError, RemoteError
from bundler.remote.address import Address
from bundler.remote.object import Take
from bundler.remote.waiting import watch

# Each range is in memory twice for a moment.
_BLOCK_BYTES = 4 << 20
PART_BYTES = 16 << 20
_CONNECTIONS = 4


class StoreObject:
    """One object of an object store (see `bundler.remote.object.RemoteObject`).

    Args:
        address: Where it is.

    Raises:
        DependencyError: obstore is not installed.
        RemoteError: There is no such object, or it may not be read.
        NetworkError: The store cannot be reached.
    """

    has_ranges = True

    def __init__(self, address: Address) -> None:
        self.label = str(address)
        self.content_digest: str | None = None
        self.bundle_digest: str | None = None
        self._obstore, self._store, self._path = _open_store(address)
        # obstore tries for minutes, and says nothing meanwhile.
        with _store_errors(self.label), watch(self.label):
            found = self._obstore.head(self._store, self._path)
        self.size_bytes: int | None = int(found["size"])
        self._etag: str | None = found.get("e_tag")

    @property
    def version(self) -> str | None:
        """Its entity tag (see `RemoteObject`)."""
        return self._etag

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` (see `RemoteObject`)."""
        if not target:
            return
        with _store_errors(self.label):
            options: dict[str, Any] = {"range": (start, start + len(target))}
            if self._etag:
                options["if_match"] = self._etag
            found = self._obstore.get(self._store, self._path, options=options)
            if found.meta["size"] != self.size_bytes:
                raise ChangedError(
                    f"{self.label}: it was replaced while it was read: it had {self.size_bytes:,} bytes, and has "
                    f"{found.meta['size']:,} now",
                    hint="run the same command again",
                )
            content = memoryview(found.bytes())
        if len(content) != len(target):
            raise NetworkError(
                f"{self.label}: expected {len(target):,} bytes from {start}, found {len(content):,}"
            )
        target[:] = content

    def read_blocks(self, start: int, stop: int, take: Take, halt: threading.Event) -> None:
        """Hand over the bytes from `start` to `stop` (see `RemoteObject`)."""
        room = memoryview(bytearray(min(_BLOCK_BYTES, stop - start)))
        while start < stop and not halt.is_set():
            block = room[: stop - start]
            self.read_into(start, block)
            take(block)
            start += len(block)

    def stream(self) -> _Body:
        """Open the object from its first byte on (see `RemoteObject`)."""
        return _Body(self)

    def close(self) -> None:
        """Do nothing: obstore keeps its own connections."""


class _Body:
    def __init__(self, source: StoreObject) -> None:
        self._source, self._position = source, 0

    def readinto(self, buffer: memoryview, /) -> int:
        left = (self._source.size_bytes or 0) - self._position
        part = buffer[: min(left, _BLOCK_BYTES)]
        self._source.read_into(self._position, part)
        self._position += len(part)
        return len(part)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def put_object(address: Address, blocks: Iterator[bytes] | bytes) -> None:
    """Write an object, in parts, each of which is sent while the next is read; it is seen when all of it is there.

    Raises:
        DependencyError: obstore is not installed.
        RemoteError: It may not be written.
        NetworkError: The store cannot be reached.
    """
    obstore, store, path = _open_store(address)
    with _store_errors(str(address)):
        if isinstance(blocks, bytes):
            obstore.put(store, path, blocks)
        else:
            obstore.put(
                store, path, blocks, chunk_size=PART_BYTES, max_concurrency=_CONNECTIONS, use_multipart=True
            )


def _open_store(address: Address) -> tuple[Any, Any, str]:
    try:
        import obstore
        from obstore.store import from_url
    except ImportError as error:
        raise DependencyError(
            f"{address}: addresses of object stores take the package obstore, which is not installed",
            hint="pip install 'obstore>=0.12', which is this project's extra `stores`",
        ) from error
    parts = address.parts
    options: dict[str, Any] = {}
    if address.scheme == "s3" and os.environ.get("AWS_PROFILE"):
        try:
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ImportError as error:
            raise DependencyError(
                "AWS_PROFILE is set, and profiles of AWS take the package boto3, which is not installed",
                hint="pip install boto3, or unset AWS_PROFILE and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ) from error
        options["credential_provider"] = Boto3CredentialProvider()
    with _store_errors(str(address)):
        store = from_url(f"{parts.scheme}://{parts.netloc}", **options)
    return obstore, store, parts.path.lstrip("/")


@contextmanager
def _store_errors(label: str) -> Iterator[None]:
    """Turn what obstore raises into errors that a person can act on; its own texts are pages long."""
    from obstore import exceptions

    try:
        yield
    except BundleError:
        raise
    except FileNotFoundError as error:
        raise RemoteError(f"{label}: there is no such object", hint="check the address", status=404) from error
    except exceptions.PreconditionError as error:
        raise ChangedError(
            f"{label}: it was replaced while it was read", hint="run the same command again"
        ) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise RemoteError(
            f"{label}: the store does not let this login in",
            hint="set the variables of your cloud, such as AWS_ACCESS_KEY_ID, or log in with its tool",
            status=403,
        ) from error
    except exceptions.BaseError as error:
        said = str(error).partition("\n")[0].partition("?")[0]
        raise NetworkError(
            f"{label}: {said[:200]}", hint="check endpoint, region and login of the store"
        ) from error
