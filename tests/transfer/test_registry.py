"""Bundles in Debian's docker-registry: pushed, read in place, pulled; with what is attached to them."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.make.sign import sign_bundle
from bundler.remote.address import Address
from bundler.remote.oci.manifest import Descriptor
from bundler.remote.oci.registry import Registry as OciRegistry
from bundler.remote.oci.types import SIGNATURE
from bundler.remote.oci.upload import Uploader
from bundler.transfer.artifact import Attachment
from bundler.transfer.attach import attach
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.keys import make_key
from tests.support.network.ranged import RangedServer
from tests.support.network.registry import BCRYPT_OF_SECRET, Registry, needs_registry

pytestmark = needs_registry

FILES = {"w": random.Random(1).randbytes(12 << 20), "c.json": b"{}"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    bundle = tiny_bundle(folder, locked_repo("org/m", FILES, lfs=["w"]), contents=FILES.values())
    sign_bundle(bundle, make_key(folder).path)
    return bundle


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def bundle(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def push(packed: Path, address: str, *words: object) -> Any:
    return json.loads(bundle("push", packed, address, *words, "--json").stdout)


def test_what_was_pushed_is_pulled_with_its_signature(packed: Path, registry: Registry, tmp_path: Path) -> None:
    pushed = push(packed, registry.address())
    assert (pushed["sent_bytes"], len(pushed["attached"])) == (packed.stat().st_size, 3)
    again = push(packed, registry.address())
    assert again == {**pushed, "sent_bytes": 0}
    for address in (registry.address(), pushed["address"]):
        pulled = json.loads(bundle("pull", address, "-o", tmp_path / "out.tar.zst", "--json").stdout)
        assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()
        assert pulled["digest"] == pushed["digest"]
    assert (tmp_path / "out.tar.zst.sig").read_bytes() == packed.with_name("tiny.tar.zst.sig").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tar.zst", "out.tar.zst.sig"]


def test_the_artifact_and_what_refers_to_it_have_their_types(packed: Path, registry: Registry) -> None:
    pushed = push(packed, registry.address("models/typed:1"))
    manifest = registry.get("models/typed/manifests/1")
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert [layer["mediaType"] for layer in manifest["layers"]] == [
        "application/vnd.cncf.model.weight.v1.tar+zstd"
    ]
    tag = pushed["manifest_digest"].replace(":", "-")
    listed = registry.get(f"models/typed/manifests/{tag}")["manifests"]
    assert sorted(one["artifactType"] for one in listed) == sorted(pushed["attached"])
    for one in listed:
        attached = registry.get(f"models/typed/manifests/{one['digest']}")
        assert attached["subject"]["digest"] == pushed["manifest_digest"]


def test_a_bundle_in_a_registry_installs_and_verifies_as_its_file(
    packed: Path, registry: Registry, tmp_path: Path
) -> None:
    address = push(packed, registry.address("models/read:1"))["address"]
    bundle("install", packed, "--hf-home", tmp_path / "file")
    bundle("install", address, "--hf-home", tmp_path / "remote")
    assert tree(tmp_path / "remote") == tree(tmp_path / "file")
    assert json.loads(bundle("verify", address, "--json").stdout)["ok"]
    assert bundle("digest", address).stdout == bundle("digest", packed).stdout


def test_the_signature_that_is_attached_goes_through_the_policy(
    packed: Path, registry: Registry, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "alice")
    (tmp_path / "signers").write_text(key.line("alice@example.org"))
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        'version: 1\nrules:\n  - {bundles: ["*"], allowed_signers: signers, signers: [alice@example.org]}\n'
    )
    address = registry.address("models/signed:1")
    push(packed, address)
    bundle("install", address, "--policy", policy, "--hf-home", tmp_path / "home", code=20)
    assert not (tmp_path / "home" / "hub").exists()
    copy = tmp_path / "tiny.tar.zst"
    copy.write_bytes(packed.read_bytes())
    sign_bundle(copy, key.path, sequence=2_000_000_000)
    os.utime(copy)
    push(copy, address)
    bundle("install", address, "--policy", policy, "--hf-home", tmp_path / "home")


def test_a_signature_of_another_bundle_is_not_sent(packed: Path, registry: Registry, tmp_path: Path) -> None:
    key = make_key(tmp_path / "alice")
    other = tiny_bundle(tmp_path / "other", locked_repo("org/o", {"a": b"a"}), contents=[b"a"])
    _, signature = sign_bundle(other, key.path)
    copy = tmp_path / "tiny.tar.zst"
    copy.write_bytes(packed.read_bytes())
    copy.with_name("tiny.tar.zst.sig").write_bytes(signature.read_bytes())
    address = registry.address("models/stale:1")
    done = bundle("push", copy, address, code=20)
    assert "tiny.tar.zst.sig signs another bundle, sha256:" in done.stderr
    bundle("digest", address, code=5)


def test_signatures_that_others_attach_do_not_keep_a_signed_bundle_out(
    packed: Path, registry: Registry, tmp_path: Path
) -> None:
    alice, mallory = make_key(tmp_path / "alice"), make_key(tmp_path / "mallory")
    (tmp_path / "signers").write_text(alice.line("alice@example.org"))
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        'version: 1\nrules:\n  - {bundles: ["*"], allowed_signers: signers, signers: [alice@example.org]}\n'
    )
    copy = tmp_path / "tiny.tar.zst"
    copy.write_bytes(packed.read_bytes())
    _, signature = sign_bundle(copy, alice.path)
    address = registry.address("models/crowded:1")
    pushed = push(copy, address)
    content = {b"a": b"a"}
    other = tiny_bundle(tmp_path / "other", locked_repo("org/o", {"a": b"a"}), contents=content.values())
    _, of_another = sign_bundle(other, alice.path)
    right = signature.read_bytes()
    _, by_another = sign_bundle(copy, mallory.path)
    with closing(OciRegistry(Address(address), "push")) as opened:
        subject = opened.read_manifest()
        for attached in (of_another.read_bytes(), by_another.read_bytes(), b"no signature"):
            attach(
                Uploader(opened, tmp_path / "notes"),
                opened,
                Attachment(SIGNATURE, attached, {"org.opencontainers.image.created": "9999-01-01T00:00:00Z"}),
                Descriptor(subject.media_type, subject.digest, subject.size_bytes),
            )
    bundle("install", pushed["address"], "--policy", policy, "--hf-home", tmp_path / "home")
    pulled = json.loads(bundle("pull", address, "-o", tmp_path / "out.tar.zst", "--json").stdout)
    assert Path(pulled["signature"]).read_bytes() in (right, by_another.read_bytes())


def test_a_digest_that_is_not_that_of_the_manifest_is_refused(
    packed: Path, registry: Registry, tmp_path: Path
) -> None:
    address = registry.address("models/pinned:1")
    push(packed, address)
    bundle("install", f"{address}@sha256:{'0' * 64}", "--hf-home", tmp_path / "home", code=5)
    bundle("push", packed, f"{address}@sha256:{'0' * 64}", code=2)
    bundle("install", registry.address("models/none:1"), "--hf-home", tmp_path / "home", code=5)


def test_another_repository_gives_its_blob(packed: Path, registry: Registry) -> None:
    push(packed, registry.address("models/from:1"))
    pushed = push(packed, registry.address("models/to:1"), "--mount-from", "models/from")
    assert pushed["sent_bytes"] == 0


def test_a_file_of_another_object_is_not_gone_on_with(packed: Path, registry: Registry, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path / "other", locked_repo("org/x", {"x": b"x" * 99}), contents=[b"x" * 99])
    address = registry.address("models/moved:1")
    push(packed, address)
    (tmp_path / ".out.tar.zst.partial").write_bytes(b"left by something else")
    (tmp_path / ".out.tar.zst.partial.note").write_bytes(b"{}")
    bundle("pull", address, "-o", tmp_path / "out.tar.zst")
    assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()
    push(other, address)
    bundle("pull", address, "-o", tmp_path / "out.tar.zst")
    assert (tmp_path / "out.tar.zst").read_bytes() == other.read_bytes()


def test_a_server_that_takes_files_is_put_the_bundle_and_its_signature(packed: Path) -> None:
    with RangedServer({}) as web:
        web.login = "Basic dXNlcjpzZWNyZXQ="
        address = web.url.replace("//", "//user:secret@") + "/b/tiny.tar.zst"
        assert push(packed, address)["sent_bytes"] == packed.stat().st_size
        assert push(packed, address)["sent_bytes"] == 0
        signature = packed.with_name("tiny.tar.zst.sig").read_bytes()
        assert web.files == {"/b/tiny.tar.zst": packed.read_bytes(), "/b/tiny.tar.zst.sig": signature}
        done = bundle("push", packed, f"{web.url}/b/tiny.tar.zst", code=5)
        assert "secret" not in done.output
        bundle("push", packed, address, "--image", code=2)


def test_only_who_has_logged_in_reads_and_no_password_is_told(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path / "registry", f"user:{BCRYPT_OF_SECRET}\n") as registry:
        bundle("push", packed, registry.address(), code=5)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        config = tmp_path / "config.json"
        for login, code in ((b"user:secret", 0), (b"user:wrong", 5)):
            entry = {"auth": base64.b64encode(login).decode()}
            config.write_text(json.dumps({"auths": {registry.host: entry}}))
            done = bundle("push", packed, registry.address(), code=code)
            assert bundle("digest", registry.address(), code=code).exit_code == code
            assert login.decode().partition(":")[2] not in done.output


def test_a_bundle_without_a_bill_of_materials_is_sent_all_the_same(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.trust.package_urls.MAX_NAMES", 0)
    with Registry(tmp_path / "registry") as registry:
        done = bundle("push", packed, registry.address())
    assert "no bill of materials is attached: a bill of materials is written for at most 0 repos" in done.output
