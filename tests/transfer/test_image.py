"""Images of bundles, mounted by podman and copied by skopeo, which we did not write."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import UsageError
from bundler.make.pack import pack
from bundler.remote.address import Address
from bundler.transfer.push import push
from tests.support.bundles import blob_store, lock_of, locked_repo
from tests.support.network.registry import Registry, needs_registry
from tests.support.process import run, script

pytestmark = needs_registry

FILES = {"w": random.Random(1).randbytes(1 << 20), "config.json": b"{}"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    lock = lock_of(locked_repo("org/m", FILES, lfs=["w"], aliases=["m"]), name="tiny")
    pack(lock, blob_store(folder / "store", FILES.values()), folder / "tiny.tar.zst", codec="zstd")
    return folder / "tiny.tar.zst"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def storage() -> Iterator[Path]:
    """A folder with a name as short as podman wants it."""
    with tempfile.TemporaryDirectory(prefix="podman", dir="/tmp") as folder:
        yield Path(folder)


def podman(folder: Path, *words: str) -> str:
    if shutil.which("podman") is None:
        pytest.skip("there is no podman here")
    done = subprocess.run(
        ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and words[0] in ("pull", "image") and "operation not permitted" in done.stderr.lower():
        pytest.skip(f"podman cannot mount here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_podman_mounts_a_home_that_verifies_and_runs(
    packed: Path, registry: Registry, tmp_path: Path, storage: Path
) -> None:
    address = registry.address("models/image:1")
    push(packed, Address(address), tmp_path / "notes", image=True)
    image = address.removeprefix("oci://")
    try:
        podman(storage, "pull", "--tls-verify=false", image)
        home = podman(storage, "image", "mount", image)
        run([script("bundle"), "verify", "tiny", "--hf-home", home])
        found = run([script("bundle"), "path", "m", "--hf-home", home]).stdout.strip()
        assert (Path(found) / "w").read_bytes() == FILES["w"]
        code = "import os; print(os.environ['HF_HOME'])"
        done = run(
            [script("bundle"), "run", "--hf-home", home, "--bundle", "tiny", "--", sys.executable, "-c", code]
        )
        assert done.stdout.strip() == home
        podman(storage, "image", "unmount", image)
    finally:
        if shutil.which("podman"):
            podman(storage, "system", "reset", "--force")


@pytest.mark.parametrize("image", [False, True])
def test_what_skopeo_copied_is_the_bundle(packed: Path, registry: Registry, tmp_path: Path, image: bool) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("there is no skopeo here")
    pushed = push(packed, Address(registry.address("models/copied:1")), tmp_path / "notes", image=image)
    source, target = f"docker://{registry.host}/models/copied:1", f"docker://{registry.host}/elsewhere/copied:2"
    run(["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", source, target])
    copy = f"oci://{registry.host}/elsewhere/copied:2@{pushed.manifest_digest}"
    run([script("bundle"), "install", copy, "--hf-home", tmp_path / "home"])
    run([script("bundle"), "pull", copy, "-o", tmp_path / "out.tar.zst"])
    assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()


def test_an_image_has_the_bundle_as_its_layer_and_a_receipt(
    packed: Path, registry: Registry, tmp_path: Path
) -> None:
    push(packed, Address(registry.address("models/layers:1")), tmp_path / "notes", image=True)
    manifest = registry.get("models/layers/manifests/1")
    assert [layer["mediaType"] for layer in manifest["layers"]] == [
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.v1.tar+zstd",
    ]
    assert manifest["layers"][0]["size"] == packed.stat().st_size
    assert "artifactType" not in manifest


def test_a_bundle_with_byte_planes_is_a_file_to_others_and_no_image(registry: Registry, tmp_path: Path) -> None:
    words = bytes(byte for low in random.Random(2).randbytes(1_500_000) for byte in (low, 0x3F))
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1_500_000], "data_offsets": [0, 3_000_000]}}).encode()
    header += b" " * (-len(header) % 8)
    weights = len(header).to_bytes(8, "little") + header + words
    lock = lock_of(locked_repo("org/m", {"m.safetensors": weights}, lfs=["m.safetensors"]), name="planes")
    planes = tmp_path / "planes.tar.zst"
    pack(lock, blob_store(tmp_path / "store", [weights]), planes)
    with pytest.raises(UsageError):
        push(planes, Address(registry.address("models/planes:1")), tmp_path / "notes", image=True)
    push(planes, Address(registry.address("models/planes:1")), tmp_path / "notes")
    [layer] = registry.get("models/planes/manifests/1")["layers"]
    assert layer["mediaType"] == "application/vnd.cncf.model.weight.v1.raw"
    assert layer["annotations"]["org.cncf.model.filepath"] == "planes.tar.zst"
