"""Pulls that are killed, of objects that change, and of what is no bundle."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundler.errors import ChangedError, DamagedError, FormatError, RemoteError, SpaceError, UsageError
from bundler.make.sign import sign_bundle
from bundler.remote.address import Address
from bundler.remote.http import patience
from bundler.transfer import partial
from bundler.transfer.partial import PartialFile
from bundler.transfer.pull import pull
from bundler.transfer.push import push
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.keys import make_key
from tests.support.network.ranged import RangedServer
from tests.support.network.spec_registry import SpecRegistry
from tests.support.process import Child, run, script

FILES = {"w": random.Random(1).randbytes(6 << 20), "c": b"c"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(
        tmp_path_factory.mktemp("made"), locked_repo("org/m", FILES, lfs=["w"]), contents=FILES.values()
    )


@pytest.fixture
def web(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangedServer]:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.0,) * 5)
    with RangedServer({"/tiny.tar.zst": packed.read_bytes()}) as server:
        yield server
        server.released.set()


def address(web: RangedServer) -> Address:
    return Address(f"{web.url}/tiny.tar.zst")


def there(path: Path) -> int:
    """How much a killed pull has left of the only part."""
    note = path.with_name(f".{path.name}.partial.note")
    try:
        return int.from_bytes(note.read_bytes()[4096:4104], "little")
    except FileNotFoundError:
        return 0


def test_a_pull_that_is_killed_again_and_again_takes_no_byte_twice(
    packed: Path, web: RangedServer, tmp_path: Path
) -> None:
    out, kept = tmp_path / "out.tar.zst", 0
    # What is asked for first, to see what the server can, is no part of it.
    web.holds = lambda request: None if request.first == 0 and request.last == (64 << 10) - 1 else 700_000
    for _ in range(4):
        with Child([script("bundle"), "pull", str(address(web)), "-o", out], stderr=subprocess.DEVNULL) as child:
            while there(out) < kept + 700_000 and child.poll() is None:
                time.sleep(0.005)
            child.send_signal(signal.SIGKILL)
        kept += 700_000
        assert there(out) == kept
        assert not out.exists()
        assert [request.first for request in web.requests if request.first] == list(range(700_000, kept, 700_000))
    web.holds = lambda request: None
    pulled = pull(address(web), out)
    assert pulled.received_bytes == packed.stat().st_size - kept
    assert web.requests[-2].first == kept
    assert out.read_bytes() == packed.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_parts_come_side_by_side(
    packed: Path, web: RangedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "PART_BYTES", 1 << 20)
    web.breaks = lambda request: 300_000
    pull(address(web), tmp_path / "out.tar.zst")
    assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()


def test_a_server_without_ranges_is_pulled_in_order(packed: Path, web: RangedServer, tmp_path: Path) -> None:
    web.ignores_ranges = True
    pull(address(web), tmp_path / "out.tar.zst")
    assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()


def test_an_object_that_changed_since_is_pulled_anew_and_one_that_changes_is_noticed(
    packed: Path, web: RangedServer, tmp_path: Path
) -> None:
    out = tmp_path / "out.tar.zst"
    with PartialFile(out, '"0"', packed.stat().st_size) as left:
        left.begin()
        left.write(0, memoryview(b"another object" * 1000))
    web.status = lambda request: setattr(web, "etag", '"2"') if request.first else None
    web.holds = lambda request: None
    with pytest.raises(ChangedError):
        # The first range of the file begins behind its first bytes.
        with PartialFile(out, '"1"', packed.stat().st_size) as begun:
            begun.begin()
            begun.write(0, memoryview(packed.read_bytes()[:1000]))
        pull(address(web), out)
    web.status = lambda request: None
    assert pull(address(web), out).received_bytes == packed.stat().st_size
    assert out.read_bytes() == packed.read_bytes()


def test_what_is_damaged_or_no_bundle_leaves_nothing(packed: Path, web: RangedServer, tmp_path: Path) -> None:
    damaged = bytearray(packed.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    for content, error in ((bytes(damaged), DamagedError), (b"<html>" * 100, FormatError)):
        web.files["/tiny.tar.zst"] = content
        with pytest.raises(error) as caught:
            pull(address(web), tmp_path / "out.tar.zst")
        assert caught.value.message.startswith(f"{address(web)}: ")
        assert "address" in str(caught.value.hint)
        assert list(tmp_path.iterdir()) == []


def test_a_signature_of_an_earlier_file_is_set_aside_and_one_of_this_stays(
    packed: Path, web: RangedServer, tmp_path: Path
) -> None:
    out, old = tmp_path / "out.tar.zst", tmp_path / "out.tar.zst.sig"
    old.write_bytes(b"of another")
    assert pull(address(web), out).signature is None
    assert (tmp_path / "out.tar.zst.sig.old").read_bytes() == b"of another"
    assert not old.exists()
    sign_bundle(out, make_key(tmp_path).path)
    signature = old.read_bytes()
    pull(address(web), out)
    assert old.read_bytes() == signature


def test_a_signature_that_cannot_be_had_leaves_the_earlier_file_and_what_came(
    packed: Path, web: RangedServer, tmp_path: Path
) -> None:
    out = tmp_path / "out.tar.zst"
    out.write_bytes(b"an earlier file")
    web.status = lambda request: 500 if request.path.endswith(".sig") else None
    with pytest.raises(RemoteError, match="answered 500"):
        pull(address(web), out)
    assert out.read_bytes() == b"an earlier file"
    web.status = lambda request: None
    assert pull(address(web), out).received_bytes == 0
    assert out.read_bytes() == packed.read_bytes()


def test_a_tag_that_moves_meanwhile_is_noticed(packed: Path, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path / "other", locked_repo("org/o", {"c": b"c"}), contents=[b"c"])
    key = make_key(tmp_path).path
    sign_bundle(other, key)
    with SpecRegistry() as registry:
        push(packed, Address(registry.address("a/x:1")), tmp_path / "notes")
        before = registry.manifests["1"]
        push(other, Address(registry.address("a/x:1")), tmp_path / "notes")
        after, registry.manifests["1"] = registry.manifests["1"], before
        out = tmp_path / "out.tar.zst"
        with pytest.raises(ChangedError, match="leads to sha256:"):
            # Between the last byte and the question for its signature.
            pull(
                Address(registry.address("a/x:1")), out, progress=lambda _: registry.manifests.update({"1": after})
            )
        assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_says_nothing_is_not_waited_for_after_a_signal(
    number: signal.Signals, packed: Path, web: RangedServer, tmp_path: Path
) -> None:
    out = tmp_path / "out.tar.zst"
    web.holds = lambda request: None if request.first == 0 and request.last == (64 << 10) - 1 else 700_000
    with Child([script("bundle"), "pull", str(address(web)), "-o", out], stderr=subprocess.DEVNULL) as child:
        while there(out) < 700_000 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(number)
        # The server says nothing for a minute.
        assert child.wait(timeout=30) == 128 + number
    assert there(out) == 700_000


def test_a_disk_that_fills_is_no_fault_of_the_server(packed: Path, web: RangedServer, tmp_path: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from bundler.errors import SpaceError
        from bundler.remote.address import Address
        from bundler.transfer import pull

        pull.check_room = lambda needs: None
        try:
            pull.pull(Address(sys.argv[1]), Path(sys.argv[2]))
        except SpaceError as error:
            print(error)
        """
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o size=4m none '{tmp_path / 'small'}' && exec " + '"$@"'
    wrapped = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*wrapped, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel gives no mount namespace")
    program = [sys.executable, "-c", textwrap.dedent(code), str(address(web)), tmp_path / "small" / "out.tar.zst"]
    assert (
        f"{tmp_path / 'small'}: the file system is full; what arrived is kept" in run([*wrapped, *program]).stdout
    )
    assert len(web.requests) == 2


