"""Addresses, and that what is secret in them is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import UsageError
from bundler.remote.address import Address, parse_place, show
from bundler.remote.url import to_ascii


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
    [
        "ftp://host/a",
        "file:///a",
        "https://host",
        "https://host/",
        "https:///a",
        "https://host:x/a",
        "s3://a b/c",
        "https://a..b/x",
        f"https://{'a' * 70}.example/x",
        "https://host:99999/x",
        "https://[::1/x",
        "https://h%41/x",
    ],
)
def test_what_is_no_address_of_a_known_kind_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pa/SECRET@host/x", "https://host/x"),
        ("https://user:pa?SECRET@host/x", "https://host/x"),
        ("https://user:pa#SECRET@host/x", "https://host/x"),
        ("https://user:SECRET/x", "https://user:…/x"),
        ("https://user:12/SECRET@host/x", "https://user:12/…@host/x"),
        ("https://user:SECRET@host/x?mail=a@SECRET", "https://host/x"),
        ("https://host/@scope/x", "https://host/@scope/x"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
        ("oci://host:5000/a/b:1@sha256:00", "oci://host:5000/a/b:1@sha256:00"),
    ],
)
def test_a_password_that_parsers_cut_is_not_shown(text: str, shown: str) -> None:
    assert show(text) == shown
    try:
        assert str(Address(text)) == shown
    except UsageError as error:
        assert "SECRET" not in f"{error} {error.hint}"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("http://user:secret@Host:80/modèle a?n=my model#f", "http://host:80/mod%C3%A8le%20a?n=my%20model"),
        ("http://bücher.example/%C3%A8", "http://xn--bcher-kva.example/%C3%A8"),
        ("http://[::1]:8/\udcff", "http://[::1]:8/%FF"),
    ],
)
def test_an_address_is_sent_in_ascii_without_its_user(text: str, sent: str) -> None:
    assert to_ascii(text) == sent


def test_what_stands_beside_keeps_the_query() -> None:
    assert Address("https://host/a.zst?k=v").beside(".sig").url == "https://host/a.zst.sig?k=v"
