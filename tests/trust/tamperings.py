"""Random tamperings with all that a signed bundle travels as, and with what is kept of it: each must be refused.

Run as a program: `python -m tests.trust.tamperings FIRST_SEED COUNT` prints as JSON how many of each kind were refused.
A home has release 2 of a bundle; release 3 is on its way, as a file, as volumes, through a pipe, and as a delta. Each
tampering changes some bytes of one thing, or puts a genuine thing in the place of another. After each

* the command that meets it ended in an error of ours;
* what the home shows (snapshots, refs, receipts, signatures, releases) is byte by byte what it showed before.

The SBOM is not among them: nothing trusts it.
"""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bundler.errors import BundleError
from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.storage.volume_names import volume_files
from bundler.home.generation import generation_path
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.receipt import receipt_path
from bundler.home.trust.paths import kept_signature_path
from bundler.home.trust.policies import check_policies
from bundler.make.delta import Base
from bundler.make.pack import pack
from bundler.make.sign import sign_bundle
from bundler.trust.dsse.sigstore_bundle import SigstoreBundle
from bundler.trust.paths import signature_path
from bundler.trust.ssh.sshsig import BEGIN, END
from tests.fuzz.seals import seal_receipt
from tests.support.bundles import blob_store, lock_of, locked_repo, tree
from tests.support.keys import make_key

_POLICY = """version: 1
rules:
  - bundles: ["prod", "prod-*"]
    signature: required
    allowed_signers: signers
    signers: [alice@example.org]
    allow_pickle: true
"""
_SHARED = random.Random(1).randbytes(30_000)


