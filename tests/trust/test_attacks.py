"""What somebody on the way of a signed bundle can do, one attack a test: each is refused, and leaves nothing."""

from __future__ import annotations

import datetime
import io
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bundler.errors import BundleError, FormatError, TrustError
from bundler.files.atomic import atomic_write
from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.storage.volume_names import volume_files
from bundler.home.generations.prune import prune
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.remove import remove
from bundler.home.trust.kept import judge_installed
from bundler.home.trust.paths import kept_signature_path
from bundler.home.trust.policies import check_policies
from bundler.make.delta import Base
from bundler.make.pack import pack
from bundler.make.sign import make_statement, sign_bundle
from bundler.trust.check_file import judge_file
from bundler.trust.paths import signature_path
from bundler.trust.policy import load_policies
from bundler.trust.sign import sign
from bundler.trust.signature_file import read_signature
from tests.support.bundles import blob_store, lock_of, locked_repo, tree
from tests.support.keys import Key, make_key

NOISE = random.Random(3).randbytes(3 << 20)
ALICE = "alice@example.org"


def pack_release(folder: Path, number: int, *, name: str = "prod") -> Path:
    """A bundle of one repo, whose weights are of this number."""
    files = {"config.json": b'{"release": %d}' % number, "w.safetensors": NOISE + bytes([number])}
    lock = lock_of(locked_repo("org/m", files, lfs=["w.safetensors"], commit=f"{number:040x}"), name=name)
    pack(lock, blob_store(folder / "store", files.values()), out := folder / f"{name}.tar.zst", jobs=2)
    return out


@dataclass(frozen=True)
class Site:
    """A sender with a key, and a machine whose policy trusts that key."""

    folder: Path
    key: Key
    policy: Path
    home: Path

    def signed(self, number: int, *, sequence: int | None = None, name: str = "prod") -> Path:
        """A signed bundle in a folder of its own."""
        folder = self.folder / f"{name}-{number}"
        folder.mkdir(exist_ok=True)
        bundle = pack_release(folder, number, name=name)
        sign_bundle(bundle, self.key.path, sequence=number if sequence is None else sequence)
        return bundle

    def install(self, bundle: Path | list[Path] | io.BytesIO, **options: object) -> None:
        install(bundle, self.home, policy=self.policy, jobs=2, **options)  # type: ignore[arg-type]

    def refuses(self, bundle: Path | list[Path] | io.BytesIO, **options: object) -> str:
        """Try to install: it must be refused, and nothing changed. Returns why."""
        before = tree(self.home)
        with pytest.raises(TrustError) as caught:
            self.install(bundle, **options)
        assert caught.value.exit_code == 20
        assert tree(self.home) == before
        # Of a stream that is refused at its end, empty folders stay.
        assert isinstance(bundle, io.BytesIO) or self.home.exists() == bool(before)
        return caught.value.message


@pytest.fixture
def site(tmp_path: Path) -> Site:
    key = make_key(tmp_path / "keys")
    policy = tmp_path / "policy.yaml"
    policy.write_text('version: 1\nrules:\n  - bundles: ["*"]\n    allowed_signers: signers\n')
    (tmp_path / "signers").write_text(key.line(ALICE))
    return Site(tmp_path, key, policy, tmp_path / "home")


def test_a_signed_bundle_is_installed_and_its_signature_kept(site: Site) -> None:
    bundle = site.signed(1)
    site.install(bundle)
    [installed] = Home(site.home).bundles()
    kept = kept_signature_path(site.home, "prod", installed.digest)
    assert kept.read_bytes() == signature_path(bundle).read_bytes()
    judgement = judge_installed(installed, load_policies(site.policy))
    assert (judgement.ok, judgement.signer) == (True, ALICE)


def test_strip_the_signature(site: Site) -> None:
    bundle = site.signed(1)
    signature_path(bundle).unlink()
    assert "signature: expected a right one, found none" in site.refuses(bundle)


def test_sign_with_a_key_of_ones_own(site: Site) -> None:
    bundle = site.signed(1)
    sign_bundle(bundle, make_key(site.folder, "mallory").path, sequence=9)
    assert "signers: nobody in signers: key SHA256:" in site.refuses(bundle)


