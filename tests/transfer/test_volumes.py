"""Bundles in volumes on a web server: read as one, and sent one by one, so that a killed push goes on."""

from __future__ import annotations

import json
import random
import re
import signal
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.errors import ChangedError, FormatError, RemoteError, UsageError
from bundler.files.digest import blake3_bytes
from bundler.format.reader import BundleReader
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES
from bundler.make.sign import sign_bundle
from bundler.make.split import split_bundle
from bundler.remote.address import Address
from bundler.remote.http import patience
from bundler.transfer.pull import pull
from bundler.transfer.push import push
from bundler.trust.paths import signature_path
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.keys import make_key
from tests.support.network.ranged import RangedServer
from tests.support.process import script

FILES = {f"w{number}": random.Random(number).randbytes(1 << 20) for number in range(5)}
LIMIT = 3 << 19
NAME = "/deep/tiny.tar.zst"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repo = locked_repo("org/m", FILES, lfs=list(FILES))
    return tiny_bundle(tmp_path_factory.mktemp("made"), repo, contents=FILES.values())


@pytest.fixture(scope="module")
def volumes(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return list(split_bundle(packed, LIMIT, tmp_path_factory.mktemp("cut") / packed.name).volumes)


@pytest.fixture
def web(volumes: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[RangedServer]:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.0,) * 5)
    with RangedServer({f"/deep/{path.name}": path.read_bytes() for path in volumes}) as server:
        yield server