class World:
    """A sender, a machine, and what is between them.

    Args:
        folder: Where all of it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.key = make_key(folder / "keys")
        self.stranger = make_key(folder / "keys", "stranger")
        self.policy = folder / "policy.yaml"
        self.policy.write_text(_POLICY)
        (folder / "signers").write_text(self.key.line("alice@example.org"))
        self.old, middle, self.new = (self._release(number) for number in (1, 2, 3))
        self.volumes = self._split(self.new)
        self.old_volumes = self._split(self.old)
        self.delta = self._delta(self.new, middle)
        self.old_delta = self._delta(self.old, middle)
        self.foreign = self._release(4, key="stranger")
        install(middle, self.home, policy=self.policy, jobs=1)
        self.digest = Home(self.home).bundle("prod").digest
        _, self.sigstore = sign_bundle(self.new, self.key.path, sequence=3, form="sigstore")

    def _release(self, number: int, *, key: str = "key") -> Path:
        folder = self.folder / f"release-{number}"
        files = {
            "config.json": b'{"n": %d}' % number,
            "shared.bin": _SHARED,
            "own.bin": _SHARED[number : number + 9999],
        }
        lock = lock_of(locked_repo("org/m", files, lfs=["shared.bin"], commit=f"{number:040x}"), name="prod")
        pack(lock, blob_store(folder / "store", files.values()), bundle := folder / "prod.tar.zst", jobs=1)
        sign_bundle(bundle, self.folder / "keys" / key, sequence=number)
        return bundle

    def _split(self, bundle: Path) -> list[Path]:
        base = bundle.with_name("cut.tar.zst")
        with BundleReader(bundle) as reader:
            size = max(chunk.stored_bytes for chunk in reader.index.chunks) + 1500
            copy_bundle(reader, VolumeDestination(base, size))
        shutil.copy(signature_path(bundle), base.with_name("cut.tar.zst.sig"))
        return volume_files(base)

    def _delta(self, bundle: Path, base: Path) -> Path:
        with BundleReader(bundle) as reader:
            lock = reader.lock
        store = bundle.parent / "store"
        delta = bundle.with_name("delta.tar.zst")
        pack(lock, lambda blob: store / blob.sha256, delta, base=Base.open(base), jobs=1)
        shutil.copy(signature_path(bundle), signature_path(delta))
        return delta

    def shown(self) -> dict[str, str]:
        """What the home shows; a blob that no snapshot links to is not seen, and neither is the list of such."""
        parts = ("/snapshots/", "/refs/", "/generations/", "/releases/", "/datasets/")
        seen = tree(self.home)
        return {path: what for path, what in seen.items() if any(part in f"/{path}" for part in parts)} | {
            path: what for path, what in seen.items() if path == "bundles/prod.json"
        }

    def install(self, source: Path | list[Path] | io.BytesIO, signature: Path | None = None) -> None:
        """Install as the machine does."""
        install(source, self.home, policy=self.policy, signature=signature, jobs=1)

    def launch(self) -> None:
        """Ask what a launch asks of an installed bundle before it starts anything."""
        home = Home(self.home)
        bundle = home.bundle("prod")
        assert bundle.lock
        check_policies([bundle], self.policy)


def change(content: bytes, dice: random.Random) -> bytes:
    """Change a few bytes somewhere."""
    changed = content
    while changed == content:
        place, size = dice.randrange(len(content)), dice.randrange(1, 40)
        before, after = content[:place], content[place:]
        match dice.randrange(6):
            case 0:
                changed = before + bytes([after[0] ^ 1 << dice.randrange(8)]) + after[1:]
            case 1:
                changed = before + dice.randbytes(size) + after[size:]
            case 2:
                changed = before + after[size:]
            case 3:
                changed = before + dice.randbytes(size) + after
            case 4:
                changed = before
            case 5:
                changed = before + after[:size] + after
    return changed


def _is_same_signature(one: bytes, other: bytes) -> bool:
    """Tell whether two signature files differ in the line breaks of base64, and in nothing that is signed."""

    def meaning(content: bytes) -> tuple[bytes, bytes]:
        armored, _, statement = content.partition(END)
        body = armored.removeprefix(BEGIN).replace(b"\n", b"")
        return base64.b64decode(body + b"=" * (-len(body) % 4)), statement

    try:
        return meaning(one) == meaning(other)
    except ValueError:
        return False


def _envelope(content: bytes) -> tuple[bytes, bytes] | None:
    """What a sigstore bundle has of text and signature; None if it is none."""
    try:
        envelope = SigstoreBundle.loads(content, source="changed").envelope
    except BundleError:
        return None
    return envelope.payload, envelope.signature


class Tamperer:
    """Makes one tampering after the other.

    Args:
        world: What is tampered with; as it was again after each.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.kinds: dict[str, Callable[[random.Random], None]] = {
            "bundle": lambda dice: self._arrive(world.new, world.new, dice),
            "volumes": self._volumes,
            "pipe": self._pipe,
            "delta": lambda dice: self._arrive(world.delta, world.delta, dice),
            "signature": self._signature,
            "statement": self._statement,
            "sigstore bundle": self._sigstore_bundle,
            "policy": lambda dice: self._arrive(world.policy, world.foreign, dice),
            "list of signers": lambda dice: self._arrive(world.folder / "signers", world.foreign, dice),
            "receipt": self._receipt,
            "receipt, sealed again": self._sealed_receipt,
            "kept signature": self._kept_signature,
            "older release": self._older,
            "mixed": self._mixed,
        }

    def _with_content(self, path: Path, content: bytes, then: Callable[[], None]) -> None:
        genuine = path.read_bytes()
        path.write_bytes(content)
        try:
            then()
        finally:
            path.write_bytes(genuine)

    def _arrive(self, changed: Path, bundle: Path, dice: random.Random) -> None:
        content = change(changed.read_bytes(), dice)
        self._with_content(changed, content, lambda: self.world.install(bundle))

    def _volumes(self, dice: random.Random) -> None:
        volume = dice.choice(self.world.volumes)
        content = change(volume.read_bytes(), dice)
        self._with_content(volume, content, lambda: self.world.install(self.world.volumes))

    def _pipe(self, dice: random.Random) -> None:
        sources = [self.world.volumes, [self.world.new], [self.world.delta]]
        content = change(b"".join(path.read_bytes() for path in dice.choice(sources)), dice)
        self.world.install(io.BytesIO(content), signature_path(self.world.new))

    def _signature(self, dice: random.Random) -> None:
        path = signature_path(self.world.new)
        genuine = path.read_bytes()
        content = genuine
        while _is_same_signature(content, genuine):
            content = change(genuine, dice)
        self._with_content(path, content, lambda: self.world.install(self.world.new))

    def _statement(self, dice: random.Random) -> None:
        path = signature_path(self.world.new)
        armored, end, statement = path.read_bytes().partition(END)
        said = json.loads(statement)
        said["predicate"]["sequence"] = dice.randrange(2**53)
        spaced = json.dumps(said, indent=dice.randrange(4)).encode()
        content = armored + end + dice.choice([spaced, change(statement, dice)])
        self._with_content(path, content, lambda: self.world.install(self.world.new))

    def _sigstore_bundle(self, dice: random.Random) -> None:
        genuine = self.world.sigstore.read_bytes()
        content = genuine
        # Hint and key id may change: nothing is decided by them.
        while _envelope(content) == _envelope(genuine):
            content = change(genuine, dice)
        install = self.world.install
        self._with_content(self.world.sigstore, content, lambda: install(self.world.new, self.world.sigstore))

    def _receipt(self, dice: random.Random) -> None:
        path = receipt_path(self.world.home, "prod")
        self._with_content(path, change(path.read_bytes(), dice), self.world.launch)

    def _sealed_receipt(self, dice: random.Random) -> None:
        path = receipt_path(self.world.home, "prod")
        genuine = path.read_bytes()
        head, key, rest = genuine.partition(b'\n "lock": ')
        lock, seal, _ = rest.partition(b'\n "receipt_sha256"')
        digits = [place for place, char in enumerate(lock) if char in b"0123456789abcdef"]
        place = dice.choice(digits)
        other = (
            lock[:place]
            + dice.choice(b"0123456789abcdef".replace(lock[place : place + 1], b"")).to_bytes()
            + lock[place + 1 :]
        )
        self._with_content(path, seal_receipt(head + key + other + seal), self.world.launch)

    def _kept_signature(self, dice: random.Random) -> None:
        path = kept_signature_path(self.world.home, "prod", self.world.digest)
        genuine = path.read_bytes()
        content = genuine
        while _is_same_signature(content, genuine):
            content = change(genuine, dice)
        self._with_content(path, content, self.world.launch)

    def _older(self, dice: random.Random) -> None:
        world = self.world
        whole = io.BytesIO(world.old.read_bytes())
        ways: list[Path | list[Path] | io.BytesIO] = [world.old, world.old_volumes, world.old_delta, whole]
        source = dice.choice(ways)
        world.install(source, signature_path(world.old) if source is whole else None)

    def _mixed(self, dice: random.Random) -> None:
        world = self.world
        bundles = {world.new: 3, world.delta: 3, world.old: 1, world.old_delta: 1, world.foreign: 4}
        bundle = dice.choice(list(bundles))
        signature = signature_path(dice.choice([each for each in bundles if bundles[each] != bundles[bundle]]))
        both = [dice.choice(pair) for pair in zip(world.volumes, world.old_volumes, strict=True)]
        if both != world.volumes and dice.random() < 0.5:
            world.install(both)
        elif dice.random() < 0.5:
            world.install(bundle, signature)
        else:
            world.install(io.BytesIO(bundle.read_bytes()), signature)


def main(first_seed: int, count: int) -> None:
    """Make tamperings; print how many of each kind were refused, as JSON."""
    refused: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="tamperings-") as folder:
        world = World(Path(folder))
        world.launch()
        tamperer = Tamperer(world)
        before = world.shown()
        assert generation_path(world.home, "prod", world.digest).exists()
        for seed in range(first_seed, first_seed + count):
            dice = random.Random(seed)
            kind = dice.choice([*tamperer.kinds])
            try:
                tamperer.kinds[kind](dice)
            except BundleError:
                refused[kind] += 1
            else:
                sys.exit(f"seed {seed}: {kind}: not refused")
            if world.shown() != before:
                sys.exit(f"seed {seed}: {kind}: the home shows something else")
        # Untouched, the release is taken: what was refused was so for what was changed.
        world.install(world.new, world.sigstore)
        world.install(world.new)
    sys.stdout.write(json.dumps({"refused": count, **dict(sorted(refused.items()))}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
