"""bundler.home.receipt: a receipt gives back what was written, and every fault of one is found."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from bundler import __version__
from bundler.errors import IntegrityError, LockError
from bundler.home.receipt import (
    Receipt,
    UnknownReceiptError,
    read_receipt,
    receipt_path,
)
from bundler.home.write_receipt import set_current, write_receipt
from tests.support.bundles import lock_of, locked_repo, tree
from tests.support.messages import Told

LOCK = lock_of(locked_repo("org/m", {"w": b"w"}, aliases=["short"]), locked_repo("org/n", {"ü.bin": b"v"}))
DIGEST = f"sha256:{'ab' * 32}"


def write(hf_home: Path, receipt: Receipt) -> None:
    write_receipt(hf_home, receipt)
    set_current(hf_home, receipt.lock.name, receipt.digest)


def generation(digest: str) -> str:
    return f"bundles/generations/tiny/{digest[7:39]}.json"


def sealed(hf_home: Path, **changes: object) -> Path:
    """Write a receipt with other values under a seal that is right."""
    write(hf_home, Receipt(LOCK, DIGEST))
    path = receipt_path(hf_home, "tiny")
    raw = json.loads(path.read_bytes()) | changes
    del raw["receipt_sha256"]
    lines = "\n".join(f' "{key}": {json.dumps(value)},' for key, value in raw.items() if key != "lock")
    lock = raw["lock"] if isinstance(raw["lock"], str) else LOCK.dumps().rstrip()
    body = f'{{\n{lines}\n "lock": {lock},'.encode()
    path.write_bytes(body + f'\n "receipt_sha256": "{sha256(body).hexdigest()}"\n}}\n'.encode())
    return path


@pytest.mark.parametrize("left_out", [(), ("org/b", "org/a", "org/b")])
def test_what_was_written_is_read(tmp_path: Path, left_out: tuple[str, ...]) -> None:
    write(tmp_path, Receipt(LOCK, DIGEST, left_out))
    receipt = read_receipt(receipt_path(tmp_path, "tiny"))
    assert (receipt.lock, receipt.digest, receipt.left_out) == (LOCK, DIGEST, tuple(sorted(set(left_out))))
    assert tree(tmp_path).keys() == {"bundles/tiny.json", generation(DIGEST)}


def test_it_is_json_that_says_who_wrote_it_and_ends_in_the_digest_of_its_own_text(tmp_path: Path) -> None:
    write(tmp_path, Receipt(LOCK, DIGEST))
    content = receipt_path(tmp_path, "tiny").read_bytes()
    body = content[: content.index(b'\n "receipt_sha256"')]
    assert json.loads(content) == {
        "receipt_version": 1,
        "bundle_digest": DIGEST,
        "installed_with": f"bundler {__version__}",
        "checked_digests": ["blake3", "sha256", "git_sha1"],
        "names": json.loads(
            lock_of(locked_repo("org/m", {}, aliases=["short"]), locked_repo("org/n", {})).dumps()
        ),
        "lock": json.loads(LOCK.dumps()),
        "receipt_sha256": sha256(body).hexdigest(),
    }


def test_the_receipt_of_the_current_generation_is_replaced_whole_and_those_of_others_stay(tmp_path: Path) -> None:
    write(tmp_path, Receipt(LOCK, DIGEST))
    other = f"sha256:{'cd' * 32}"
    write(tmp_path, Receipt(LOCK, other))
    assert read_receipt(receipt_path(tmp_path, "tiny")).digest == other
    assert tree(tmp_path).keys() == {"bundles/tiny.json", generation(DIGEST), generation(other)}


def test_a_receipt_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path, Receipt(LOCK, DIGEST))
    path = receipt_path(tmp_path, "tiny")
    content = path.read_bytes()
    for size in range(len(content)):
        with pytest.raises(IntegrityError) as caught:
            Receipt.parse(content[:size], path)
        assert (type(caught.value), caught.value.exit_code) == (IntegrityError, 6)


def test_there_must_be_a_receipt(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_receipt(receipt_path(tmp_path, "tiny"))


FAULTS: dict[str, tuple[dict[str, object], type[Exception]]] = {
    "another version": ({"receipt_version": 2}, UnknownReceiptError),
    "no version": ({"receipt_version": None}, UnknownReceiptError),
    "a digest that is none": ({"bundle_digest": "sha256:xyz"}, IntegrityError),
    "a digest that is a number": ({"bundle_digest": 7}, IntegrityError),
    "repos left out that are no list": ({"left_out": "org/a"}, IntegrityError),
    "repos left out that are no text": ({"left_out": [1]}, IntegrityError),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_value_of_another_kind_under_a_right_seal_is_refused(tmp_path: Path, fault: str, told: Told) -> None:
    changes, kind = FAULTS[fault]
    assert read_receipt(sealed(tmp_path)).lock == LOCK, "nothing but the value is wrong"
    path = sealed(tmp_path, **changes)
    with pytest.raises(IntegrityError) as caught:
        read_receipt(path)
    assert (type(caught.value), caught.value.exit_code) == (kind, 6)
    told("receipt", fault, caught.value, path=path)


def test_the_receipt_of_another_bundle_is_refused(tmp_path: Path, told: Told) -> None:
    write(tmp_path, Receipt(LOCK, DIGEST))
    path = receipt_path(tmp_path, "tiny").rename(receipt_path(tmp_path, "other"))
    with pytest.raises(IntegrityError) as caught:
        read_receipt(path)
    told("receipt", "the receipt of another bundle", caught.value, path=path)


def test_a_malformed_lock_is_found_when_it_is_asked_for(tmp_path: Path) -> None:
    path = sealed(tmp_path, lock='{"lock_version": 1}')
    receipt = Receipt.parse(path.read_bytes(), path)
    assert receipt.digest == DIGEST
    with pytest.raises(LockError) as caught:
        _ = receipt.lock
    assert caught.value.exit_code == 3
    with pytest.raises(LockError):
        read_receipt(path)


def test_a_receipt_mentions_whole_names_that_are_in_its_lock(tmp_path: Path) -> None:
    write(tmp_path, Receipt(LOCK, DIGEST))
    path = receipt_path(tmp_path, "tiny")
    receipt = Receipt.parse(path.read_bytes(), path)
    for text in ("org/m", "short", "ü.bin", "model"):
        assert receipt.mentions(["org/none", text])
    for text in ("org/", "org/M", "hort", "dataset"):
        assert not receipt.mentions([text])
    assert not receipt.mentions([])
