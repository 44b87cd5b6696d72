"""Receipts that an enemy wrote: the seal over each is right, since anybody can compute it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import BundleError, IntegrityError
from bundler.files.digest import sha256_bytes
from bundler.home.receipt import read_receipt

DIGEST = f'"sha256:{"0" * 64}"'
HEAD = f'{{\n "receipt_version": 1,\n "bundle_digest": {DIGEST},\n "installed_with": "bundler 0",'


def _sealed(folder: Path, body: str | bytes) -> Path:
    """Write a receipt with this text and a right seal."""
    content = body if isinstance(body, bytes) else body.encode()
    path = folder / "demo.json"
    path.write_bytes(content + b'\n "receipt_sha256": "' + sha256_bytes(content).encode() + b'"\n}\n')
    return path


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param("", "expected a receipt in JSON", id="nothing"),
        pytest.param("[", "expected a receipt in JSON", id="a list"),
        pytest.param(b"\xff", "expected a receipt in JSON", id="not UTF-8"),
        pytest.param('{"a": ' + "[" * 100_000 + '\n "lock": {},', "nested too deeply", id="nesting"),
        pytest.param(f'{HEAD} "receipt_version": 1,\n "lock": {{}},', "appears twice", id="a key twice"),
        pytest.param(HEAD.replace("bundler 0", "\\ud800") + '\n "lock": {},', "surrogate pair", id="surrogate"),
        pytest.param(HEAD.replace(": 1,", f": {'9' * 5000},") + '\n "lock": {},', "4,300 digits", id="digits"),
        pytest.param(
            HEAD.replace(": 1,", ": [[[]]],") + '\n "lock": {},', "expected 1, found a list", id="version"
        ),
        pytest.param(HEAD.replace(DIGEST, '"\\u001b[2J"') + '\n "lock": {},', r"found '\x1b[2J'", id="digest"),
        pytest.param(f'{HEAD}\n "left_out": {{}},\n "lock": {{}},', "found an object", id="left out"),
    ],
)
def test_a_receipt_whose_head_is_wrong_is_refused_with_its_name(
    tmp_path: Path, body: str | bytes, said: str
) -> None:
    path = _sealed(tmp_path, body)
    with pytest.raises(IntegrityError) as caught:
        read_receipt(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert said in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("lock", ["", "{}", "[", "null", "[" * 100_000, '{"lock_version": 1, "name": "\\ud800"}'])
def test_a_receipt_whose_lock_is_wrong_is_refused_with_its_name(tmp_path: Path, lock: str) -> None:
    path = _sealed(tmp_path, f'{HEAD}\n "lock": {lock},')
    with pytest.raises(BundleError) as caught:
        read_receipt(path)
    assert caught.value.message.startswith(f"{path}: ")
