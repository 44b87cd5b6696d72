"""`bundle fetch` to a pipe, to volumes and to a registry, with real processes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest

from tests.conftest import PLAIN
from tests.support.bundles import tree
from tests.support.keys import make_key
from tests.support.network.registry import BCRYPT_OF_SECRET, Registry, needs_registry
from tests.support.process import run, script

# A space is code that its users run from elsewhere.
POLICY = 'version: 1\nrules: [{bundles: ["*"], allowed_signers: signers, allow_remote_code: true}]\n'


def test_a_fetch_into_a_pipe_is_signed_beside_it(plain_environment: dict[str, str], tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys")
    (tmp_path / "signers").write_text(key.line("alice@example.org"))
    (tmp_path / "policy.yaml").write_text(POLICY)
    options = ["-o", "-", "--sign", str(key.path), "--signature", "tape.sig"]
    tape = subprocess.run(
        [script("bundle"), "fetch", "small.yaml", *options],
        env=plain_environment,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    options = ["--signature", "tape.sig", "--policy", "policy.yaml", "--hf-home", "home"]
    done = subprocess.run(
        [script("bundle"), "install", "-", *options],
        input=tape.stdout,
        env=plain_environment,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


@needs_registry
def test_a_fetch_into_a_registry_is_signed_there_and_stored_nowhere(
    plain_environment: dict[str, str], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "keys")
    (tmp_path / "signers").write_text(key.line("alice@example.org"))
    (tmp_path / "policy.yaml").write_text(POLICY)
    with Registry(tmp_path / "registry") as registry:
        options = ["--sign", key.path, "--signature", "fetched.sig", "--json"]
        fetch = [script("bundle"), "fetch", "small.yaml", "-o", registry.address("small:1"), *options]
        made = json.loads(run(fetch, env=plain_environment, cwd=tmp_path).stdout)
        assert not list(tmp_path.glob("**/*.tar.zst"))
        words = [registry.address("small:1"), "--policy", "policy.yaml", "--hf-home", "home", "--json"]
        done = run([script("bundle"), "install", *words], env=plain_environment, cwd=tmp_path)
        assert json.loads(done.stdout)["digest"] == made["digest"]


@needs_registry
def test_a_fetch_that_may_not_push_downloads_nothing(plain_environment: dict[str, str], tmp_path: Path) -> None:
    with Registry(tmp_path / "registry", f"user:{BCRYPT_OF_SECRET}\n") as registry:
        fetch = [script("bundle"), "fetch", "small.yaml", "-o", registry.address("small:1")]
        assert run(fetch, env=plain_environment, cwd=tmp_path, check=False).returncode == 5
    assert not (tmp_path / "cache").exists()


def test_a_fetch_without_a_key_says_of_a_signature_that_is_of_another_bundle(
    plain_environment: dict[str, str], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "keys")
    fetch = [script("bundle"), "fetch", "small.yaml"]
    run([*fetch, "--sign", key.path], env=plain_environment, cwd=tmp_path)
    # The same bundle: its signature is still right.
    assert "signs another bundle" not in run(fetch, env=plain_environment, cwd=tmp_path).stderr
    (tmp_path / "small.yaml").write_text(PLAIN + "    aliases: [other]\n")
    done = run([*fetch, "--json"], env=plain_environment, cwd=tmp_path)
    assert "small.tar.zst.sig signs another bundle, sha256:" in done.stderr
    assert "signs another bundle" in json.loads(done.stdout)["notes"][-1]


def test_a_fetch_goes_to_a_file_to_a_pipe_and_to_volumes_with_the_same_bytes(
    plain_environment: dict[str, str], tmp_path: Path
) -> None:
    fetch: Callable[..., list[object]] = lambda *words: [script("bundle"), "fetch", "small.yaml", *words]  # noqa: E731
    one = json.loads(run([*map(str, fetch("--json"))], env=plain_environment, cwd=tmp_path).stdout)
    content = (tmp_path / "small.tar.zst").read_bytes()
    assert one["volumes"] == [] and one["already_packed"] is False

    again = run([*map(str, fetch("--json"))], env=plain_environment, cwd=tmp_path)
    assert json.loads(again.stdout)["already_packed"] is True
    assert json.loads(again.stdout)["proof"] == one["proof"] | {"seconds": ANY, "is_remembered": True}
    assert f"proof: that of {one['proof']['proven_at']}, same files and packages, 0 network" in again.stderr
    assert "already packed, hashed again: small.tar.zst" in again.stderr
    assert (tmp_path / "small.tar.zst").read_bytes() == content

    pipe = subprocess.run(
        [*map(str, fetch("-o", "-"))], env=plain_environment, cwd=tmp_path, capture_output=True, check=False
    )
    assert pipe.returncode == 0, pipe.stderr.decode()
    assert pipe.stdout == content
    assert b"packed -: " in pipe.stderr

    # Two commands and a pipe, as one would type it.
    line = '"$0" fetch small.yaml -o - --locked | "$0" install - --hf-home piped'
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, script("bundle")],
        env=plain_environment,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    run([script("bundle"), "install", "small.tar.zst", "--hf-home", "filed"], env=plain_environment, cwd=tmp_path)
    assert tree(tmp_path / "piped") == tree(tmp_path / "filed")

    # The older single file would be taken for the new bundle.
    size = len(content)  # with volume headers, one file is too long by a little
    cutting = fetch("--volume-size", size, "--parity", "10%", "--json")
    volumes = json.loads(run([*map(str, cutting)], env=plain_environment, cwd=tmp_path).stdout)
    assert volumes["digest"] == one["digest"]
    assert not (tmp_path / "small.tar.zst").exists()
    paths = [tmp_path / path for path in volumes["volumes"]]
    assert [path.name for path in paths] == ["small.tar.zst.001", "small.tar.zst.002"]
    assert all(path.stat().st_size <= size for path in paths)
    assert volumes["parity"] == ["small.tar.zst.parity"]
    kept = fetch("--volume-size", size, "--parity", "10%", "--json")
    told = run([*map(str, kept)], env=plain_environment, cwd=tmp_path).stderr
    assert "1 file of parity" in told and "there already, hashed again: small.tar.zst.parity" in told


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "-", "--json"],
        ["-o", "-", "--volume-size", "1G"],
        ["-o", "-", "--parity", "10%"],
        ["-o", "-", "--sign", "small.yaml"],
        ["--signature", "small.sig"],
    ],
    ids=" ".join,
)
def test_what_a_fetch_cannot_do_together_is_refused(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "small.yaml").write_text(PLAIN)
    assert run([script("bundle"), "fetch", "small.yaml", *words], cwd=tmp_path, check=False).returncode == 2


def test_a_bundle_is_not_written_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(PLAIN)
    main_end, terminal = pty.openpty()
    words = [script("bundle"), "fetch", "small.yaml", "-o", "-"]
    refused = subprocess.run(words, cwd=tmp_path, stdout=terminal, stderr=-1, check=False)
    os.close(main_end)
    os.close(terminal)
    assert refused.returncode == 2 and b"refusing to write a bundle to a terminal" in refused.stderr


def test_a_reader_that_goes_away_is_an_error_of_its_own(plain_environment: dict[str, str], tmp_path: Path) -> None:
    line = '"$0" fetch small.yaml -o - | head -c 10 > head; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", line, script("bundle")],
        env=plain_environment,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"15\n", done.stderr.decode()
    assert b"was closed by its reader after" in done.stderr
    assert b"Traceback" not in done.stderr
