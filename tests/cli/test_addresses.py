"""Commands that take a bundle take the address of one: what they find is that of the file, and no more trusted."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.home.receipt import read_receipt, receipt_path
from bundler.make.delta import Base
from bundler.make.sign import sign_bundle
from bundler.remote.address import Address
from bundler.remote.http import patience
from bundler.serve.sources import open_source
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.keys import make_key
from tests.support.messages import Told
from tests.support.network.ranged import RangedServer

BIG = {name: {"w": random.Random(name).randbytes(4 << 20), "c.json": name.encode()} for name in "abc"}
CONTENTS = [content for files in BIG.values() for content in files.values()]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repos = [locked_repo(f"org/{name}", files, lfs=["w"]) for name, files in BIG.items()]
    return tiny_bundle(tmp_path_factory.mktemp("made"), *repos, contents=CONTENTS)


@pytest.fixture
def web(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangedServer]:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.0,) * 5)
    with RangedServer({"/b/tiny.tar.zst": packed.read_bytes()}) as server:
        yield server


def bundle(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.stderr
    return done


def address(web: RangedServer) -> str:
    return f"{web.url}/b/tiny.tar.zst"


@pytest.mark.parametrize(
    "words", [("inspect", "--json"), ("digest",), ("sbom",), ("policy", "check", "--json"), ("inspect", "--lock")]
)
def test_what_is_told_of_an_address_is_what_is_told_of_the_file(
    packed: Path, web: RangedServer, words: tuple[str, ...]
) -> None:
    by_file, by_address = bundle(*words, packed), bundle(*words, address(web))
    assert by_address.stdout == by_file.stdout
    assert web.sent_bytes < 300_000


def test_verify_reads_all_of_it_once_and_tells_damage_as_of_a_file(packed: Path, web: RangedServer) -> None:
    found = json.loads(bundle("verify", address(web), "--json").stdout)
    assert (found["ok"], found["subject"]) == (True, address(web))
    assert packed.stat().st_size <= web.sent_bytes < packed.stat().st_size + 300_000
    damaged = bytearray(packed.read_bytes())
    damaged[5 << 20] ^= 1
    web.files["/b/tiny.tar.zst"] = bytes(damaged)
    found = json.loads(bundle("verify", address(web), "--json", code=6).stdout)
    assert [fault["kind"] for fault in found["faults"]] == ["changed"]


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_an_installation_from_an_address_is_that_from_the_file(
    packed: Path, web: RangedServer, tmp_path: Path, ignores_ranges: bool
) -> None:
    web.ignores_ranges = ignores_ranges
    bundle("install", packed, "--hf-home", tmp_path / "file")
    bundle("install", address(web), "--hf-home", tmp_path / "remote")
    assert tree(tmp_path / "remote") == tree(tmp_path / "file")


def test_one_repo_costs_the_wire_its_own_bytes(web: RangedServer, tmp_path: Path) -> None:
    bundle("install", address(web), "--only", "org/b", "--hf-home", tmp_path / "home")
    assert (4 << 20) < web.sent_bytes < 1.05 * (4 << 20)
    assert read_receipt(receipt_path(tmp_path / "home", "tiny")).left_out == ("org/a", "org/c")


def test_an_installation_goes_on_over_connections_that_break(web: RangedServer, tmp_path: Path) -> None:
    web.breaks = lambda request: 1 << 20
    bundle("install", address(web), "--hf-home", tmp_path / "home")
    assert read_receipt(receipt_path(tmp_path / "home", "tiny")).left_out == ()


def test_a_bundle_that_is_replaced_meanwhile_leaves_nothing_visible(
    web: RangedServer, tmp_path: Path, told: Told
) -> None:
    def status(request: object) -> None:
        web.etag = f'"{min(len(web.requests), 4)}"'

    web.status = status
    done = bundle("install", address(web), "--hf-home", tmp_path / "home", code=6)
    assert not list((tmp_path / "home").glob("hub/*/snapshots/*"))
    error = next(line for line in done.stderr.splitlines() if "replaced" in line)
    told("addresses", "the bundle is replaced while it is read", error, WEB=web.url)


def test_a_signature_beside_the_address_goes_through_the_policy(
    packed: Path, web: RangedServer, tmp_path: Path
) -> None:
    key, other = make_key(tmp_path / "alice"), make_key(tmp_path / "mallory")
    (tmp_path / "signers").write_text(key.line("alice@example.org"))
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        'version: 1\nrules:\n  - {bundles: ["*"], allowed_signers: signers, signers: [alice@example.org]}\n'
    )
    where = (address(web), "--policy", policy)
    home = tmp_path / "home"
    for command in ("install", "verify", ("policy", "check")):
        bundle(*([command] if isinstance(command, str) else command), *where, "--hf-home", home, code=20)
    assert not home.joinpath("hub").exists()
    copy = tmp_path / "tiny.tar.zst"
    copy.write_bytes(packed.read_bytes())
    for signer, code in ((other, 20), (key, 0)):
        sign_bundle(copy, signer.path)
        web.files["/b/tiny.tar.zst.sig"] = copy.with_name("tiny.tar.zst.sig").read_bytes()
        bundle("install", *where, "--hf-home", home, code=code)
    assert "signed by alice" in bundle("verify", *where).stderr
    # Right, but of another bundle.
    elsewhere = tiny_bundle(tmp_path / "other", locked_repo("org/x", {"x": b"x"}), contents=[b"x"])
    sign_bundle(elsewhere, key.path)
    web.files["/b/tiny.tar.zst.sig"] = elsewhere.with_name("tiny.tar.zst.sig").read_bytes()
    bundle("install", *where, "--hf-home", tmp_path / "third", code=20)
    bundle("install", address(web), "--hf-home", tmp_path / "third", code=20)
    assert not (tmp_path / "third" / "hub").exists()


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_whether_there_is_a_signature_must_be_known(
    web: RangedServer, tmp_path: Path, ignores_ranges: bool
) -> None:
    web.ignores_ranges = ignores_ranges
    web.status = lambda request: 500 if request.path.endswith(".sig") else None
    bundle("install", address(web), "--hf-home", tmp_path / "home", code=5)
    assert not (tmp_path / "home" / "hub").exists()


def test_serve_diff_and_base_read_it_too(packed: Path, web: RangedServer, tmp_path: Path) -> None:
    source = open_source(Address(address(web)))
    [key] = [key for key in source.repos() if key.repo_id == "org/b"]
    content = source.open(key, source.snapshot(key, "main"), "w")
    assert content.read_at(1 << 20, 1000) == BIG["b"]["w"][1 << 20 : (1 << 20) + 1000]
    content.close()
    assert json.loads(bundle("diff", packed, address(web), "--json", "--hf-home", tmp_path).stdout)["equal"]
    assert Base.open(Address(address(web))) == Base.open(packed)


@pytest.mark.parametrize("command", ["install", "inspect", "verify"])
def test_an_address_of_no_known_kind_and_one_among_volumes_are_wrong_usage(
    command: str, web: RangedServer
) -> None:
    bundle(command, "ftp://host/a.tar.zst", code=2)
    bundle(command, address(web), address(web), code=2)


def test_what_is_not_there_and_what_is_no_bundle_say_so(web: RangedServer, told: Told) -> None:
    web.files["/b/page.html"] = b"<html>" * 100
    for path, code in (("/b/none.tar.zst", 5), ("/b/page.html", 7)):
        done = bundle("inspect", web.url.replace("//", "//user:secret@") + path, code=code)
        told("addresses", f"no bundle at {path}", done.stderr, WEB=web.url)
        assert "secret" not in done.stderr
