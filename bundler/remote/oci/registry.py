"""Read from one repository of a registry: manifests, small blobs, what refers to a manifest, and blobs by ranges.

Rule book:

* what is named by a digest is compared with it before anything reads it. A blob that is read by ranges cannot be: of
  such a bundle each chunk is checked, and its digest against the one in the manifest;
* registries without the referrers API have a tag for each manifest that is referred to (OCI distribution specification
  1.1, "Referrers Tag Schema").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bundler.errors import ChangedError, FormatError, RemoteError
from bundler.files.digest import sha256_bytes
from bundler.remote.address import Address
from bundler.remote.http.answer import BROKEN, Answer
from bundler.remote.http.client import Client
from bundler.remote.http.object import HttpObject
from bundler.remote.http.patience import LaterError, Patience, raise_refusal
from bundler.remote.oci.login import Action, RegistryLogin
from bundler.remote.oci.manifest import MOST_BYTES, Descriptor, Manifest
from bundler.remote.oci.reference import Reference
from bundler.remote.oci.types import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST

_ACCEPTED = ", ".join([MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX])
_Result = TypeVar("_Result")


class Registry:
    """One repository of a registry.

    Args:
        address: The address of something in it.
        action: What is to be done there.

    Attributes:
        reference: What the address names.
        label: The address, for messages.
        client: Sends the requests.
        login: Whom to ask as.
    """

    def __init__(self, address: Address, action: Action = "pull") -> None:
        self.reference = Reference.parse(address)
        self.label = str(address)
        self.client = Client()
        self.login = RegistryLogin(self.client, self.reference, action)

    def read_manifest(self, wanted: str | None = None) -> Manifest:
        """Read a manifest, and compare it with the digest that it is named by.

        Args:
            wanted: A tag or a digest; default those of the address.

        Raises:
            RemoteError: There is none, or it may not be read.
            ChangedError: It is another one than its digest names.
            FormatError: It is malformed.
        """
        wanted = wanted or self.reference.wanted
        content = self.read(
            f"{self.reference.url}/manifests/{wanted}", {"Accept": _ACCEPTED}, most_bytes=MOST_BYTES
        )
        digest = f"sha256:{sha256_bytes(content)}"
        if wanted.startswith("sha256:") and digest != wanted:
            raise ChangedError(f"{self.label}: expected manifest {wanted}, the registry sent {digest}")
        return Manifest.parse(content, digest, self.label)

    def find_manifest(self) -> Manifest:
        """Read the manifest of the address; of an index with one manifest, that.

        Raises:
            FormatError: It is an index of several, or malformed.
        """
        manifest = self.read_manifest()
        if "layers" not in manifest.value and "manifests" in manifest.value:
            listed = manifest.list_descriptors("manifests", self.label)
            if len(listed) != 1:
                raise FormatError(
                    f"{self.label}: expected one manifest, found an index of {len(listed)}",
                    hint="name one of them by its digest: NAME@sha256:…",
                )
            manifest = self.read_manifest(listed[0].digest)
        return manifest

    def open_blob(self, blob: Descriptor) -> HttpObject:
        """Open a blob to read it by ranges; it takes over the connections."""
        url = f"{self.reference.url}/blobs/{blob.digest}"
        found = HttpObject(self.client, url, self.label, login=self.login, is_immutable=True)
        if found.size_bytes is not None and found.size_bytes != blob.size_bytes:
            raise ChangedError(
                f"{self.label}: expected {blob.size_bytes:,} bytes by its manifest, the registry has "
                f"{found.size_bytes:,}"
            )
        return found

    def read_blob(self, blob: Descriptor, *, most_bytes: int) -> bytes:
        """Read a small blob, and compare it with its digest.

        Raises:
            ChangedError: It is another one.
            RemoteError: It is longer than `most_bytes`, or may not be read.
        """
        if blob.size_bytes > most_bytes:
            raise RemoteError(f"{self.label}: expected at most {most_bytes:,} bytes, found {blob.size_bytes:,}")
        content = self.read(f"{self.reference.url}/blobs/{blob.digest}", {}, most_bytes=most_bytes)
        if f"sha256:{sha256_bytes(content)}" != blob.digest:
            raise ChangedError(f"{self.label}: blob {blob.digest} is another one in the registry")
        return content

    def list_referrers(self, digest: str, artifact_type: str) -> list[Descriptor]:
        """Return the manifests of a type that refer to a manifest, in the registry's order.

        Raises:
            RemoteError: It cannot be told: the registry refused.
        """
        found = self.read_referrers(digest)
        listed = found.list_descriptors("manifests", self.label) if found else []
        return [one for one in listed if one.artifact_type == artifact_type]

    def read_referrers(self, digest: str) -> Manifest | None:
        """Return the index of what refers to a manifest; None where there is none."""
        try:
            content = self.read(
                f"{self.reference.url}/referrers/{digest}", {"Accept": INDEX}, most_bytes=MOST_BYTES
            )
        except RemoteError as error:
            if error.status not in (400, 404, 405):
                raise
            return self.read_referrers_tag(digest)
        return Manifest.parse(content, f"sha256:{sha256_bytes(content)}", self.label)

    def read_referrers_tag(self, digest: str) -> Manifest | None:
        """Return the index under the tag that stands for the referrers API; None where there is none."""
        try:
            return self.read_manifest(referrers_tag(digest))
        except RemoteError as error:
            if error.status == 404:
                return None
            raise

    def read(self, url: str, headers: dict[str, str], *, most_bytes: int) -> bytes:
        """Read a short answer.

        Raises:
            RemoteError: The registry refused, or it is longer than `most_bytes`.
            NetworkError: It cannot be reached.
        """

        def read(answer: Answer) -> bytes:
            raise_refusal(answer, self.label)
            return answer.read(most_bytes)

        return self.ask("GET", url, headers, read)

    def ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        take: Callable[[Answer], _Result],
        *,
        content: bytes | None = None,
    ) -> _Result:
        """Send a request as often as it breaks, and return what `take` makes of the answer.

        Raises:
            RemoteError: The registry refused.
            NetworkError: It cannot be reached.
        """
        patience = Patience()
        while True:
            try:
                with self.client.send(method, url, headers, content=content, login=self.login) as answer:
                    return take(answer)
            except (*BROKEN, LaterError) as error:
                patience.wait(error, 0, url)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()


def referrers_tag(digest: str) -> str:
    """Return the tag that stands for the referrers API in a registry without it."""
    return digest.replace(":", "-")
