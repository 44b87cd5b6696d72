"""What an ``oci://`` address names: a registry, a repository in it, a tag, a digest.

The forms of the parts: OCI distribution specification 1.1, "Pulling manifests".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bundler.errors import UsageError
from bundler.plan.file_rules import is_loopback
from bundler.remote.address import Address

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Docker's own registry has another name than its repositories.
_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class Reference:
    """A manifest in a registry.

    Attributes:
        host: The registry as it is written, with its port.
        is_plain: Whether it is asked by http.
        name: The repository.
        tag: The tag; None where only a digest is given.
        digest: The digest that the manifest must have; None for whatever the tag names.
    """

    host: str
    is_plain: bool
    name: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, address: Address) -> Reference:
        """Read an address.

        Raises:
            UsageError: It has not the form of a reference.
        """
        parts = address.parts
        rest, at, digest = parts.path.lstrip("/").partition("@")
        name, colon, tag = rest.partition(":")
        fault = None
        if parts.username is not None:
            fault = "a user in it: logins are those of `docker login` or `podman login`"
        elif parts.query or parts.fragment:
            fault = "a query in it"
        elif not _NAME.fullmatch(name):
            fault = f"the repository {name[:80]!r}: lower-case letters and digits, with . _ - / between them"
        elif colon and not _TAG.fullmatch(tag):
            fault = f"the tag {tag[:80]!r}"
        elif at and not _DIGEST.fullmatch(digest):
            fault = f"the digest {digest[:80]!r}, not sha256: and 64 hex digits"
        if fault:
            raise UsageError(f"{address}: expected {parts.scheme}://REGISTRY/NAME:TAG[@sha256:…], found {fault}")
        # As docker does: what goes to this machine is on no way on which it could be read.
        is_plain = parts.scheme == "oci+http" or is_loopback(parts.hostname or "")
        return cls(parts.netloc, is_plain, name, tag or (None if digest else "latest"), digest or None)

    @property
    def url(self) -> str:
        """The registry's part of all addresses of this repository."""
        scheme = "http" if self.is_plain else "https"
        return f"{scheme}://{_HOSTS.get(self.host, self.host)}/v2/{self.name}"

    @property
    def wanted(self) -> str:
        """What to ask for: the digest where there is one."""
        return self.digest or self.tag or "latest"

    @property
    def file_name(self) -> str:
        """What a file of it would be called."""
        return f"{self.name.rpartition('/')[2]}.tar.zst"
