"""The address of a bundle that is not on this machine, and how it is shown.

Rule book:

* what has ``://`` is an address, and of a scheme that is listed here; all else is a path;
* an address may hold a password, or a signature in its query: neither is ever shown (`Address.shown`, which `str`
  gives), and it has no other text form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from bundler.errors import UsageError
from bundler.remote.url import to_ascii

WEB_SCHEMES = ("https", "http")
# `oci+http`: a registry without TLS. One on this machine needs none: there is no way on which it could be read.
REGISTRY_SCHEMES = ("oci", "oci+http")
STORE_SCHEMES = ("s3", "gs", "az")
_SCHEMES = (*WEB_SCHEMES, *REGISTRY_SCHEMES, *STORE_SCHEMES)
# Greedy up to the first "://": a path has one only where a folder's name ends with a colon.
_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Address:
    """Where an object is.

    Attributes:
        url: The address as it was written, with whatever secret it holds.
    """

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        if _is_password_cut(self.url):
            raise UsageError(
                f"{self.shown}: expected a password without / ? #",
                hint="write them %2F, %3F and %23, or leave the login to ~/.netrc",
            )
        try:
            parts = urlsplit(self.url)
            if parts.scheme in _SCHEMES and parts.netloc:
                to_ascii(self.url)
        except ValueError as error:
            # Of ours: the library's would hold what was read.
            said = str(error) if str(error).startswith("expected") else "expected a host"
            raise UsageError(f"{self.shown}: {said} in this address") from None
        if parts.scheme not in _SCHEMES:
            raise UsageError(
                f"{self.shown}: expected an address of {', '.join(f'{name}://' for name in _SCHEMES)}; found another",
                hint="a file is named by its path alone",
            )
        if not parts.hostname or not parts.path.strip("/"):
            raise UsageError(f"{self.shown}: expected a host and a path in this address")
        if re.search(r"[\x00-\x20\x7f]", self.url):
            raise UsageError(f"{self.shown}: expected no spaces and no control characters in an address")

    def __str__(self) -> str:
        return self.shown

    @property
    def parts(self) -> SplitResult:
        """The address, split."""
        return urlsplit(self.url)

    @property
    def scheme(self) -> str:
        """Its scheme, in lower case."""
        return self.parts.scheme

    @property
    def shown(self) -> str:
        """The address for messages: without user, password, query and fragment."""
        return show(self.url)

    @property
    def name(self) -> str:
        """The last part of its path: what a file of it would be called."""
        return unquote(self.parts.path.rstrip("/").rpartition("/")[2])

    def without(self, suffix: str) -> Address | None:
        """Return the address of what has the same name without `suffix`; None if it is not written so."""
        parts = self.parts
        head = parts.path.removesuffix(suffix)
        is_named = head != parts.path and not head.endswith("/")
        return Address(parts._replace(path=head).geturl()) if is_named else None

    def beside(self, suffix: str) -> Address:
        """Return the address of what has the same name and `suffix`; a query stays."""
        parts = self.parts
        return Address(parts._replace(path=parts.path + suffix).geturl())


# What names a bundle: a file, or an address.
Place = Path | Address


def is_address(text: str) -> bool:
    """Tell whether `text` is meant as an address."""
    return _START.match(text) is not None


def parse_place(text: str) -> Place:
    """Return the address or the path that `text` is.

    Raises:
        UsageError: It is an address, but of no kind that is known.
    """
    return Address(text) if is_address(text) else Path(text)


def show(url: str) -> str:
    """Return an address without user, password, query and fragment, cut to what a message can show."""
    scheme, mark, rest = url.partition("://")
    if _is_password_cut(url):
        rest = rest.rpartition("@")[2]
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    if ":" in authority:
        # It may be a password that a / has cut, and its host behind the @. A digest stands behind one, too.
        path = re.sub(r"(?s)^.*@(?!sha256:)", "…@", path)
    host = re.sub(r"(?s)^([^:\[\]]*):(?![0-9]*$).*", r"\1:…", authority.rpartition("@")[2])
    return re.sub(r"[\x00-\x1f\x7f]", "?", f"{scheme}{mark}{host}{slash}{path}")[:300]


def _is_password_cut(url: str) -> bool:
    """Tell whether a password has one of / ? # in it, at which parsers take the host to end: what is no port tells."""
    before, at, _ = url.partition("://")[2].rpartition("@")
    authority, *more = re.split(r"[/?#]", before, maxsplit=1)
    is_user = re.fullmatch(r"(?s)[^@\[]*:(?![0-9]*$)[^@]*", authority) is not None
    return bool(at and more) and is_user
