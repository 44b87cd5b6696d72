"""Write to one repository of a registry: blobs that go on after a broken connection or a kill, and manifests.

Source: OCI distribution specification 1.1, "Pushing blobs".

Rule book:

* what is there already is not sent (HEAD), and what another repository of the registry has is mounted from there;
* a blob is sent straight from where it is, in one request as long as nothing breaks. After a break the registry is
  asked how much it has, and the rest is sent; a process that starts again finds the session in a note. A registry that
  has forgotten it is sent the blob again;
* the registry compares the whole blob with its digest before it shows it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from bundler.errors import RemoteError
from bundler.files.atomic import atomic_write
from bundler.files.digest import sha256_bytes
from bundler.remote.http.answer import BROKEN, Answer
from bundler.remote.http.client import explain_broken, find_target, origin_of
from bundler.remote.http.login import Login
from bundler.remote.http.patience import LaterError, Patience, raise_refusal
from bundler.remote.oci.manifest import Descriptor
from bundler.remote.oci.registry import Registry

_BLOCK_BYTES = 1 << 20
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
# What registries answer for a session that they do not know any more, or whose offset they dispute.
_FORGOTTEN = (400, 404, 410, 416)


class Readable(Protocol):
    """Bytes that can be read anywhere (`bundler.format.storage.stored.Stored`)."""

    size_bytes: int

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start`."""


