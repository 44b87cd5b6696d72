"""Homes made of random pieces, each of which somebody's disk has seen, and an installation over them.

Run as a program of its own, since root, who may write everywhere, becomes somebody else in it: `python -m
tests.support.damaged_homes FIRST_SEED COUNT SCRATCH`. A home has two generations of one bundle and one of a neighbour,
perhaps less; then some pieces happen to it. After `bundle install`:

* if it succeeded, the bundle verifies, in its own view and in the shared one, as a launch reads it;
* if not, it ended with an error of ours or of the system;
* whatever verified before verifies still, and each file that another tool put there is there, or set aside.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bundler.errors import BundleError
from bundler.files.leftovers import remove_leftovers
from bundler.home.home import Home, ignore_damage
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from bundler.home.view.open import open_view
from tests.support.bundles import locked_repo, tiny_bundle

_STRANGE = b"another tool's "
_NOBODY = 65534
Piece = Callable[[Path, random.Random], None]


def make_bundles(folder: Path) -> list[Path]:
    """Return two versions of a bundle, and a neighbour that shares a repo with the first."""
    made = []
    for name, version in (("a", 0), ("a", 1), ("b", 0)):
        files = {"config.json": b"{}", "sub/w": b"weights", "v": f"{version}".encode(), f"own-{name}": b"own"}
        prepared = {
            "default/0.0.0/h/d.arrow": f"arrow {version}".encode(),
            "default/0.0.0/h/dataset_info.json": b"{}",
        }
        commit = f"{version}" * 40
        repos = [
            locked_repo("org/m", files, commit=commit, aliases=["m"], absent=["none"], lfs=["sub/w"]),
            locked_repo("org/d", {"d": b"d"}, kind="dataset", commit=commit, aliases=["d"], prepared=prepared),
        ]
        contents = [*files.values(), b"d", *prepared.values()]
        made.append(tiny_bundle(folder / f"{name}-{version}", *repos, contents=contents, name=name))
    return made


def _pick(home: Path, chance: random.Random, pattern: str, wanted: Callable[[Path], bool]) -> Path | None:
    found = sorted(path for path in home.glob(pattern) if wanted(path))
    return chance.choice(found) if found else None


def dereference(home: Path, chance: random.Random) -> None:
    """`cp -rL`, of all or of one folder."""
    folder = chance.choice([home, home / "hub", home / "bundles", home / "datasets"])
    if folder.is_dir():
        copy = home.with_name("copy")
        # What leads nowhere is left out, and said.
        subprocess.run(["cp", "-rL", folder, copy], check=False, capture_output=True)
        _make_writable(folder)
        shutil.rmtree(folder)
        copy.rename(folder)


def turn_links_into_text(home: Path, chance: random.Random) -> None:
    """An archive for a system without symlinks, or git without them."""
    for path in sorted(home.rglob("*")):
        if path.is_symlink() and chance.random() < 0.5:
            target = path.readlink()
            path.unlink()
            path.write_text(str(target))


def empty_blobs(home: Path, chance: random.Random) -> None:
    """A copy of the snapshots alone."""
    if folder := _pick(home, chance, "hub/*/blobs", Path.is_dir):
        shutil.rmtree(folder)
        folder.mkdir()


def lose_names(home: Path, chance: random.Random) -> None:
    """Refs, listings, markers, a snapshot, an alias, a view, prepared files: a folder that is gone."""
    patterns = [
        "hub/*/refs",
        "hub/*/trees",
        "hub/*/.no_exist",
        "hub/*/snapshots/*",
        "bundles/views/*/*",
        "datasets/*",
    ]
    if path := _pick(
        home, chance, chance.choice([*patterns, "bundles/generations", "bundles/views"]), os.path.lexists
    ):
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)


def remove_alias(home: Path, chance: random.Random) -> None:
    """`hf cache rm` of an alias: the link, or through it what it leads to."""
    if alias := _pick(home, chance, "hub/*--[md]", Path.is_symlink):
        if chance.random() < 0.5 and alias.is_dir():
            shutil.rmtree(alias.resolve())
        else:
            alias.unlink()


def damage_file(home: Path, chance: random.Random) -> None:
    """A bit, a length, a file of nothing."""
    if path := _pick(home, chance, "**/*", lambda path: path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        changes = [content[::-1], content[:-1], content + b"x", b""]
        path.chmod(0o644)
        path.write_bytes(chance.choice(changes))


def lose_file(home: Path, chance: random.Random) -> None:
    """A file or a link that is gone: a receipt, too."""
    if path := _pick(home, chance, "**/*", lambda path: path.is_symlink() or path.is_file()):
        path.unlink()


def put_strange_files(home: Path, chance: random.Random) -> None:
    """What another tool, or a person, left: in a snapshot, beside it, among the receipts."""
    folders = sorted(path for path in home.glob("**/*") if path.is_dir() and not path.is_symlink())
    for number in range(3):
        name = chance.choice(["chat_template.jinja", "x.json", "x.lock", ".DS_Store", "models--other--repo"])
        place = chance.choice([home, *folders]) / name
        if not os.path.lexists(place) and "launches" not in place.parts:
            place.write_bytes(_STRANGE + f"{number} {place.name}".encode())


def take_a_place(home: Path, chance: random.Random) -> None:
    """A folder where a file belongs, or a file, or a link elsewhere, where a folder or a link does."""
    if path := _pick(home, chance, "**/*", lambda path: "launches" not in path.parts):
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
        how = chance.randrange(3)
        if how == 0:
            path.mkdir()
        elif how == 1:
            path.write_bytes(b"in the way")
        else:
            path.symlink_to(chance.choice(["nowhere", str(home.parent), "."]))


def make_read_only(home: Path, chance: random.Random) -> None:
    """A folder or a file that cannot be written."""
    if path := _pick(home, chance, "**/*", lambda path: not path.is_symlink()):
        path.chmod(0o555 if path.is_dir() else 0o444)


PIECES: list[Piece] = [
    dereference,
    turn_links_into_text,
    empty_blobs,
    lose_names,
    remove_alias,
    damage_file,
    lose_file,
    put_strange_files,
    take_a_place,
    make_read_only,
]


def _find_strange(home: Path) -> set[bytes]:
    """Return what of another tool's is there; of copies, which lose their sense with a link, one is enough."""
    paths = (Path(folder, name) for folder, _, names in os.walk(home) for name in names)
    contents = (path.read_bytes() for path in paths if path.is_file() and not path.is_symlink())
    return {content for content in contents if content.startswith(_STRANGE)}