def test_a_server_without_ranges_that_breaks_is_asked_from_the_start_again(
    packed: Path, web: RangedServer, tmp_path: Path
) -> None:
    web.ignores_ranges = True
    ends = [None, 100_000, 3_000_000, None]
    web.breaks = lambda request: ends.pop(0) if ends else None
    counted: list[int] = []
    pull(address(web), tmp_path / "out.tar.zst", progress=counted.append)
    assert (tmp_path / "out.tar.zst").read_bytes() == packed.read_bytes()
    assert sum(counted) == packed.stat().st_size and not ends


def test_a_server_without_a_length_is_refused_and_what_takes_it_named(web: RangedServer, tmp_path: Path) -> None:
    web.ignores_ranges, web.length = True, ""
    with pytest.raises(RemoteError, match="does not say how long it is") as caught:
        pull(address(web), tmp_path / "out.tar.zst")
    assert "bundle install" in str(caught.value.hint) and list(tmp_path.iterdir()) == []


def test_two_pulls_of_one_file_do_not_mix(packed: Path, web: RangedServer, tmp_path: Path) -> None:
    out = tmp_path / "out.tar.zst"
    with PartialFile(out, '"1"', packed.stat().st_size), pytest.raises(UsageError):
        pull(address(web), out)


@pytest.mark.parametrize("suffix", [".partial", ".partial.note"])
@pytest.mark.parametrize("kind", ["link", "second name", "others write it", "pipe"])
def test_nothing_is_written_to_what_somebody_else_put_at_the_names_of_a_pull(
    suffix: str, kind: str, packed: Path, web: RangedServer, tmp_path: Path
) -> None:
    out, theirs = tmp_path / "out.tar.zst", tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    name = tmp_path / f".{out.name}{suffix}"
    if kind == "link":
        name.symlink_to(theirs)
    elif kind == "second name":
        name.hardlink_to(theirs)
    elif kind == "pipe":
        os.mkfifo(name)
    else:
        name.touch()
        name.chmod(0o666)
    with name.open("r+b") if kind == "others write it" else theirs.open("rb") as held:
        pull(address(web), out)
        assert not os.path.samestat(os.fstat(held.fileno()), out.lstat())
    assert theirs.read_bytes() == b"theirs"
    assert not out.is_symlink()
    assert out.read_bytes() == packed.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {out.name, theirs.name}


