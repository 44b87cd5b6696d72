"""Bundles that are pushed in pieces: read as one blob, and gone on with after a kill, in Debian's registry."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.errors import FormatError, UsageError
from bundler.remote.address import Address
from bundler.remote.http.web import open_web
from bundler.remote.joined import JoinedObject
from bundler.remote.oci.manifest import Manifest
from bundler.transfer.push import push
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.network.ranged import RangedServer
from tests.support.network.registry import Registry, needs_registry
from tests.support.process import run, run_python

FILES = {"w": random.Random(1).randbytes(6 << 20), "c.json": b"{}"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return tiny_bundle(folder, locked_repo("org/m", FILES, lfs=["w"]), contents=FILES.values())


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def bundle(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def push_pieces(packed: Path, address: str) -> Any:
    return json.loads(bundle("push", packed, address, "--piece-size", "1M", "--json").stdout)


@needs_registry
def test_a_bundle_in_pieces_is_read_as_one(packed: Path, registry: Registry, tmp_path: Path) -> None:
    pushed = push_pieces(packed, registry.address("models/cut:1"))
    layers = registry.get("models/cut/manifests/1")["layers"]
    assert [layer["size"] for layer in layers[:-1]] == [1_000_000] * (len(layers) - 1) == [1_000_000] * 6
    assert pushed["sent_bytes"] == packed.stat().st_size == sum(layer["size"] for layer in layers)
    assert push_pieces(packed, registry.address("models/cut:1"))["sent_bytes"] == 0
    address = pushed["address"]
    assert bundle("digest", address).stdout == bundle("digest", packed).stdout
    assert bundle("cat", address, "org/m", "w").stdout_bytes == FILES["w"]
    bundle("pull", address, "-o", tmp_path / "out.tar.zst")
    assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()
    bundle("install", packed, "--hf-home", tmp_path / "file")
    bundle("install", address, "--hf-home", tmp_path / "remote")
    assert tree(tmp_path / "remote") == tree(tmp_path / "file")


@needs_registry
def test_what_skopeo_copied_are_files_that_join_to_the_bundle(
    packed: Path, registry: Registry, tmp_path: Path
) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("there is no skopeo here")
    push_pieces(packed, registry.address("models/copied:1"))
    source = f"docker://{registry.host}/models/copied:1"
    run(["skopeo", "copy", "--src-tls-verify=false", source, f"dir:{tmp_path}"])
    layers = json.loads((tmp_path / "manifest.json").read_text())["layers"]
    named = {layer["annotations"]["org.cncf.model.filepath"]: layer["digest"] for layer in layers}
    content = [(tmp_path / named[name].removeprefix("sha256:")).read_bytes() for name in sorted(named)]
    assert b"".join(content) == packed.read_bytes()


@needs_registry
def test_a_push_that_is_killed_goes_on_behind_the_last_whole_piece(
    packed: Path, registry: Registry, tmp_path: Path
) -> None:
    """By kill -9, in the midst of the third of seven pieces, in a registry that forgets what broke off."""
    address = registry.address("models/killed:1")
    code = """
        import os, signal, sys
        from bundler.cli import main
        from bundler.remote.oci import upload

        real, pieces = upload._Sent.__iter__, []

        def until_the_third(self):
            pieces.append(self)
            for block in real(self):
                if len(pieces) == 3:
                    # Some of it has arrived: the registry has the first half of the piece.
                    yield block[: len(block) // 2]
                    os.kill(os.getpid(), signal.SIGKILL)
                yield block

        upload._Sent.__iter__ = until_the_third
        main(["push", sys.argv[1], sys.argv[2], "--piece-size", "1M"])
    """
    assert run_python(code, packed, address, check=False).returncode == -signal.SIGKILL
    done = push_pieces(packed, address)
    assert done["sent_bytes"] == packed.stat().st_size - 2_000_000
    bundle("pull", address, "-o", tmp_path / "out.tar.zst")
    assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("has_ranges", [True, False])
def test_objects_are_joined_with_ranges_and_without(has_ranges: bool) -> None:
    content = random.Random(5).randbytes(300_000)
    cuts = [(0, 100_000), (100_000, 100_001), (100_001, 300_000)]
    with RangedServer({f"/{start}": content[start:stop] for start, stop in cuts}) as web:
        web.ignores_ranges = not has_ranges
        parts = [open_web(Address(f"{web.url}/{start}")) for start, _ in cuts]
        with closing(JoinedObject(parts, [stop - start for start, stop in cuts], "v")) as joined:
            assert (joined.size_bytes, joined.has_ranges, joined.version) == (len(content), has_ranges, "v")
            found = bytearray()
            room = memoryview(bytearray(70_000))
            with joined.stream() as body:
                while count := body.readinto(room):
                    found += room[:count]
            assert bytes(found) == content
            if has_ranges:
                target = bytearray(199_000)
                joined.read_into(500, memoryview(target))
                assert bytes(target) == content[500:199_500]


@pytest.mark.parametrize("said", [["1/2"], ["1/2", "1/2"], ["1/2", "3/2"], ["2/2", "x"]])
def test_a_manifest_that_lacks_a_piece_is_refused(said: list[str]) -> None:
    layers = [
        {
            "mediaType": "application/vnd.cncf.model.weight.v1.raw",
            "digest": f"sha256:{'a' * 64}",
            "size": 5,
            "annotations": {"io.github.infini-llama.bundle.piece": piece},
        }
        for piece in said
    ]
    manifest = Manifest.parse(json.dumps({"layers": layers}).encode(), f"sha256:{'b' * 64}", "label")
    with pytest.raises(FormatError, match="expected all pieces of a bundle in its manifest"):
        manifest.find_pieces("label")


def test_pieces_are_refused_where_there_can_be_none(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an image has the bundle as one layer"):
        push(packed, Address("oci://r.example/m:1"), tmp_path, image=True, piece_bytes=1 << 20)
    with pytest.raises(UsageError, match="for an image"):
        push(packed, Address("https://web.example/m.tar.zst"), tmp_path, image=True)
