"""Addresses, and that what is secret in them is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import UsageError
from bundler.remote.address import Address, parse_place


def test_what_has_no_scheme_is_a_path() -> None:
    assert parse_place("demo.tar.zst") == Path("demo.tar.zst")
    assert parse_place("/a:/b.tar.zst") == Path("/a:/b.tar.zst")


@pytest.mark.parametrize("text", ["https://user:secret@host/a/b.tar.zst?sig=secret", "oci://host/a/b:1@sha256:00"])
def test_no_text_form_shows_a_secret(text: str) -> None:
    address = parse_place(text)
    assert isinstance(address, Address)
    assert "secret" not in f"{address} {address!r} {address.name}"


@pytest.mark.parametrize(
    "text",
    ["ftp://host/a", "file:///a", "https://host", "https://host/", "https:///a", "https://host:x/a", "s3://a b/c"],
)
def test_what_is_no_address_of_a_known_kind_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)


def test_what_stands_beside_keeps_the_query() -> None:
    assert Address("https://host/a.zst?k=v").beside(".sig").url == "https://host/a.zst.sig?k=v"