def test_sign_by_the_right_key_for_something_else(site: Site) -> None:
    from tests.support.keys import keygen_sign

    bundle = site.signed(1)
    text = signature_path(bundle).read_bytes().partition(b"-----END SSH SIGNATURE-----\n")[2]
    signature_path(bundle).write_bytes(keygen_sign(site.key.path, text, "file") + text)
    assert "expected one made for namespace bundle@" in site.refuses(bundle)


def test_replace_the_content_under_a_genuine_signature(site: Site) -> None:
    genuine, other = site.signed(1), site.signed(2)
    shutil.copy(signature_path(genuine), signature_path(other))
    assert "is about sha256:" in site.refuses(other)


def test_mix_a_signature_with_a_bundle_of_another_name(site: Site) -> None:
    genuine, other = site.signed(1), site.signed(1, name="other")
    shutil.copy(signature_path(genuine), signature_path(other))
    assert "is about bundle prod, this is other" in site.refuses(other)


def test_mix_a_signature_into_a_stream_of_another_bundle(site: Site) -> None:
    genuine, other = site.signed(1), site.signed(2)
    said = site.refuses(io.BytesIO(other.read_bytes()), signature=signature_path(genuine))
    assert "is about the lock sha256:" in said


def test_send_other_frames_of_the_signed_lock_in_a_stream(site: Site) -> None:
    # Only at its end does a stream say which bundle it was: by then all of it is on the disk.
    genuine = site.signed(1)
    with BundleReader(genuine) as reader:
        lock = reader.lock
    store = genuine.parent / "store"
    pack(lock, lambda blob: store / blob.sha256, other := site.folder / "other.tar.zst", level=19, codec="zstd")
    said = site.refuses(io.BytesIO(other.read_bytes()), signature=signature_path(genuine))
    assert "is about sha256:" in said


def test_a_stream_with_its_signature_is_installed(site: Site) -> None:
    bundle = site.signed(1)
    site.install(io.BytesIO(bundle.read_bytes()), signature=signature_path(bundle))
    check_policies(Home(site.home).bundles(), site.policy)


def test_mix_volumes_of_two_signed_bundles(site: Site) -> None:
    sets = []
    for number in (1, 2):
        bundle = site.signed(number)
        with BundleReader(bundle) as reader:
            copy_bundle(reader, VolumeDestination(bundle.with_name("cut.tar.zst"), 3_146_100))
        shutil.copy(signature_path(bundle), bundle.with_name("cut.tar.zst.sig"))
        sets.append(volume_files(bundle.with_name("cut.tar.zst")))
    site.install(sets[0])
    before = tree(site.home)
    with pytest.raises(FormatError):
        site.install([sets[1][0], sets[0][1]])
    assert tree(site.home) == before
    # A set of volumes with the signature of the other, and one volume of it alone.
    shutil.copy(signature_path(sets[0][0]), signature_path(sets[1][0]))
    assert "is about sha256:" in site.refuses(sets[1])
    assert not judge_file(sets[1][0], ()).ok
    assert judge_file(sets[0][1], ()).ok


def test_mix_a_delta_with_the_signature_of_another_bundle(site: Site) -> None:
    old, new = site.signed(1), site.signed(2)
    site.install(old)
    with BundleReader(new) as reader:
        lock = reader.lock
    store = new.parent / "store"
    delta = site.folder / "delta.tar.zst"
    pack(lock, lambda blob: store / blob.sha256, delta, base=Base.open(old))
    assert "is about sha256:" in site.refuses(delta, signature=signature_path(old))
    # That of the whole bundle is good for its delta, which proves the digest of the whole; and so is one of its own.
    site.install(delta, signature=signature_path(new))
    signed, _ = sign_bundle(delta, site.key.path, sequence=2)
    with BundleReader(delta) as reader:
        assert (signed.statement.digest, signed.statement.delta_digest) == (reader.whole_digest, reader.digest)
    site.install(delta)


def test_replay_an_older_release(site: Site) -> None:
    old, new = site.signed(1), site.signed(2)
    site.install(new)
    said = site.refuses(old)
    assert "release 2 of prod was installed" in said
    assert "this bundle is release 1, an older one" in said


@pytest.mark.parametrize("how", ["remove", "prune"])
def test_replay_an_older_release_after_the_newer_is_gone(site: Site, how: str) -> None:
    old, middle, new = site.signed(1), site.signed(2), site.signed(3)
    site.install(new)
    if how == "remove":
        remove("prod", site.home)
        assert not list(site.home.rglob("*.sig"))
    else:
        site.install(middle, allow_rollback=True)
        prune(site.home)
        assert len(list(site.home.rglob("*.sig"))) == 1
    assert "release 3 of prod was installed" in site.refuses(old)


