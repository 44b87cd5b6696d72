"""Bundles in an S3: moto's, on loopback. `make test-stores` installs it."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.errors import ChangedError, DependencyError, RemoteError
from bundler.make.sign import sign_bundle
from bundler.remote.address import Address
from bundler.remote.opening import open_remote
from bundler.transfer.stream import StreamedObject
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.hub import RunningHub
from tests.support.keys import make_key
from tests.support.process import run, script
from tests.support.remote import write_repo

FILES = {"w": random.Random(1).randbytes(40 << 20), "c.json": b"{}"}


def bundle(*words: object, code: int = 0) -> Any:
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("obstore", reason="`make test-stores` installs it")
    pytest.importorskip("moto", reason="`make test-stores` installs it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    variables = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1", "ALLOW_HTTP": "true"}
    for name, value in {**variables, "ENDPOINT_URL": url}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
                break
            except OSError:
                time.sleep(0.05)
        yield "s3://bucket"
    finally:
        server.kill()
        server.wait()


def test_a_bundle_goes_there_and_comes_back(bucket: str, tmp_path: Path) -> None:
    packed = tiny_bundle(tmp_path / "made", locked_repo("org/m", FILES, lfs=["w"]), contents=FILES.values())
    sign_bundle(packed, make_key(tmp_path).path)
    address = f"{bucket}/deep/tiny.tar.zst"
    pushed = json.loads(bundle("push", packed, address, "--json").stdout)
    assert (pushed["sent_bytes"], pushed["manifest_digest"]) == (packed.stat().st_size, None)
    assert json.loads(bundle("push", packed, address, "--json").stdout)["sent_bytes"] == 0
    bundle("pull", address, "-o", tmp_path / "out.tar.zst")
    for name in ("out.tar.zst", "out.tar.zst.sig"):
        there = packed.with_name(name.replace("out", "tiny"))
        assert (tmp_path / name).read_bytes() == there.read_bytes()
    bundle("install", packed, "--hf-home", tmp_path / "file")
    bundle("install", address, "--hf-home", tmp_path / "remote")
    assert tree(tmp_path / "remote") == tree(tmp_path / "file")
    assert bundle("verify", address).exit_code == 0


def test_it_goes_there_in_volumes_and_on_behind_the_last_whole_one(bucket: str, tmp_path: Path) -> None:
    packed = tiny_bundle(tmp_path / "made", locked_repo("org/m", FILES, lfs=["w"]), contents=FILES.values())
    address = f"{bucket}/deep/tiny.tar.zst"
    words = [sys.executable, "-m", "bundler", "push", packed, address, "--piece-size", "9M", "--json"]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while child.poll() is None and not is_there(f"{address}.002"):
        time.sleep(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    sent = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)["sent_bytes"]
    assert 0 < sent <= packed.stat().st_size - 2 * (4 << 20)
    bundle("pull", f"{address}.003", "-o", tmp_path / "out.tar.zst")
    assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()
    bundle("install", packed, "--hf-home", tmp_path / "file")
    bundle("install", address, "--hf-home", tmp_path / "remote")
    assert tree(tmp_path / "remote") == tree(tmp_path / "file")


def test_a_bundle_is_fetched_straight_into_it(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("version: 1\nname: small\nspaces:\n  - repo_id: org/small\n")
    write_repo(
        tmp_path / "hub" / "spaces" / "org" / "small",
        {"README.md": b"ready", "noise.dat": random.Random(2).randbytes(20 << 20)},
    )
    address, key = f"{bucket}/deep/small.tar.zst", make_key(tmp_path).path
    with RunningHub(tmp_path / "hub") as hub:
        words = ["fetch", tmp_path / "small.yaml", "--sign", key, "--signature", tmp_path / "small.sig", "-o"]
        environment = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
        run_bundle = [script("bundle"), *words]
        done = run([*run_bundle, address], env=hub.environment(tmp_path / "hf") | environment, cwd=tmp_path)
        run([*run_bundle, tmp_path / "file.tar.zst"], env=hub.environment(tmp_path / "hf"), cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == address
    assert not list(tmp_path.glob("small*.zst"))
    bundle("pull", address, "-o", tmp_path / "out.tar.zst")
    assert (tmp_path / "out.tar.zst").read_bytes() == (tmp_path / "file.tar.zst").read_bytes()
    assert (tmp_path / "out.tar.zst.sig").exists()


def test_what_is_given_up_on_the_way_there_is_not_to_be_seen(bucket: str) -> None:
    address = Address(f"{bucket}/half.tar.zst")
    with (
        pytest.raises(KeyboardInterrupt),
        StreamedObject(address) as upload,
        upload.destination.open() as sink,
    ):
        sink.write(bytes(30 << 20))
        raise KeyboardInterrupt
    assert not is_there(str(address))


def is_there(address: str) -> bool:
    try:
        open_remote(Address(address)).close()
    except RemoteError:
        return False
    return True


def test_another_object_between_two_ranges_is_noticed(bucket: str) -> None:
    from bundler.remote.store import put_object

    address = Address(f"{bucket}/a")
    put_object(address, b"1" * 1000)
    found = open_remote(address)
    put_object(address, b"2" * 1000)
    with pytest.raises(ChangedError):
        found.read_into(0, memoryview(bytearray(10)))


def test_what_is_not_there_says_so(bucket: str) -> None:
    with pytest.raises(RemoteError) as caught:
        open_remote(Address(f"{bucket}/none"))
    assert caught.value.status == 404


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_without_the_package_the_error_names_the_extra(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(DependencyError) as caught:
        open_remote(Address(f"{scheme}://bucket/a.tar.zst"))
    assert "extra `stores`" in (caught.value.hint or "")
