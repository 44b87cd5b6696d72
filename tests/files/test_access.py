"""Files that the system will not read or write: one message, one exit code, no traceback."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.errors import AccessError, BundleError, SpaceError, UsageError
from bundler.files.access import check_writable, explain, raise_unless_absent
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle, tree
from tests.support.messages import Told
from tests.support.users import NOBODY, without_privileges

FILES = {"config.json": b"{}", "w.safetensors": bytes(range(256)) * 2000}


def bundle_command(*words: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], input=stdin, prog_name="bundle")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="bundle-test-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def seen(closed: Path, *, mode: int | None = None) -> dict[str, object]:
    """What a message says of the file or folder that refuses: where it is, its mode, and who is who."""
    status = closed.lstat()
    me = NOBODY if os.geteuid() == 0 else os.geteuid()
    found = stat.S_IMODE(status.st_mode) if mode is None else mode
    return {
        "closed": closed,
        "mode": f"mode {found:04o}",
        "owner": f"belongs to {user_name(status.st_uid)}, you are {user_name(me)}",
    }


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


@pytest.fixture
def bundle(open_path: Path) -> Path:
    model = locked_repo("org/m", FILES, aliases=["m"], lfs=["w.safetensors"])
    return tiny_bundle(open_path, model, contents=FILES.values())


@pytest.fixture
def home(bundle: Path, open_path: Path) -> Path:
    assert bundle_command("install", bundle, "--hf-home", open_path / "home").exit_code == 0
    return open_path / "home"


def _not_writable(home: Path) -> None:
    for path in [home, *home.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o555)


@pytest.mark.parametrize("words", [["install"], ["remove", "tiny"]])
def test_a_home_that_may_not_be_written_is_named_with_mode_and_owner(
    bundle: Path, home: Path, words: list[str], told: Told
) -> None:
    blob = next(path for path in (home / "hub/models--org--m/blobs").iterdir() if len(path.name) == 64)
    blob.write_bytes(b"damaged")
    _not_writable(home)
    before = tree(home)
    with without_privileges():
        done = bundle_command(*words, *([bundle] if words == ["install"] else []), "--hf-home", home)
    assert done.exit_code == 18, done.output
    refused = Path(done.stderr.removeprefix("error: ").partition(": Permission denied")[0])
    closed = refused.parent if refused.parent.exists() else home
    if os.geteuid() == 0:  # an owner is told otherwise
        told(
            "access", f"{words[0]} in a home that may not be written", done.stderr, refused=refused, **seen(closed)
        )
    assert tree(home) == before


def test_in_a_home_that_may_not_be_written_there_is_nothing_to_do_if_all_is_there(
    bundle: Path, home: Path
) -> None:
    _not_writable(home)
    before = tree(home)
    with without_privileges():
        done = bundle_command("install", bundle, "--hf-home", home)
    assert (done.exit_code, done.stderr.splitlines()[0]) == (
        0,
        f"nothing to do: tiny is installed in {home}: 2 files, 512 kB verified",
    )
    assert tree(home) == before


def test_on_a_read_only_mount_there_is_nothing_to_do_if_all_is_there_and_else_a_clear_error(
    bundle: Path, home: Path, told: Told
) -> None:
    script = (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99; '
        '"$0" -m bundler install "$2" --hf-home "$1"; echo "$?"; '
        '"$0" -m bundler remove tiny --hf-home "$1"; echo "$?"; '
        '"$0" -m bundler verify tiny --hf-home "$1"; echo "$?"'
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, home, bundle],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    if not done.stdout and (done.returncode == 99 or "unshare" in done.stderr):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.stdout.split() == ["0", "18", "0"], done.stderr
    told("access", "install, remove and verify on a read-only mount", done.stderr, home=home)


@pytest.mark.parametrize("words", [["list"], ["verify", "tiny"], ["verify", "tiny", "--quick"], ["path", "m"]])
@pytest.mark.parametrize(
    "place", ["bundles", "bundles/tiny.json", "hub/models--org--m", "hub/models--org--m/blobs"]
)
def test_a_cache_of_another_user_that_may_not_be_read_is_named_with_its_mode(
    home: Path, words: list[str], place: str, told: Told
) -> None:
    closed = home / place
    is_folder = closed.is_dir()
    if words == ["list"] and place.startswith("hub"):
        pytest.skip("list reads receipts only")
    closed.chmod(0)
    with without_privileges():
        done = bundle_command(*words, "--hf-home", home)
    closed.chmod(0o755 if is_folder else 0o644)
    assert done.exit_code == 18, done.output
    refused = Path(done.stderr.removeprefix("error: ").partition(": Permission denied")[0])
    assert refused.is_relative_to(closed)
    reason = done.stderr.removeprefix(f"error: {refused}: ")
    # Who only passes through a folder need not be able to list it.
    bits = "rx" if place == "bundles" else "x" if is_folder else "r"
    if os.geteuid() == 0:  # an owner is told otherwise
        reason = reason.replace(f"o+{bits} ", "o+{bits} ").replace(f"g+{bits}\n", "g+{bits}\n")
        told("access", "a cache that may not be read", reason, **seen(closed, mode=0))


def test_a_blob_that_may_not_be_read_is_no_changed_blob(home: Path, told: Told) -> None:
    blob = next((home / "hub/models--org--m/blobs").iterdir())
    blob.chmod(0)
    with without_privileges():
        done = bundle_command("verify", "tiny", "--hf-home", home)
    assert done.exit_code == 18
    if os.geteuid() == 0:
        told("access", "a file that may not be read", done.stderr, **seen(blob))


def test_a_bundle_file_that_may_not_be_read_is_named(bundle: Path, told: Told) -> None:
    bundle.chmod(0)
    with without_privileges():
        done = bundle_command("verify", bundle)
    assert done.exit_code == 18
    if os.geteuid() == 0:
        told("access", "a file that may not be read", done.stderr, **seen(bundle))


@pytest.mark.parametrize(
    "words", ["verify", "install", "inspect", "digest", "split --volume-size 1M", "join", "install --only m"]
)
def test_a_folder_is_no_bundle(tmp_path: Path, words: str) -> None:
    folder = tmp_path / "folder.tar.zst"
    folder.mkdir()
    (folder / "inner.tar.zst").mkdir()
    done = bundle_command(*words.split(), folder)
    assert done.exit_code == 7, done.output
    assert str(folder) in done.stderr
    several = bundle_command(*words.split(), folder, folder) if words not in ("digest",) else done
    assert several.exit_code == 7


@pytest.mark.parametrize("command", ["verify", "install", "inspect", "digest", "split --volume-size 1M"])
def test_a_named_pipe_is_answered_with_the_dash(tmp_path: Path, command: str, told: Told) -> None:
    pipe = tmp_path / "pipe.zst"
    os.mkfifo(pipe)
    done = bundle_command(*command.split(), pipe)
    assert done.exit_code == 2, done.output
    told("access", "a named pipe in place of a bundle", done.stderr, pipe=pipe)


@pytest.mark.parametrize("how", ["file", "stream"])
def test_a_damaged_chunk_ends_installation_with_the_code_of_verification(
    bundle: Path, tmp_path: Path, how: str
) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    assert bundle_command("verify", bundle).exit_code == 6
    if how == "file":
        done = bundle_command("install", bundle, "--hf-home", tmp_path / "home")
    else:
        code = "import sys; from bundler.cli import main; main(['install', '-', '--hf-home', sys.argv[1]])"
        process = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "home"], input=bytes(content), capture_output=True, check=False
        )
        assert process.returncode == 6, process.stderr
        return
    assert done.exit_code == 6
    assert done.stderr.startswith(f"error: {bundle}: chunk ")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, SpaceError),
        (errno.EDQUOT, SpaceError),
        (errno.EROFS, AccessError),
        (errno.EIO, AccessError),
    ],
)
def test_an_error_of_the_system_about_a_file_gets_a_code_and_the_next_step(
    number: int, kind: type[BundleError], told: Told
) -> None:
    found = explain(OSError(number, os.strerror(number), f"/hub/{COMMIT}"))
    assert type(found) is kind
    assert found.message == f"/hub/{COMMIT}: {os.strerror(number)}"
    told("access", f"the system says {errno.errorcode[number]} of a file", found)


def test_an_error_of_the_system_without_a_file_is_not_explained() -> None:
    assert explain(OSError(errno.EBADF, os.strerror(errno.EBADF))) is None


def test_a_current_folder_that_was_deleted_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        Path("home").absolute()
    found = explain(caught.value)
    assert type(found) is AccessError
    told("access", "the current folder was deleted", found)


def test_a_machine_without_a_folder_for_temporary_files_is_told_of_tmpdir(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    """The words of the standard library, with the folders of this test."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.gettempdir()
    found = explain(caught.value)
    assert type(found) is AccessError
    told("access", "there is no folder for temporary files", found)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where nobody can make a file, nor root")
def test_a_folder_that_takes_no_file_is_named(told: Told) -> None:
    with pytest.raises(UsageError) as caught:
        check_writable(Path("/proc"))
    assert caught.value.exit_code == 2
    assert isinstance(caught.value.__cause__, OSError)
    told("access", "a folder that takes no file", caught.value, reason=caught.value.__cause__.strerror)


def test_a_folder_that_takes_files_is_left_as_it_is(tmp_path: Path) -> None:
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR])
def test_an_error_that_says_that_no_file_is_there_is_let_pass(number: int) -> None:
    raise_unless_absent(OSError(number, "what the system says", "/x"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE])
def test_an_error_that_does_not_tell_whether_a_file_is_there_is_raised(number: int) -> None:
    error = OSError(number, "what the system says", "/x")
    with pytest.raises(OSError) as caught:
        raise_unless_absent(error)
    assert caught.value is error