def test_replay_an_unsigned_bundle_over_a_signed_one(site: Site) -> None:
    site.install(site.signed(2))
    folder = site.folder / "plain"
    folder.mkdir()
    plain = pack_release(folder, 1)
    site.policy.write_text('version: 1\nrules:\n  - bundles: ["*"]\n    signature: optional\n')
    assert "this bundle is not signed: it may be of any age" in site.refuses(plain)


def test_give_two_bundles_the_number_of_one_release(site: Site) -> None:
    site.install(site.signed(1, sequence=7))
    assert "has the same number and another lock" in site.refuses(site.signed(2, sequence=7))


def test_whoever_wants_to_go_back_says_so_and_the_highest_release_stays(site: Site) -> None:
    old, new = site.signed(1), site.signed(2)
    site.install(new)
    notes: list[str] = []
    site.install(old, allow_rollback=True, on_note=notes.append)
    assert any("taken by --allow-rollback" in note for note in notes)
    assert "an older one" in site.refuses(old)
    site.install(new)


def test_spoil_what_is_remembered_of_releases(site: Site) -> None:
    site.install(site.signed(2))
    [remembered] = site.home.glob("bundles/releases/*.json")
    atomic_write(remembered, b'{"sequence": 0}')
    with pytest.raises(BundleError, match="expected the highest release") as caught:
        site.install(site.signed(1))
    assert caught.value.exit_code == 6


def test_an_expired_statement(site: Site) -> None:
    bundle = site.signed(1)
    with BundleReader(bundle) as reader:
        now = datetime.datetime.now(datetime.UTC)
        statement = replace(make_statement(reader, None), signed_at=now - datetime.timedelta(days=9), expires=now)
    signature_path(bundle).write_bytes(sign(statement, site.key.path).content)
    assert "expires: the statement was good until" in site.refuses(bundle)


def test_a_bundle_that_is_older_than_the_policy_takes_is_not_started_any_more(site: Site) -> None:
    bundle = site.signed(1)
    site.install(bundle)
    with BundleReader(bundle) as reader:
        now = datetime.datetime.now(datetime.UTC)
        statement = replace(make_statement(reader, None), signed_at=now - datetime.timedelta(days=9))
    [installed] = Home(site.home).bundles()
    kept_signature_path(site.home, "prod", installed.digest).write_bytes(sign(statement, site.key.path).content)
    site.policy.write_text(site.policy.read_text() + "    max_age_days: 8\n")
    with pytest.raises(TrustError, match=r"max_age_days: signed at .*, 9\.0 days ago; at most 8"):
        check_policies([installed], site.policy)


def test_change_the_receipt_and_its_seal(site: Site) -> None:
    from bundler.home.receipt import Receipt, receipt_path

    site.install(site.signed(1))
    [installed] = Home(site.home).bundles()
    repo = installed.lock.repos[0]
    changed = installed.lock.with_repos((replace(repo, aliases=("mine",)),))
    receipt_path(site.home, "prod").write_bytes(Receipt(changed, installed.digest).dumps())
    with pytest.raises(TrustError, match="is about the lock"):
        check_policies(Home(site.home).bundles(), site.policy)


def test_take_the_kept_signature_away(site: Site) -> None:
    site.install(site.signed(1))
    [installed] = Home(site.home).bundles()
    kept_signature_path(site.home, "prod", installed.digest).unlink()
    with pytest.raises(TrustError, match="expected a right one, found none"):
        check_policies([installed], site.policy)


def test_random_changes_of_a_signature_file_are_all_refused(site: Site) -> None:
    bundle = site.signed(1)
    content = signature_path(bundle).read_bytes()
    dice = random.Random(5)
    accepted = []
    for _ in range(500):
        changed = bytearray(content)
        match dice.randrange(3):
            case 0:
                changed[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
            case 1:
                del changed[dice.randrange(len(content)) :]
            case 2:
                place = dice.randrange(len(content))
                changed[place:place] = dice.randbytes(dice.randrange(1, 9))
        signature_path(bundle).write_bytes(changed)
        try:
            read_signature(signature_path(bundle))
            accepted.append(bytes(changed))
        except TrustError:
            pass
    assert accepted == []