class Uploader:
    """Sends blobs and manifests to one repository.

    Args:
        registry: The repository, opened to push.
        notes: A folder for notes of sessions, which hold a secret of the session; made when missing.
        progress: Called with the number of bytes that the registry has since the last call; negative when it has
            forgotten some.
    """

    def __init__(
        self, registry: Registry, notes: Path, progress: Callable[[int], None] = lambda count: None
    ) -> None:
        self._registry, self._notes = registry, notes
        self._progress = progress

    def has_blob(self, digest: str) -> bool:
        """Tell whether the repository has a blob."""
        registry = self._registry
        url = f"{registry.reference.url}/blobs/{digest}"
        patience = Patience()
        while True:
            try:
                with registry.client.send("HEAD", url, login=registry.login) as answer:
                    if answer.status != 404:
                        raise_refusal(answer, registry.label)
                    return answer.status == 200
            except BROKEN as error:
                patience.wait(error, 0, url)

    def put_small(self, content: bytes, media_type: str) -> Descriptor:
        """Send a small blob, unless it is there."""
        blob = Descriptor(media_type, f"sha256:{sha256_bytes(content)}", len(content))
        patience = Patience()
        while not self.has_blob(blob.digest):
            try:
                location = self._begin(blob.digest, None)
                if location is not None:
                    self._finish(location, blob.digest, content)
                break
            except BROKEN as error:
                patience.wait(error, 0, self._registry.reference.url)
        return blob

    def put_large(self, source: Readable, digest: str, mount_from: str | None = None) -> int:
        """Send a large blob from where it is.

        Args:
            source: The bytes.
            digest: Their digest.
            mount_from: Another repository of the registry that may have it.

        Returns:
            How many bytes were sent, those among them that were lost on the way; 0 where the registry had it.
        """
        if self.has_blob(digest):
            self._progress(source.size_bytes)
            return 0
        note = self._notes / f"{sha256_bytes(f'{self._registry.reference.url} {digest}'.encode())}.json"
        location, offset = self._find_session(note)
        if location is None:
            location = self._begin(digest, mount_from)
        if location is None:
            self._progress(source.size_bytes)
            return 0
        self._progress(offset)
        return self._send(source, digest, note, location, offset)

    def put_stream(self, first: bytes, rest: Iterator[bytes]) -> Callable[[str], None]:
        """Send a blob whose length and digest nobody knows yet, in one request.

        Returns:
            What ends it, given its digest.

        Raises:
            NetworkError: The connection broke: there is nothing to go on from.
            RemoteError: The registry refused.
        """
        registry = self._registry
        location = self._begin("", None)
        assert location is not None, "nothing is mounted that has no digest"
        login = self._login_for(location)
        try:
            registry.client.send("GET", location, login=login, follow=False).close()
            # Without a length the standard library sends chunks (RFC 9112, section 7.1).
            headers = {"Content-Type": "application/octet-stream"}
            content = itertools.chain([first], rest)
            with registry.client.send(
                "PATCH", location, headers, content=content, login=login, follow=False
            ) as answer:
                raise_refusal(answer, registry.label)
                following = self._location(location, answer.header("Location") or location)
        except LaterError as error:
            raise error.refusal from error
        except BROKEN as error:
            raise explain_broken(error, registry.reference.url) from error

        def finish(digest: str) -> None:
            try:
                self._finish(following, digest, None)
            except LaterError as error:
                raise error.refusal from error
            except BROKEN as error:
                if not self.has_blob(digest):
                    raise explain_broken(error, registry.reference.url) from error

        return finish

    def put_manifest(self, content: bytes, media_type: str, wanted: str) -> tuple[str, bool]:
        """Send a manifest under a tag or its digest.

        Returns:
            Its digest, and whether the registry says that it lists it as a referrer (`OCI-Subject`).
        """
        registry = self._registry
        digest = f"sha256:{sha256_bytes(content)}"

        def take(answer: Answer) -> bool:
            raise_refusal(answer, registry.label)
            return bool(answer.header("OCI-Subject"))

        url = f"{registry.reference.url}/manifests/{wanted}"
        return digest, registry.ask("PUT", url, {"Content-Type": media_type}, take, content=content)

    def _begin(self, digest: str, mount_from: str | None) -> str | None:
        """Begin to send a blob; return where to, or None where the registry has it now."""
        registry = self._registry
        url = f"{registry.reference.url}/blobs/uploads/"
        if mount_from:
            registry.login.also_read(mount_from)
            url += "?" + urlencode({"mount": digest, "from": mount_from})
        patience = Patience()
        while True:
            try:
                headers = {"Content-Length": "0"}
                with registry.client.send("POST", url, headers, content=b"", login=registry.login) as answer:
                    raise_refusal(answer, registry.label)
                    if answer.status == 201:
                        return None
                    return self._location(url, answer.header("Location"))
            except BROKEN as error:
                patience.wait(error, 0, url)

    def _location(self, url: str, location: str) -> str:
        if not location:
            raise RemoteError(f"{self._registry.label}: the registry does not say where a blob is to be sent")
        try:
            return find_target(url, location)
        except RemoteError as error:
            if location.startswith("http://"):
                error.hint = (
                    "a proxy in front of the registry may hide that it is asked by https (X-Forwarded-Proto)"
                )
            raise

    def _find_session(self, note: Path) -> tuple[str | None, int]:
        """Return where an earlier process sent the blob to, and how much of it is there."""
        try:
            location = self._location(self._registry.reference.url, json.loads(note.read_bytes())["location"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RemoteError):
            return None, 0
        return self._ask_session(location, Patience(), 0)

    def _ask_session(self, location: str, patience: Patience, have: int) -> tuple[str | None, int]:
        """Return where a blob is to be sent to, and how much of it is there; nowhere where the session is forgotten."""
        while True:
            try:
                return self._ask_once(location)
            except BROKEN as error:
                patience.wait(error, have, self._registry.reference.url)

    def _ask_once(self, location: str) -> tuple[str | None, int]:
        registry = self._registry
        with registry.client.send("GET", location, login=self._login_for(location), follow=False) as answer:
            if answer.status in _FORGOTTEN:
                return None, 0
            raise_refusal(answer, registry.label)
            told = _RANGE.fullmatch(answer.header("Range"))
            last = int(told[1]) if told else 0
            following = answer.header("Location")
            # "0-0" is said of none, too.
            return self._location(location, following or location), last + 1 if last else 0

    def _send(self, source: Readable, digest: str, note: Path, location: str, offset: int) -> int:
        registry = self._registry
        patience, total = Patience(), 0
        while True:
            self._remember(note, location)
            sent = _Sent(source, offset, self._progress)
            try:
                location = self._send_rest(location, sent)
                self._finish(location, digest, None)
                with contextlib.suppress(FileNotFoundError):
                    note.unlink()
                return total + sent.count
            except BROKEN as error:
                broken: Exception = error
            except RemoteError as error:
                if error.status not in _FORGOTTEN:
                    raise
                broken = LaterError(error, 0.0)
            have = offset + sent.count
            patience.wait(broken, have, registry.reference.url)
            found, offset = self._ask_session(location, patience, have)
            total += sent.count
            self._progress(offset - sent.position)
            if found is None:
                # The answer to the last request may have been lost, and all be well.
                found = None if self.has_blob(digest) else self._begin(digest, None)
                if found is None:
                    self._progress(source.size_bytes - offset)
                    return total
            location = found

    def _send_rest(self, location: str, sent: _Sent) -> str:
        registry = self._registry
        if not sent.left_bytes:
            return location
        first, last = sent.position, sent.position + sent.left_bytes - 1
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(sent.left_bytes),
            "Content-Range": f"{first}-{last}",
        }
        # A login that is refused after the body was sent cannot be shown again: have it asked for now.
        login = self._login_for(location)
        registry.client.send("GET", location, login=login, follow=False).close()
        with registry.client.send("PATCH", location, headers, content=sent, login=login, follow=False) as answer:
            raise_refusal(answer, registry.label)
            return self._location(location, answer.header("Location") or location)

    def _finish(self, location: str, digest: str, content: bytes | None) -> None:
        registry = self._registry
        mark = "&" if "?" in location else "?"
        url = f"{location}{mark}{urlencode({'digest': digest})}"
        body = content or b""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        with registry.client.send("PUT", url, headers, content=body, login=self._login_for(url)) as answer:
            raise_refusal(answer, registry.label)

    def _login_for(self, url: str) -> Login | None:
        """Return whom to ask as: nobody, where a registry has a blob sent to another server."""
        registry = self._registry
        return registry.login if origin_of(url) == origin_of(registry.reference.url) else None

    def _remember(self, note: Path, location: str) -> None:
        # Where no note can be kept, a push that is killed begins anew.
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(note, json.dumps({"location": location}).encode(), mode=0o600, sync=False)


class _Sent:
    """What is left of a blob, as the pieces of a request."""

    def __init__(self, source: Readable, start: int, progress: Callable[[int], None]) -> None:
        self._source, self._progress = source, progress
        self.position = start
        self.count = 0

    @property
    def left_bytes(self) -> int:
        return self._source.size_bytes - self.position

    def __iter__(self) -> Iterator[memoryview]:
        room = memoryview(bytearray(_BLOCK_BYTES))
        while self.left_bytes:
            block = room[: self.left_bytes]
            self._source.read_into(self.position, block)
            yield block
            self.position += len(block)
            self.count += len(block)
            self._progress(len(block))