def _list_whole(home: Path) -> dict[tuple[str, str], bool]:
    """Return what verifies: of each name what `bundle verify` says, and of each generation what a launch reads."""
    found: dict[tuple[str, str], bool] = {}
    opened = Home(home)
    for bundle in opened.bundles(on_damage=ignore_damage):
        found[bundle.name, "current"] = bundle.verify(jobs=1).ok
    for name in opened.all_names():
        for bundle in opened.generations(name, on_damage=ignore_damage):
            found[name, bundle.digest] = _reads_whole(home, bundle)
    return found


def _reads_whole(home: Path, bundle: InstalledBundle) -> bool:
    return bundle.verify(view=open_view(home, [bundle]), jobs=1).ok


def run(seed: int, bundles: list[Path], home: Path) -> str:
    """Make one home, install over it, and check; return how it ended."""
    chance = random.Random(seed)
    for bundle in chance.sample(bundles, chance.randrange(1, 4)):
        install(bundle, home, jobs=1)
    pieces = chance.choices(PIECES, k=chance.randrange(1, 4))
    for piece in pieces:
        # Of what an earlier piece made read-only.
        with contextlib.suppress(PermissionError):
            piece(home, chance)
    done = f"seed {seed}: {[piece.__name__ for piece in pieces]}"
    whole, strange = _list_whole_or_none(home), _find_strange(home)
    new = chance.choice(bundles)
    ended = "installed"
    try:
        result = install(new, home, jobs=1)
    except (BundleError, OSError) as error:
        ended = f"refused: {type(error).__name__}"
        done = f"{done}: {error}"
    else:
        report = Home(home).bundle(result.bundle.name).verify(jobs=1)
        assert report.ok, f"{done}: installed, but {report.faults}"
        assert _reads_whole(home, result.bundle), f"{done}: installed, but a launch reads something else"
        for folder in (home / "hub", home / "datasets"):
            assert not remove_leftovers(folder, now=0), f"{done}: leftovers"
    assert _find_strange(home) == strange, f"{done}: {ended}, and files of another tool are gone"
    after = _list_whole_or_none(home)
    replaced = (new.name.removesuffix(".tar.zst"), "current")
    worse = [what for what, was_ok in whole.items() if was_ok and what != replaced and not after.get(what)]
    assert not worse, f"{done}: {ended}, and {worse} verified before"
    return ended


def _list_whole_or_none(home: Path) -> dict[tuple[str, str], bool]:
    try:
        return _list_whole(home)
    except (BundleError, OSError):
        return {}  # cannot be read as it is


def _make_writable(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        os.chmod(path, 0o755)  # noqa: PTH101 -- a string
        for name in names:
            if not Path(path, name).is_symlink():
                Path(path, name).chmod(0o644)


def prepare(scratch: Path) -> list[Path]:
    """Make the bundles, and be nobody from here on if this is root."""
    bundles = make_bundles(scratch / "bundles")
    if os.geteuid() == 0:
        # Once as root, who can read what is imported on the way.
        run(0, bundles, scratch / "home")
        shutil.rmtree(scratch / "home")
        for folder, _, names in os.walk(scratch):
            for path in (folder, *(f"{folder}/{name}" for name in names)):
                os.lchown(path, _NOBODY, _NOBODY)
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    os.umask(0o022)
    return bundles


def main(first_seed: int, count: int, scratch: Path) -> None:
    """Run seeds; print how they ended as JSON."""
    bundles = prepare(scratch)
    ended: dict[str, int] = {}
    for seed in range(first_seed, first_seed + count):
        home = scratch / "home"
        how = run(seed, bundles, home)
        ended[how] = ended.get(how, 0) + 1
        _make_writable(scratch)
        shutil.rmtree(home)
    sys.stdout.write(json.dumps(ended) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