@pytest.mark.parametrize("last", ["%2e%2e%2Fescaped", "..", "%2e", "x%00y", "a%0Ab", "%5Cx", "a" * 250])
def test_an_address_names_no_file_outside_the_folder(
    last: str, web: RangedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError):
        pull(Address(f"{web.url}/a/{last}"))
    assert web.requests == []
    assert list(tmp_path.rglob("*")) == [folder]


def test_a_file_that_is_replaced_before_it_has_its_name_is_not_given_it(tmp_path: Path) -> None:
    out = tmp_path / "out.tar.zst"
    with PartialFile(out, '"1"', 3) as begun:
        begun.begin()
        begun.write(0, memoryview(b"abc"))
        begun.path.unlink()
        begun.path.write_bytes(b"xyz")
        with pytest.raises(ChangedError):
            begun.finish()
    assert not out.exists()


@pytest.mark.parametrize("damage", ["short", "beyond"])
def test_a_malformed_note_counts_as_none(damage: str, packed: Path, web: RangedServer, tmp_path: Path) -> None:
    out, note = tmp_path / "out.tar.zst", tmp_path / ".out.tar.zst.partial.note"
    with PartialFile(out, '"1"', packed.stat().st_size) as begun:
        begun.begin()
    content = note.read_bytes()
    note.write_bytes(content[:-1] if damage == "short" else content[:-8] + b"\xff" * 8)
    assert pull(address(web), out).received_bytes == packed.stat().st_size
    assert out.read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("total", [None, 100_000_000_000_000_000], ids=["true length", "a length beyond any list"])
def test_no_room_for_it_leaves_nothing(
    total: int | None, web: RangedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.total = total
    nothing_free = SimpleNamespace(total=1 << 20, used=1 << 20, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: nothing_free)
    with pytest.raises(SpaceError):
        pull(address(web), tmp_path / "out.tar.zst")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_says_so(web: RangedServer, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(2)):
        pull(address(web), tmp_path / "none" / "out.tar.zst")
