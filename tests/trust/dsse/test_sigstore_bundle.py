"""Sigstore bundles that a key signed: taken by a listed key, refused by any other and where anything is changed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import TrustError
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.trust.policies import check_policies
from bundler.trust.check_file import judge_file
from bundler.trust.policy import load_policies
from bundler.trust.signature_file import parse_signature
from tests.support.bundles import tree
from tests.support.keys import KINDS, Key, make_key
from tests.trust.dsse.support import public_key, signed_bundle

ALICE = "alice@example.org"


def write_policy(folder: Path, lines: str) -> Path:
    (folder / "signers").write_text(lines)
    policy = folder / "policy.yaml"
    policy.write_text('version: 1\nrules:\n  - bundles: ["*"]\n    allowed_signers: signers\n')
    return policy


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_is_installed_and_started_by_a_listed_key(tmp_path: Path, kind: str) -> None:
    key, signed, path = signed_bundle(tmp_path, form="sigstore", kind=kind)
    assert path.name == "prod.tar.zst.sigstore.json"
    policy = write_policy(tmp_path, make_key(tmp_path, "other").line("bob@example.org") + key.line(ALICE))
    judgement = judge_file(tmp_path / "prod.tar.zst", load_policies(policy), signature=path)
    assert (judgement.ok, judgement.signer) == (True, ALICE)
    install(tmp_path / "prod.tar.zst", tmp_path / "home", signature=path, policy=policy)
    check_policies(Home(tmp_path / "home").bundles(), policy)
    assert signed.statement.sequence == 7
    # A launch asks again: a key that has left the list starts nothing.
    write_policy(tmp_path, make_key(tmp_path, "third").line(ALICE))
    with pytest.raises(TrustError, match="of none of the 1 key"):
        check_policies(Home(tmp_path / "home").bundles(), policy)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (lambda key: key.line(ALICE, 'namespaces="git"'), "its key is not accepted for namespace"),
        (lambda key: key.line(ALICE, 'valid-before="20200101"'), "its key is no longer valid"),
        (lambda key: key.line(ALICE, "cert-authority"), "of none of the 0 keys"),
    ],
)
def test_what_the_list_says_of_a_key_holds(tmp_path: Path, line: Callable[[Key], str], why: str) -> None:
    key, _, path = signed_bundle(tmp_path, form="sigstore")
    policy = write_policy(tmp_path, line(key))
    with pytest.raises(TrustError, match=why):
        install(tmp_path / "prod.tar.zst", tmp_path / "home", signature=path, policy=policy)
    assert tree(tmp_path / "home") == {}


def test_without_a_list_of_signers_it_cannot_be_checked_and_is_refused(tmp_path: Path) -> None:
    _, _, path = signed_bundle(tmp_path, form="sigstore")
    with pytest.raises(TrustError, match="of none of the 0 keys"):
        install(tmp_path / "prod.tar.zst", tmp_path / "home", signature=path)
    assert tree(tmp_path / "home") == {}


def test_a_bare_envelope_is_refused(tmp_path: Path) -> None:
    key, _, path = signed_bundle(tmp_path, form="dsse")
    with pytest.raises(TrustError, match="mediaType"):
        parse_signature(path.read_bytes(), source="x", keys=[public_key(key)])


def _change_payload(tree: Any) -> None:
    envelope = tree["dsseEnvelope"]
    text = base64.b64decode(envelope["payload"]).replace(b'"sequence": 7', b'"sequence": 8')
    envelope["payload"] = base64.b64encode(text).decode()


def _two_signatures(tree: Any) -> None:
    tree["dsseEnvelope"]["signatures"] *= 2


def _with(path: str, value: object) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        *folders, name = path.split(".")
        for folder in folders:
            tree = tree[folder]
        tree[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_change_payload, "of none of the 1 key"),
        (_two_signatures, "expected one signature, found 2"),
        (_with("dsseEnvelope.signatures", []), "expected one signature, found 0"),
        (_with("dsseEnvelope.payloadType", "application/json"), "payloadType"),
        (_with("dsseEnvelope.payload", "a*b"), "expected base64"),
        (_with("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1"), "mediaType"),
        (_with("verificationMaterial", {"certificate": {"rawBytes": ""}}), "found one of a certificate"),
        (_with("verificationMaterial", {"x509CertificateChain": {}}), "found one of a certificate"),
        (_with("verificationMaterial", {}), "publicKey"),
        (_with("messageSignature", {}), "messageSignature"),
    ],
)
def test_what_is_changed_is_refused(tmp_path: Path, change: Callable[[Any], None], why: str) -> None:
    key, _, path = signed_bundle(tmp_path, form="sigstore")
    tree = json.loads(path.read_bytes())
    change(tree)
    with pytest.raises(TrustError, match=why):
        parse_signature(json.dumps(tree).encode(), source="x", keys=[public_key(key)])


def test_hint_log_entries_and_key_id_decide_nothing(tmp_path: Path) -> None:
    key, signed, path = signed_bundle(tmp_path, form="sigstore")
    tree = json.loads(path.read_bytes())
    tree["verificationMaterial"] = {"publicKey": {"hint": ""}, "tlogEntries": [{"logIndex": "1"}]}
    tree["dsseEnvelope"]["signatures"][0]["keyid"] = ""
    found = parse_signature(json.dumps(tree).encode(), source="x", keys=[public_key(key)])
    assert (found.statement, found.key) == (signed.statement, public_key(key))


def test_base64_of_either_alphabet_is_read(tmp_path: Path) -> None:
    key, signed, path = signed_bundle(tmp_path, form="sigstore")
    tree = json.loads(path.read_bytes())
    for holder, name in ((tree["dsseEnvelope"], "payload"), (tree["dsseEnvelope"]["signatures"][0], "sig")):
        holder[name] = base64.urlsafe_b64encode(base64.b64decode(holder[name])).decode()
    found = parse_signature(json.dumps(tree).encode(), source="x", keys=[public_key(key)])
    assert found.statement == signed.statement


def test_no_bit_of_what_is_signed_may_change(tmp_path: Path) -> None:
    key, _, path = signed_bundle(tmp_path, form="sigstore", kind="ed25519")
    tree, keys = json.loads(path.read_bytes()), [public_key(key)]
    envelope = tree["dsseEnvelope"]
    accepted = []
    for holder, name in ((envelope, "payload"), (envelope["signatures"][0], "sig")):
        right = holder[name]
        blob = base64.b64decode(right)
        for place in random.Random(1).sample(range(len(blob) * 8), 200):
            changed = bytearray(blob)
            changed[place // 8] ^= 1 << place % 8
            holder[name] = base64.b64encode(changed).decode()
            try:
                parse_signature(json.dumps(tree).encode(), source="x", keys=keys)
                accepted.append((name, place))
            except TrustError:
                pass
        holder[name] = right
    parse_signature(json.dumps(tree).encode(), source="x", keys=keys)
    assert accepted == []
