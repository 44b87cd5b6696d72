"""Gives a hostile file to every command that takes a bundle, and measures what each takes: `make soak-bounds`.

    python -m tests.hostile.commands [--differing] [NAME …]

With `--differing` a file that takes long is given to those commands only that differ in what they read. Each runs in a
process of its own, forked from one that has imported what they need; seconds are those of a processor.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import sys
import tempfile
import traceback
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bundler.cli import main as bundle
from bundler.errors import BundleError
from bundler.format.reader import BundleReader
from tests.hostile import bombs
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.hub import RunningHub

MOST_KIB = 300 << 10
MOST_SECONDS = 5
JOBS = ("--jobs", "64")
SCREEN_BYTES, SCREEN_LINES = 12_000, 60
_ENDED_BADLY = 99

# The suite gives these files, which take all commands 3 to 25 s together, to DIFFERING only.
SLOW = {
    "as many differences as it may hold",
    "as many volumes as fit",
    "as many zeros as it may hold",
    "as many zeros as it may hold, in long chunks",
    "differences from chunks of 64 MiB",
    "differences over differences",
    "lock of one content",
    "right in all but the last",
    "short differences from long chunks",
    "short differences from short differences",
    "short differences, as many as it may hold",
}
# `verify` reads all, in order (as `repair` and `open_blob` do); `install` reads what a file needs from where it stands
# (`--only` less of it, `--dry-run` nothing of contents); `install -` reads a stream, without going back; `serve` reads
# one content at a time, in any order (`cat` reads one); `inspect` reads the index and the lock (as `digest`, `diff`,
# `sbom`, `policy check` and `verify --base` do); `split` and `parity` copy what they do not understand.
DIFFERING = {"verify", "install", "install -", "serve", "inspect", "split", "parity"}
# What reads content must find what is wrong; what reads only what the bundle says of itself need not.
READ_CONTENT = {"verify", "install", "install -", "install --only", "repair"}


@dataclass(frozen=True)
class Taken:
    """What a command took of a file.

    Attributes:
        command: Its name.
        code: Its exit code.
        seconds: Of a processor.
        peak_kib: Memory, with what the interpreter takes.
        said: What it wrote on standard error.
    """

    command: str
    code: int
    seconds: float
    peak_kib: int
    said: str

    def faults(self) -> list[str]:
        """Return what is wrong with that."""
        return [
            text
            for text, is_wrong in {
                f"took {self.peak_kib >> 10} MiB": self.peak_kib > MOST_KIB,
                f"took {self.seconds} s": self.seconds > MOST_SECONDS,
                f"ended with {self.code}": self.code < 0 or self.code == _ENDED_BADLY,
                f"took it for right ({self.code})": self.command in READ_CONTENT and self.code < 2,
                "traceback": "Traceback" in self.said,
                "more than a screen": len(self.said) > SCREEN_BYTES or self.said.count("\n") > SCREEN_LINES,
            }.items()
            if is_wrong
        ]


def commands(path: Path, folder: Path, honest: Path) -> dict[str, Sequence[str]]:
    """Return the command lines by name.

    Args:
        path: The hostile file.
        folder: For what they write.
        honest: A bundle that is right.
    """
    home, file = str(folder / "home"), str(path)
    (folder / "policy.yaml").write_text(
        "version: 1\nrules: [{bundles: ['*'], signature: optional, licenses: {allowed: [MIT]}}]\n"
    )
    return {
        "verify": ["verify", file, *JOBS],
        "verify --base": ["verify", str(honest), "--base", file, *JOBS],
        "install": ["install", file, "--hf-home", home, *JOBS],
        "install -": ["install", "-", "--hf-home", home, *JOBS],
        "install --only": ["install", file, "--hf-home", home, "--only", "org/m", *JOBS],
        "install --dry-run": ["install", file, "--hf-home", home, "--dry-run"],
        "inspect": ["inspect", file, "--files"],
        "digest": ["digest", file],
        "cat": ["cat", file, "org/m", "2.bin", *JOBS],
        "diff": ["diff", file, str(honest)],
        "sbom": ["sbom", file],
        "sbom --format spdx": ["sbom", file, "--format", "spdx"],
        "policy check": ["policy", "check", file, "--policy", str(folder / "policy.yaml")],
        "split": ["split", file, "-o", str(folder / "parts"), "--volume-size", "1MB"],
        "parity": ["parity", file],
        "repair": ["repair", file, "--parity", file],
    }


def measure(name: str, command: Callable[[], object], folder: Path, stdin: Path) -> Taken:
    """Run something in a fork of this process."""
    log = folder / "said"
    child = os.fork()
    if child == 0:
        code = _ENDED_BADLY
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(stdin, os.O_RDONLY), 0)
            command()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BundleError as error:
            print(error, file=sys.stderr)
            code = 3
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    seconds = round(used.ru_utime + used.ru_stime, 1)
    return Taken(name, os.waitstatus_to_exitcode(status), seconds, used.ru_maxrss, log.read_text(errors="replace"))


def try_all(content: bytes, folder: Path, honest: Path, only: set[str] | None = None) -> list[Taken]:
    """Give a hostile file to all commands, or to some; nothing of it may be installed."""
    path = bombs.write(folder / "tiny.tar.zst", content)
    works: dict[str, Callable[[], object]] = {
        name: functools.partial(bundle, line, prog_name="bundle")
        for name, line in commands(path, folder, honest).items()
    }
    works["open_blob"] = functools.partial(_read_all, path)
    works["serve"] = functools.partial(_serve_all, path)
    found = [measure(name, work, folder, path) for name, work in works.items() if only is None or name in only]
    shown = [each for each in (folder / "home").rglob("*") if each.suffix == ".bin"]
    assert not shown, shown
    return found


def _read_all(path: Path) -> None:
    with BundleReader(path) as reader:
        for blob in reader.plan.layout.blobs:
            with reader.open_blob(blob) as stream:
                while stream.read(1 << 20):
                    pass


def _serve_all(path: Path) -> None:
    """Serve a file, and ask for what its lock lists, whether it comes or not; no process of its own, so both count."""
    with RunningHub(path) as hub, BundleReader(path) as reader:
        for repo in reader.lock.repos[:20]:
            paths = [f"resolve/{repo.commit}/{file.path}" for file in repo.files[:100]]
            for address in (f"api/models/{repo.repo_id}/tree/main", *(f"{repo.repo_id}/{path}" for path in paths)):
                with (
                    contextlib.suppress(OSError, http.client.HTTPException),
                    urllib.request.urlopen(f"{hub.endpoint}/{address}") as answer,
                ):
                    while answer.read(1 << 20):
                        pass


def show(name: str, taken: Taken) -> bool:
    """Print a row about a file; tell whether something is wrong with it."""
    faults = taken.faults()
    row = [name, taken.command, taken.code, taken.seconds, taken.peak_kib >> 10, faults]
    print(json.dumps(row), flush=True)
    return bool(faults)


def import_all() -> None:
    """Import what the commands import when they run."""
    context = click.Context(bundle)
    for name in bundle.list_commands(context):
        bundle.get_command(context, name)


def main() -> None:
    """Print what each command takes of each file; end with 1 where it is too much."""
    import_all()
    bad = 0
    words = sys.argv[1:]
    differing = "--differing" in words
    for name in [word for word in words if word != "--differing"] or bombs.BUNDLES:
        with tempfile.TemporaryDirectory(prefix="bounds-") as temporary:
            folder = Path(temporary)
            honest = tiny_bundle(folder / "honest", locked_repo("org/m", {"2.bin": b"x"}), contents=[b"x"])
            only = DIFFERING if differing and name in SLOW else None
            for one in try_all(bombs.BUNDLES[name](), folder, honest, only):
                bad += show(name, one)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