def bundle(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("suffix", ["", ".001", ".003"])
@pytest.mark.parametrize("has_ranges", [True, False])
def test_they_are_read_as_the_bundle_that_they_are(
    web: RangedServer,
    packed: Path,
    tmp_path: Path,
    suffix: str,
    has_ranges: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    web.ignores_ranges = not has_ranges
    address = f"{web.url}{NAME}{suffix}"
    assert bundle("digest", address).stdout == bundle("digest", packed).stdout
    assert bundle("verify", address).exit_code == 0
    bundle("install", address, "--hf-home", tmp_path / "remote")
    bundle("install", packed, "--hf-home", tmp_path / "file")
    assert tree(tmp_path / "remote") == tree(tmp_path / "file")
    assert list(temporary.iterdir()) == []


def test_a_file_of_them_is_read_by_ranges(web: RangedServer) -> None:
    done = CliRunner().invoke(main, ["cat", f"{web.url}{NAME}", "org/m", "w3"], catch_exceptions=False)
    assert done.stdout_bytes == FILES["w3"]
    assert web.sent_bytes < 1.5 * len(FILES["w3"])


def test_a_pull_joins_them_and_brings_the_signature(
    web: RangedServer, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(packed, make_key(tmp_path).path)
    made = packed.with_name(f"{packed.name}.sig")
    web.files[f"{NAME}.sig"] = made.read_bytes()
    made.unlink()
    monkeypatch.chdir(tmp_path)
    for suffix in ("", ".002"):
        pulled = pull(Address(f"{web.url}{NAME}{suffix}"))
        assert pulled.path == tmp_path / "tiny.tar.zst"
        assert pulled.path.read_bytes() == packed.read_bytes()
        assert pulled.signature is not None
        pulled.path.unlink()
        pulled.signature.unlink()


def test_a_bundle_that_is_only_named_as_a_volume_keeps_its_name_and_its_signature(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(packed, make_key(tmp_path).path)
    made = packed.with_name(f"{packed.name}.sig")
    monkeypatch.chdir(tmp_path)
    with RangedServer({"/model.2024": packed.read_bytes(), "/model.2024.sig": made.read_bytes()}) as web:
        pulled = pull(Address(f"{web.url}/model.2024"))
    made.unlink()
    assert (pulled.path, pulled.signature) == (tmp_path / "model.2024", tmp_path / "model.2024.sig")
    assert pulled.path.read_bytes() == packed.read_bytes()
    assert signature_path(pulled.path) == pulled.signature
    with RangedServer({}) as web:
        # In volumes, under such a name too.
        address = Address(f"{web.url}/model.2024")
        push(pulled.path, address, piece_bytes=LIMIT)
        assert sorted(web.files) == [*(f"/model.2024.00{number}" for number in range(1, 6)), "/model.2024.sig"]
        assert pull(address, tmp_path / "again").signature is not None
        with BundleReader(address) as there, BundleReader(packed) as here:
            assert there.digest == here.digest


def test_a_whole_bundle_of_that_name_goes_before_them(web: RangedServer, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path, locked_repo("org/o", {"o": b"o"}), contents=[b"o"])
    web.files[NAME] = other.read_bytes()
    with BundleReader(Address(f"{web.url}{NAME}")) as reader, BundleReader(other) as expected:
        assert reader.digest == expected.digest


def _rewrite(content: bytes, offset: int, field: bytes) -> bytes:
    """A volume with another header, whose digest is right."""
    end = VOLUME_HEAD_BYTES - 32
    head = content[:offset] + field + content[offset + len(field) : end]
    return head + blake3_bytes(head) + content[VOLUME_HEAD_BYTES:]


def drop(files: dict[str, bytes]) -> None:
    del files[f"{NAME}.002"]


def swap(files: dict[str, bytes]) -> None:
    files[f"{NAME}.001"], files[f"{NAME}.002"] = files[f"{NAME}.002"], files[f"{NAME}.001"]


def cut(files: dict[str, bytes]) -> None:
    files[f"{NAME}.003"] = files[f"{NAME}.003"][:-1]


def empty(files: dict[str, bytes]) -> None:
    files[f"{NAME}.002"] = b""


def damage(files: dict[str, bytes]) -> None:
    files[f"{NAME}.002"] = files[f"{NAME}.002"][:40] + b"?" + files[f"{NAME}.002"][41:]


def replace(files: dict[str, bytes]) -> None:
    files[f"{NAME}.002"] = b"<html>" * 100


def mix(files: dict[str, bytes]) -> None:
    # The digest of the bundle.
    files[f"{NAME}.002"] = _rewrite(files[f"{NAME}.002"], 57, bytes(32))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (drop, "missing: volume 2 of "),
        (swap, "is volume 1 of [0-9]+, but is named as number 2"),
        (cut, "volume 3 of [0-9]+ has another length"),
        (empty, "002: expected a volume header"),
        (damage, "volume header is damaged"),
        (replace, "002: expected a volume header"),
        (mix, r"002: is volume 2 of [0-9]+ of another bundle"),
    ],
)
def test_what_is_not_one_complete_set_is_refused_by_name(
    web: RangedServer, spoil: Callable[[dict[str, bytes]], None], said: str
) -> None:
    spoil(web.files)
    with pytest.raises(FormatError, match=f"(?s)not one complete set of volumes.*{said}"):
        BundleReader(Address(f"{web.url}{NAME}"))


@pytest.mark.parametrize("place", [NAME, f"{NAME}.003"])
def test_what_one_may_not_look_at_is_not_taken_for_missing(web: RangedServer, place: str) -> None:
    web.status = lambda request: 403 if request.path == place else None
    with pytest.raises(RemoteError, match=re.escape(place)) as caught:
        BundleReader(Address(f"{web.url}{NAME}"))
    assert caught.value.status == 403


def test_volumes_share_their_connections(web: RangedServer) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with BundleReader(Address(f"{web.url}{NAME}")) as reader:
        for number in range(len(reader.index.chunks)):
            reader.stored_chunk(number)
        # Those of the server are in this process too.
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4


def test_without_ranges_too_the_headers_are_compared_with_the_bundle(web: RangedServer, tmp_path: Path) -> None:
    web.ignores_ranges = True
    for name, content in web.files.items():
        web.files[name] = _rewrite(content, 57, b"\x11" * 32)
    done = bundle("install", f"{web.url}{NAME}", "--hf-home", tmp_path / "home", code=7)
    assert "digest that its address promises" in done.stderr


def test_how_many_there_are_is_not_believed_without_limit(web: RangedServer) -> None:
    web.files[f"{NAME}.001"] = _rewrite(web.files[f"{NAME}.001"], 29, struct.pack("<I", 4_000_000_000))
    with pytest.raises(FormatError, match="4,000,000,000 volumes, expected at most 999"):
        BundleReader(Address(f"{web.url}{NAME}"))
    assert len(web.requests) < 5


def test_where_neither_is_there_the_bundle_is_what_is_said_to_be_missing(web: RangedServer) -> None:
    with pytest.raises(RemoteError, match=r"none\.tar\.zst: ") as caught:
        BundleReader(Address(f"{web.url}/none.tar.zst"))
    assert caught.value.status == 404


def test_a_damaged_chunk_is_found(web: RangedServer) -> None:
    content = web.files[f"{NAME}.002"]
    web.files[f"{NAME}.002"] = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    assert "chunk" in bundle("verify", f"{web.url}{NAME}", code=6).stderr


def test_a_bundle_is_sent_in_volumes_and_what_is_there_is_not_sent_again(
    packed: Path, volumes: list[Path], tmp_path: Path
) -> None:
    with RangedServer({}) as web:
        address = f"{web.url}{NAME}"
        key = make_key(tmp_path).path
        sign_bundle(packed, key)
        words = ["push", packed, address, "--piece-size", LIMIT, "--json"]
        pushed = json.loads(bundle(*words).stdout)
        assert pushed["sent_bytes"] == sum(path.stat().st_size for path in volumes)
        there = {f"/deep/{path.name}": path.read_bytes() for path in volumes}
        signature = packed.with_name(f"{packed.name}.sig")
        assert web.files == {**there, f"{NAME}.sig": signature.read_bytes()}
        assert json.loads(bundle(*words).stdout)["sent_bytes"] == 0
        signature.unlink()
        # One that was cut short, one of another bundle, and one that is empty.
        web.files[f"{NAME}.004"] = b""
        web.files[f"{NAME}.002"] = web.files[f"{NAME}.002"][:-1]
        web.files[f"{NAME}.003"] = _rewrite(web.files[f"{NAME}.003"], 57, bytes(32))
        sent = json.loads(bundle(*words).stdout)["sent_bytes"]
        assert sent == sum(path.stat().st_size for path in volumes[1:4])
        assert {name: web.files[name] for name in there} == there


def test_a_push_that_was_killed_goes_on_behind_the_last_whole_volume(packed: Path, volumes: list[Path]) -> None:
    with RangedServer({}) as web:
        reached = threading.Event()

        def hold(path: str) -> None:
            if path.endswith(".003"):
                reached.set()
                threading.Event().wait(30)

        web.before_put = hold
        words = [script("bundle"), "push", packed, f"{web.url}{NAME}", "--piece-size", str(LIMIT), "--json"]
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert reached.wait(60)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert sorted(web.files) == [f"{NAME}.001", f"{NAME}.002"]
        web.before_put = lambda path: None
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["sent_bytes"] == sum(path.stat().st_size for path in volumes[2:])
        with BundleReader(Address(f"{web.url}{NAME}")) as there, BundleReader(packed) as here:
            assert there.digest == here.digest


def test_volumes_are_not_put_beside_another_object_of_their_name(packed: Path) -> None:
    with RangedServer({NAME: b"another"}) as web:
        with pytest.raises(UsageError, match="found another object, which would be read instead"):
            push(packed, Address(f"{web.url}{NAME}"), piece_bytes=LIMIT)
        assert web.files == {NAME: b"another"}


def test_a_push_says_so_where_another_bundle_came_in_between(packed: Path, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path, locked_repo("org/o", FILES, lfs=list(FILES)), contents=FILES.values())
    with RangedServer({}) as web:
        address = Address(f"{web.url}{NAME}")

        def come_in_between(path: str) -> None:
            if path.endswith(".004"):
                web.before_put = lambda path: None
                push(other, address, piece_bytes=LIMIT)

        web.before_put = come_in_between
        with pytest.raises(ChangedError, match="is not what stands there now"):
            push(packed, address, piece_bytes=LIMIT)


def test_a_folder_is_no_name_for_volumes(packed: Path) -> None:
    with RangedServer({}) as web:
        with pytest.raises(UsageError, match="found that of a folder"):
            push(packed, Address(f"{web.url}/deep/"), piece_bytes=LIMIT)
        assert web.files == {}


def test_volumes_that_are_too_short_are_refused(packed: Path) -> None:
    with RangedServer({}) as web:
        with pytest.raises(UsageError, match="is too small") as caught:
            push(packed, Address(f"{web.url}{NAME}"), piece_bytes=1 << 20)
        assert "--piece-size" in (caught.value.hint or "")
        assert web.files == {}
