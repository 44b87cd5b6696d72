"""bundler.parity.targets: nothing is written over that is not known to be the bundle's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from bundler.errors import FormatError, IntegrityError, UsageError
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, parse_volume_head
from bundler.make.split import split_bundle
from bundler.parity.bundle import make_bundle_parity, repair_bundle
from tests.parity.damage import TENTH, contents, damage
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.process import run_python
from tests.support.users import make_open_folder, without_privileges

HALF = Fraction(1, 2)


@pytest.fixture
def protected(volumes: list[Path]) -> list[Path]:
    """Volumes with parity of a half of them."""
    make_bundle_parity([volumes[0]], HALF)
    return volumes


def link_to(name: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(name)

    return link


def link_hard(name: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink()
        path.hardlink_to(path.with_name(name))

    return link


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(link_hard("demo.tar.zst.001"), id="a volume by a hard link"),
        pytest.param(link_hard("demo.tar.zst.parity.001"), id="parity by a hard link"),
        pytest.param(link_hard("precious"), id="something else by a hard link"),
        pytest.param(link_to("demo.tar.zst.001"), id="a volume by a link"),
        pytest.param(link_to("demo.tar.zst.parity.001"), id="parity by a link"),
        pytest.param(link_to("precious"), id="something else by a link"),
        pytest.param(link_to("absent"), id="a link to nothing"),
        pytest.param(link_to("demo.tar.zst.002"), id="a link to itself"),
        pytest.param(link_to("/dev/null"), id="a device by a link"),
    ],
)
def test_what_stands_for_two_volumes_is_replaced_and_not_written_over(
    protected: list[Path], spoil: Callable[[Path], None]
) -> None:
    folder = protected[0].parent
    (folder / "precious").write_bytes(b"my own")
    good = contents(folder)
    for path in (protected[1], protected[4]):
        spoil(path)
    notes: list[str] = []
    done = repair_bundle(folder / "demo.tar.zst", on_note=notes.append)
    assert done.files == (protected[1], protected[4])
    assert contents(folder) == good
    assert not protected[1].is_symlink()
    assert sum("the link is replaced" in note for note in notes) in (0, 2)
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_what_is_no_file_is_refused(protected: list[Path], put: Callable[[Path], None]) -> None:
    good = contents(protected[0].parent)
    protected[1].unlink()
    put(protected[1])
    damage(protected[0], [1000])
    with pytest.raises(
        UsageError, match=r"002: expected a file of the bundle, found a (pipe|folder).*nothing was"
    ):
        repair_bundle(protected[0])
    assert protected[0].read_bytes() != good[protected[0].name]


def test_a_file_that_may_not_be_read_is_not_missing(protected: list[Path]) -> None:
    with contextmanager(make_open_folder)() as folder:
        for path in protected[0].parent.iterdir():
            shutil.copy(path, folder)
        unreadable = folder / protected[1].name
        unreadable.chmod(0)
        with without_privileges(), pytest.raises(PermissionError) as caught:
            repair_bundle(unreadable)
        assert caught.value.filename == str(unreadable)


@pytest.mark.parametrize("spoil", [b"", b"x", None], ids=["whole", "longer", "cut"])
def test_a_volume_of_another_bundle_is_not_touched(
    protected: list[Path], tmp_path: Path, spoil: bytes | None
) -> None:
    content = {f"w{number}": bytes([number]) * 60_000 for number in range(4)}
    other = tiny_bundle(tmp_path / "other", locked_repo("org/o", content), contents=content.values(), name="demo")
    (tmp_path / "others").mkdir()
    foreign = split_bundle(other, 20_000, tmp_path / "others" / "demo.tar.zst").volumes[0].read_bytes()
    protected[1].write_bytes(foreign[:-1] if spoil is None else foreign + spoil)
    before = contents(protected[0].parent)
    with pytest.raises(FormatError, match=r"002 is of bundle sha256:.*nothing was changed"):
        repair_bundle(protected[0])
    assert contents(protected[0].parent) == before


def test_volumes_of_another_split_are_not_touched(protected: list[Path], tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    again = split_bundle(tmp_path / "whole" / "demo.tar.zst", 30_000, tmp_path / "split" / "demo.tar.zst").volumes
    for path in protected[0].parent.glob("*.parity.*"):
        shutil.copy(path, again[0].parent)
    before = contents(again[0].parent)
    with pytest.raises(FormatError, match=r"is one of .* volumes, and the parity is of a split"):
        repair_bundle(again[0])
    assert contents(again[0].parent) == before


def test_parity_that_lies_about_the_digest_of_a_volume_changes_nothing(volumes: list[Path]) -> None:
    good = volumes[0].read_bytes()
    header = parse_volume_head(good[:VOLUME_HEAD_BYTES])
    lie = type(header)(**{**vars(header), "part_blake3": bytes(32)}).pack()
    volumes[0].write_bytes(lie + good[VOLUME_HEAD_BYTES:])
    make_bundle_parity([volumes[0]], HALF)
    volumes[0].write_bytes(good)
    with pytest.raises(IntegrityError, match=r"does not verify: changed: .*001.*nothing was changed"):
        repair_bundle(volumes[0])
    assert volumes[0].read_bytes() == good


def test_volumes_that_were_joined_are_one_file(volumes: list[Path], tmp_path: Path) -> None:
    joined = tmp_path / "joined.tar.zst"
    good = b"".join(path.read_bytes() for path in volumes)
    joined.write_bytes(good)
    make_bundle_parity([joined], TENTH)
    damage(joined, [0, 1000, 100_000])
    os.truncate(joined, len(good) - 1)
    assert repair_bundle(joined).files == (joined,)
    assert joined.read_bytes() == good


def test_an_error_of_the_system_names_the_file(protected: list[Path]) -> None:
    protected[1].unlink()
    run_python(
        f"""
        import resource, signal
        from pathlib import Path
        from bundler.parity.bundle import repair_bundle

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            repair_bundle(Path({str(protected[0])!r}))
        except OSError as error:
            assert error.filename == {str(protected[1])!r}, error
        else:
            raise AssertionError("it was written")
        """
    )
    assert not protected[1].exists()
    assert not list(protected[0].parent.glob(".bundle-tmp-*"))
