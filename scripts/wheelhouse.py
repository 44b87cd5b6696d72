"""Gathers what a machine without internet installs: what `make wheelhouse` runs.

    make wheelhouse PYTHON=3.12 PLATFORM=manylinux_2_28_x86_64
    make wheelhouse PYTHON=3.12 PLATFORM=manylinux_2_28_x86_64 WHEELHOUSE_FLAGS='--extra train'
    make wheelhouse PYTHON=3.12 PLATFORM=manylinux_2_28_x86_64 WHEELHOUSE_FLAGS='--extra train --find-links cpu-torch'

Rule book:

* what is chosen is what the other machine wants, whatever this one is: uv resolves for its Python and platform. pip
  would ask this machine whether a requirement is for Linux;
* versions are those of constraints.txt, as everywhere in this repository; where `--find-links` has one of them with a
  local version (2.13.0+cpu), that goes before the index;
* the folder holds wheels only, so nothing is built there; pip is among them, since many machines have a Python without;
* each wheel is compared with the hash that the index names, and stands with its hash in `requirements.txt`, so that pip
  refuses what was changed on the way.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import click

from bundler.files.digest import hash_file
from scripts.release import ROOT, CheckFailedError, run
from scripts.wheels import COMPILERS, build_environment, can_compile

_PLATFORM = re.compile(r"manylinux_2_(?P<glibc>\d+)_(?P<machine>x86_64|aarch64)")
# The oldest glibc for which there are wheels, and the names that some had before PEP 600.
_OLDEST_GLIBC = 5
_OLD_NAMES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
REQUIREMENTS = "requirements.txt"


def list_platforms(platform: str) -> list[str]:
    """Return the tags of all wheels that a platform takes, the newest first (PEP 600).

    Raises:
        BadParameter: It is none that is known.
    """
    found = _PLATFORM.fullmatch(platform)
    if found is None:
        raise click.BadParameter(
            f"expected manylinux_2_N_x86_64 or manylinux_2_N_aarch64, found {platform!r}; N is the machine's glibc: "
            "`ldd --version` says 2.N there",
            param_hint="--platform",
        )
    tags = []
    for glibc in range(int(found["glibc"]), _OLDEST_GLIBC - 1, -1):
        tags.append(f"manylinux_2_{glibc}_{found['machine']}")
        if glibc in _OLD_NAMES:
            tags.append(f"{_OLD_NAMES[glibc]}_{found['machine']}")
    return [*tags, f"linux_{found['machine']}"]


def uv_platform(platform: str) -> str:
    """Return uv's name of a platform that `list_platforms` knows."""
    glibc, machine = re.sub(r"^manylinux_2_", "", platform).split("_", maxsplit=1)
    # uv has names for glibc 2.17, 2.28 and from 2.31 on; a wheel for an older one does on a newer one.
    known = next(number for number in (*range(40, 30, -1), 28, 17) if number <= max(int(glibc), 17))
    return f"{machine}-manylinux_2_{known}"


def write_requirements(folder: Path) -> list[str]:
    """Write `requirements.txt` of all wheels in a folder; return its lines, one for each wheel."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{hash_file(wheel, 'sha256').sha256}")
    (folder / REQUIREMENTS).write_text("\n".join([*lines, ""]), encoding="utf-8")
    return lines


def gather(
    folder: Path, *, python: str, platform: str, extras: tuple[str, ...], found_at: tuple[str, ...] = ()
) -> list[str]:
    """Fill an empty folder with wheels and their `requirements.txt`; return the lines of that.

    Args:
        folder: The folder.
        python: Version of the other machine's Python, such as 3.12.
        platform: Its platform, such as manylinux_2_28_x86_64.
        extras: Of this package, such as train.
        found_at: Folders or pages with wheels, besides the index.

    Raises:
        CheckFailedError: Something could not be built or found.
    """
    platforms = list_platforms(platform)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    machine = platforms[0].split("_", maxsplit=3)[3]
    if not can_compile(machine):
        click.echo(
            f"no {COMPILERS[machine]} here: our own wheel has no compiled code, numpy does its work", err=True
        )
    own_machine = machine if can_compile(machine) else None
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT, env=build_environment(own_machine))
    [own] = folder.glob("*.whl")
    with tempfile.TemporaryDirectory(prefix="wheelhouse-") as work:
        wanted, chosen = Path(work, "wanted.in"), Path(work, "chosen.txt")
        wanted.write_text(f"infini-llama[{','.join(extras)}] @ {own.as_uri()}\npip\n", encoding="utf-8")
        target = ("--python-version", python, "--python-platform", uv_platform(platform))
        uv = (sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes", "--only-binary=:all:")
        links = [word for place in found_at for word in ("--find-links", place)]
        run(*uv, *links, "-c", ROOT / "constraints.txt", *target, "-o", chosen, wanted)
        # Our own was just built, and no index has it.
        others = re.sub(r"^infini-llama.*\n( .*\n)*", "", chosen.read_text(encoding="utf-8"), flags=re.M)
        chosen.write_text(others, encoding="utf-8")
        tags = [word for tag in platforms for word in ("--platform", tag)]
        pick: tuple[str | Path, ...] = (
            *links,
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
            "-d",
            folder,
        )
        run(*pip, "download", *pick, "--python-version", python, "--implementation", "cp", *tags, "-r", chosen)
    return write_requirements(folder)


def installing_commands(folder: str) -> tuple[str, str]:
    """Return what a shell on the other machine is told, beside the folder of this name."""
    return (
        "python3 -m venv --without-pip env",
        # A pattern does not reach into a file, which Python does.
        f'env/bin/python "$(echo {folder}/pip-*.whl)/pip" install --no-index --find-links {folder} '
        f"--require-hashes -r {folder}/{REQUIREMENTS}",
    )


@click.command()
@click.option("--python", required=True, metavar="3.N", help="Version of the other machine's Python.")
@click.option("--platform", required=True, metavar="TAG", help="Its platform: manylinux_2_N_MACHINE.")
@click.option("--extra", "extras", multiple=True, help="Also what this extra needs: train brings torch.")
@click.option(
    "--find-links",
    "found_at",
    multiple=True,
    metavar="PLACE",
    help="Folder or page with more wheels, such as torch without CUDA.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("wheelhouse"),
    show_default=True,
    help="Folder.",
)
def main(python: str, platform: str, extras: tuple[str, ...], found_at: tuple[str, ...], output: Path) -> None:
    """Gather the wheels that a machine without internet installs."""
    if not re.fullmatch(r"3\.\d+", python):
        raise click.BadParameter(f"expected a version such as 3.12, found {python!r}", param_hint="--python")
    list_platforms(platform)
    if output.exists():
        raise CheckFailedError(f"{output} is there already: remove it, or name another folder with --output")
    half = output.with_name(f"{output.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        lines = gather(half, python=python, platform=platform, extras=extras, found_at=found_at)
        half.rename(output)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    total = sum(path.stat().st_size for path in output.iterdir())
    click.echo(f"{output}: {len(lines)} wheels, {total / 1e6:.0f} MB, for Python {python} on {platform}")
    click.echo("there:")
    for command in installing_commands(output.name):
        click.echo(f"    {command}")


if __name__ == "__main__":
    main()
