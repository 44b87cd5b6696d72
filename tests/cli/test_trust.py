"""`bundle sign`, `bundle policy check`, and what install, verify and run make of a policy: real commands, real keys."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.trust.signature_file import NAMESPACE
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.keys import Key, certify, keygen_sign, keygen_verifies, make_key
from tests.support.process import run, script

ALICE = "alice@example.org"
FILES = {"config.json": b"{}"}


def bundle(*words: object, code: int = 0, env: dict[str, str] | None = None, stdin: bytes | None = None) -> str:
    """Run a command, which must end with `code`; returns what it says on both streams."""
    done = subprocess.run(
        [script("bundle"), *map(str, words)],
        env=env and {**os.environ, **env},
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == code, done.stdout.decode()
    return done.stdout.decode()


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "packed", locked_repo("org/m", FILES), contents=FILES.values())


def write_policy(folder: Path, *lines: str) -> Path:
    (folder / "signers").write_text("".join(lines))
    path = folder / "policy.yaml"
    path.write_text(
        'version: 1\nrules:\n  - {bundles: ["*"], allowed_signers: signers, signers: [alice@example.org]}\n'
    )
    return path


def statement_of(signature: Path) -> bytes:
    return signature.read_bytes().partition(b"-----END SSH SIGNATURE-----\n")[2]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-384", "rsa"])
def test_ssh_keygen_verifies_what_we_sign_and_we_what_it_signs(packed: Path, tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, kind=kind)
    policy = write_policy(tmp_path, key.line(ALICE, f'namespaces="{NAMESPACE}"'))
    bundle("sign", packed, "--key", key.path, "--valid-days", 30)
    signature = packed.with_name("tiny.tar.zst.sig")
    assert keygen_verifies(tmp_path / "signers", signature, statement_of(signature), NAMESPACE)
    assert f"signed by {ALICE}" in bundle("verify", packed, "--policy", policy)
    # The other way: the statement was signed by hand.
    text = statement_of(signature)
    signature.write_bytes(keygen_sign(key.path, text, NAMESPACE) + text)
    assert f"signed by {ALICE}" in bundle("verify", packed, "--policy", policy)


def test_a_certificate_and_its_authority_are_enough(packed: Path, tmp_path: Path) -> None:
    authority, key = make_key(tmp_path, "authority"), make_key(tmp_path)
    policy = write_policy(tmp_path, authority.line("*@example.org", "cert-authority"))
    bundle("sign", packed, "--key", certify(authority, key))
    signature = packed.with_name("tiny.tar.zst.sig")
    assert keygen_verifies(tmp_path / "signers", signature, statement_of(signature), NAMESPACE)
    assert f"signed by {ALICE}" in bundle("verify", packed, "--policy", policy)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[Key, dict[str, str]]]:
    """A key whose private half only an agent has."""
    key, socket = make_key(tmp_path / "agent"), str(tmp_path / "agent" / "socket")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline()
    env = {"SSH_AUTH_SOCK": socket}
    run(["ssh-add", "-q", str(key.path)], env={**os.environ, **env})
    key.path.unlink()
    yield key, env
    process.terminate()
    process.wait()


def test_an_agent_signs_by_the_public_half(
    packed: Path, tmp_path: Path, agent: tuple[Key, dict[str, str]]
) -> None:
    key, env = agent
    bundle("sign", packed, "--key", f"{key.path}.pub", env=env)
    assert "signed by" in bundle("verify", packed, "--policy", write_policy(tmp_path, key.line(ALICE)))


def test_signing_again_says_which_signature_it_replaces(packed: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    words = ["sign", packed, "--key", key.path, "--json"]
    assert '"replaced": null' in bundle(*words, "--sequence", 1)
    said = bundle(*words, "--sequence", 2)
    assert "replaces the signature of release 1, sha256:" in said and '"sequence": 1' in said
    packed.with_name("tiny.tar.zst.sig").write_bytes(b"torn")
    assert "replaces a file there that says nothing by itself" in bundle(*words)


def test_a_key_that_cannot_sign_is_wrong_usage(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    said = bundle("sign", packed, "--key", tmp_path / "key", code=2)
    assert "ssh-keygen cannot sign with it" in said
    assert not packed.with_name("tiny.tar.zst.sig").exists()


def test_a_sigstore_bundle_is_taken_where_a_policy_lists_its_key(packed: Path, tmp_path: Path) -> None:
    key, home = make_key(tmp_path, kind="ecdsa-256"), tmp_path / "home"
    policy = write_policy(tmp_path, key.line(ALICE))
    bundle("sign", packed, "--key", key.path, "--format", "sigstore")
    signature = packed.with_name("tiny.tar.zst.sigstore.json")
    options = ("--signature", signature, "--policy", policy)
    assert f"signed by {ALICE}" in bundle("verify", packed, *options)
    said = bundle("install", packed, "--hf-home", home, "--signature", signature, code=20)
    assert "of none of the 0 keys" in said
    bundle("install", packed, "--hf-home", home, *options)
    bundle("run", "--hf-home", home, "--", "true", env={"BUNDLE_POLICY": str(policy)})
    # A form for in-toto tools is not one for this machine.
    bundle("sign", packed, "--key", key.path, "--format", "dsse")
    envelope = packed.with_name("tiny.tar.zst.dsse.json")
    assert "mediaType" in bundle("verify", packed, "--signature", envelope, "--policy", policy, code=20)


def test_an_installation_and_a_launch_ask_the_policy_each_time(packed: Path, tmp_path: Path) -> None:
    key, home = make_key(tmp_path), tmp_path / "home"
    policy = write_policy(tmp_path, make_key(tmp_path, "other").line(ALICE))
    bundle("sign", packed, "--key", key.path)
    assert "REFUSED: signers" in bundle("policy", "check", packed, "--policy", policy, code=20)
    assert "is refused" in bundle("install", packed, "--hf-home", home, "--policy", policy, code=20)
    assert not home.exists()
    write_policy(tmp_path, key.line(ALICE))
    env = {"BUNDLE_POLICY": str(policy)}
    bundle("install", packed, "--hf-home", home, env=env)
    launch = ["run", "--hf-home", home, "--isolate", "none", "--", "echo", "it ran"]
    assert "it ran" in bundle(*launch, env=env)
    # The signer leaves the list.
    write_policy(tmp_path, make_key(tmp_path, "another").line(ALICE))
    assert "it ran" not in bundle(*launch, env=env, code=20)
    assert "REFUSED: signers" in bundle("verify", "tiny", "--hf-home", home, env=env, code=20)
    assert "REFUSED: signers" in bundle("policy", "check", "tiny", "--hf-home", home, env=env, code=20)
    program = f"import bundler; bundler.enforce_offline('tiny', hf_home={str(home)!r}); print('it ran')"
    done = subprocess.run(
        [script("python"), "-c", program], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert "it ran" not in done.stdout
    assert "TrustError" in done.stderr


def test_a_pipe_and_volumes_take_the_signature_of_the_whole(packed: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    policy = write_policy(tmp_path, key.line(ALICE))
    bundle("sign", packed, "--key", key.path)
    signature = packed.with_name("tiny.tar.zst.sig")
    words = ["install", "-", "--hf-home", tmp_path / "piped", "--policy", policy]
    assert "found none" in bundle(*words, stdin=packed.read_bytes(), code=20)
    assert tree(tmp_path / "piped") == {}
    bundle(*words, "--signature", signature, stdin=packed.read_bytes())
    bundle("split", packed, "--volume-size", 3000, "-o", tmp_path / "cut.tar.zst")
    (tmp_path / "cut.tar.zst.sig").write_bytes(signature.read_bytes())
    bundle("install", tmp_path / "cut.tar.zst.001", "--hf-home", tmp_path / "cut", "--policy", policy)
    # Signed as volumes, it is the same signature of the same bundle.
    bundle("sign", tmp_path / "cut.tar.zst.001", "--key", key.path, "--sequence", 5)
    said = json.loads(statement_of(tmp_path / "cut.tar.zst.sig"))
    assert said["subject"] == json.loads(statement_of(signature))["subject"]


def test_a_malformed_policy_stops_everything(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\nrules:\n  - bundles: prod\n")
    for words in (
        ["install", packed, "--hf-home", tmp_path / "home"],
        ["verify", packed],
        ["policy", "check", packed],
    ):
        assert "rules[0].bundles" in bundle(*words, "--policy", tmp_path / "policy.yaml", code=3)
    assert not (tmp_path / "home").exists()
