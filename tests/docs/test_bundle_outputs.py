"""`docs/reference/json.md` has every key that the commands of `bundle` write, and no other."""

from __future__ import annotations

import json
import pickle
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.home.home import Home
from bundler.home.launches import note_launch
from docs.generate.bundle_outputs import OUTPUTS
from docs.generate.observed import faults
from tests.cli.test_serve import serving
from tests.conftest import PLAIN
from tests.offline.conftest import OUTSIDE, needs_seccomp
from tests.serve.conftest import write_repos
from tests.support.bundles import COMMIT, OTHER_COMMIT, blob_store, lock_of, locked_repo, tiny_bundle
from tests.support.hub import RunningHub
from tests.support.keys import make_key
from tests.support.process import run, script
from tests.support.remote import write_repo

DOCUMENTED = {output.call: output for output in OUTPUTS}
FILES = {"config.json": b"{}", "w.safetensors": b"w" * 5000}
READY = {"default/0.0.0/h/d.arrow": b"arrow" * 200}


def bundle(*words: object, env: dict[str, str] | None = None) -> Any:
    """Return the JSON that a command prints, whatever its exit code."""
    done = run([script("bundle"), *map(str, words)], env=env, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def check(call: str, *values: Any) -> None:
    assert faults(DOCUMENTED[call], values) == []


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A bundle of a model, known by another name too, and of a prepared dataset."""
    model = locked_repo("org/m", FILES, aliases=["m"], lfs=["w.safetensors"], licenses=["mit"])
    data = locked_repo("org/d", {"d.txt": b"d"}, kind="dataset", prepared=READY)
    return tiny_bundle(tmp_path / "packed", model, data, contents=[*FILES.values(), b"d", *READY.values()])


@pytest.fixture
def home(packed: Path, tmp_path: Path) -> Path:
    bundle("install", packed, "--hf-home", tmp_path / "home", "--json")
    return tmp_path / "home"


def test_what_lock_and_fetch_write_is_documented(plain_environment: dict[str, str], tmp_path: Path) -> None:
    manifest, env = tmp_path / "small.yaml", plain_environment
    planned = bundle("fetch", manifest, "--dry-run", "--json", env=env)
    first = bundle("lock", manifest, "--json", env=env)
    fits = bundle("lock", manifest, "--check", "--json")
    out = tmp_path / "small.tar.zst"
    whole = bundle("fetch", manifest, "-o", out, "--prove", "cat $HF_HOME/hub/*/blobs/*", "--json", env=env)
    base = ("--base", out, "-o", tmp_path / "delta.tar.zst")
    delta = bundle("fetch", manifest, *base, "--json", env=env)
    replacing = bundle("fetch", manifest, *base, "--codec", "zstd", "--json", env=env)
    assert replacing["replaced"]
    key = make_key(tmp_path / "keys").path
    signing = ("fetch", manifest, "-o", out, "--sign", key, "--json")
    signed = [bundle(*signing, env=env) for _ in range(2)]
    check("bundle fetch --json", whole, delta, replacing, *signed, _fetch_a_pickle(tmp_path / "pickled"))
    check("bundle sign --json", bundle("sign", out, "--key", key, "--json", env=env))
    again = bundle("fetch", manifest, "-o", out, "--dry-run", "--json", env=env)
    assert again["replaced"]
    check("bundle fetch --dry-run --json", planned, again)
    check("bundle cache list --json", bundle("cache", "list", "--json", env=env))
    check("bundle cache prune --json", bundle("cache", "prune", "--dry-run", "--json", env=env))

    manifest.write_text(PLAIN.replace("org/small", "org/other"))
    differs = bundle("lock", manifest, "--check", "--json")
    # The new entry has no commit before, and that which is gone has none now.
    check("bundle lock --json", first, bundle("lock", manifest, "--json", env=env))
    check("bundle lock --check --json", fits, differs)


def _fetch_a_pickle(folder: Path) -> Any:
    """Fetch weights that are pickled, without a config, so that nothing is imported; return what the command writes."""
    write_repo(folder / "hub/org/pickled", {"pytorch_model.bin": pickle.dumps({"weight": [1.0]})})
    manifest = folder / "pickled.yaml"
    entry = "{repo_id: org/pickled, allow_pickle: true, allow_patterns: ['*']}"
    manifest.write_text(f"version: 1\nname: pickled\nmodels: [{entry}]\n")
    with RunningHub(folder / "hub") as hub:
        env = {**hub.environment(folder / "hf"), "BUNDLE_CACHE": str(folder / "cache")}
        return bundle("fetch", manifest, "-o", folder / "pickled.tar.zst", "--json", env=env)


def test_what_commands_on_a_bundle_file_write_is_documented(packed: Path, tmp_path: Path) -> None:
    signers = tmp_path / "signers"
    policy = tmp_path / "policy.yaml"
    key = make_key(tmp_path / "keys")
    signers.write_text(key.line("a@example.org"))
    policy.write_text('version: 1\nrules: [{bundles: ["*"], allowed_signers: signers}]\n')
    bundle("sign", packed, "--key", key.path, "--json")
    verified = bundle("verify", packed, "--policy", policy, "--json")
    assert verified["signer"] == "a@example.org"
    check("bundle policy check --json", bundle("policy", "check", packed, "--policy", policy, "--json"))
    inspected = bundle("inspect", packed, "--files", "--json")
    splitting = ("split", packed, "--volume-size", 4000, "-o", tmp_path / "cut.tar.zst", "--json")
    divided = bundle(*splitting)
    check("bundle split --json", divided, bundle(*splitting))
    joining = ("join", divided["volumes"][0], "-o", tmp_path / "j.tar.zst", "--json")
    check("bundle join --json", bundle(*joining), bundle(*joining))

    last = Path(divided["volumes"][-1])
    content = bytearray(last.read_bytes())
    content[-300] ^= 1
    last.write_bytes(content)
    check("bundle verify --json", verified, bundle("verify", last, "--json"))

    contents = [*FILES.values(), b"new"]
    lock_file = tmp_path / "old.lock"
    lock_file.write_text(lock_of(locked_repo("org/m", FILES), name="old").dumps())
    from bundler.make.delta import Base
    from bundler.make.pack import pack

    new = lock_of(locked_repo("org/m", {**FILES, "new.txt": b"new"}, commit=OTHER_COMMIT), name="new")
    store = blob_store(tmp_path / "store", contents)
    for name, base in (("by-lock", lock_file), ("by-file", packed)):
        pack(new, store, tmp_path / f"{name}.tar.zst", base=Base.open(base))
    deltas = [bundle("inspect", tmp_path / f"{name}.tar.zst", "--json") for name in ("by-lock", "by-file")]
    check("bundle inspect --json", inspected, *deltas)
    # A lock has no digest and no length; an entry may be on one side only.
    diffs = [bundle("diff", one, other, "--json") for one, other in ((packed, lock_file), (lock_file, packed))]
    check("bundle diff --json", *diffs, bundle("diff", packed, tmp_path / "by-file.tar.zst", "--json"))


def test_what_commands_on_an_installed_bundle_write_is_documented(
    packed: Path, home: Path, tmp_path: Path
) -> None:
    stray = home / "hub" / "models--org--m" / "snapshots" / COMMIT / "stray.txt"
    stray.write_text("of no bundle")
    policy = tmp_path / "policy.yaml"
    policy.write_text('version: 1\nrules: [{bundles: ["*"], signature: optional}]\n')
    found = bundle("verify", "tiny", "--hf-home", home, "--policy", policy, "--json")
    assert found["faults"]
    check("bundle verify --json", found, bundle("verify", "tiny", "--quick", "--hf-home", home, "--json"))
    again = bundle("install", packed, "--hf-home", home, "--json")
    assert again["set_aside"]
    part = bundle("install", packed, "--only", "m", "--hf-home", tmp_path / "part", "--json")
    other = locked_repo("org/m", {"x": b"x"}, commit=OTHER_COMMIT)
    upgrade = tiny_bundle(tmp_path / "upgrade", other, contents=[b"x"])
    beside = tiny_bundle(tmp_path / "beside", other, contents=[b"x"], name="beside")
    held = bundle("install", beside, "--hf-home", home, "--json")
    assert held["held"]
    dry = ("--dry-run", "--json", "--hf-home")
    planned = bundle("install", upgrade, *dry, tmp_path / "part")
    assert planned["replaced"]
    check("bundle install --dry-run --json", planned, bundle("install", upgrade, *dry, tmp_path / "none"))
    (tmp_path / "part" / "hub").chmod(0o700)
    replaced = bundle("install", upgrade, "--hf-home", tmp_path / "part", "--json")
    check("bundle install --json", again, part, held, replaced)
    check("bundle rollback --json", bundle("rollback", "tiny", "--hf-home", tmp_path / "part", "--json"))
    check("bundle path --json", bundle("path", "m", "--hf-home", home, "--json"))
    check("bundle env --json", bundle("env", "tiny", "--hf-home", home, "--json"))
    check("bundle doctor --json", bundle("doctor", "--hf-home", home, "--json"))
    _install_signed(home, tmp_path)
    (home / "bundles" / "other.json").write_bytes(b"damaged")
    whole = bundle("list", "--hf-home", home, "--json")
    log = home / "bundles" / "log.jsonl"
    log.rename(log.with_suffix(".old"))
    check("bundle list --json", whole, bundle("list", "--hf-home", home, "--json"))
    stray.write_text("of no bundle")
    check("bundle verify --all --json", bundle("verify", "--all", "--hf-home", home, "--policy", policy, "--json"))


def test_what_is_written_of_generations_that_go_and_that_stay_is_documented(packed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    bundle("install", packed, "--hf-home", home, "--json")
    for content in (b"x", b"y"):
        repo = locked_repo("org/m", {"x": content}, commit=OTHER_COMMIT)
        newer = tiny_bundle(tmp_path / content.decode(), repo, contents=[content])
        bundle("install", newer, "--hf-home", home, "--json")
    first = Home(home).generations("tiny")[-1]
    with note_launch(home, [first]):
        check("bundle prune --json", bundle("prune", "--hf-home", home, "--json"))
        check("bundle remove --json", bundle("remove", "tiny", "--hf-home", home, "--json"))
    check("bundle log --json", bundle("log", "--hf-home", home, "--json"))


@needs_seccomp
def test_the_report_of_a_launch_is_documented(home: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # In Python, where the guard sees it, and in an interpreter without a guard, where the kernel does.
    attempt = f"import socket; socket.create_connection(('{OUTSIDE}', 80))"
    both = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-I', '-c', {attempt!r}], stderr=subprocess.DEVNULL)\n"
        f"{attempt}\n"
    )
    for kind in ("seccomp", "none"):
        words = ["run", "--hf-home", home, "--isolate", kind, "--report", report, "--expect", f"{OUTSIDE}:80"]
        words += ["--", sys.executable, "-c"]
        run([script("bundle"), *map(str, words), both if kind == "seccomp" else "pass"], check=False)
        report.rename(tmp_path / kind)
    values = [json.loads((tmp_path / kind).read_bytes()) for kind in ("seccomp", "none")]
    assert values[0]["attempts"]["refused"] and values[0]["attempts"]["kernel_refused"]
    check("bundle run --report FILE", *values)


def test_what_serve_writes_is_documented(tmp_path: Path) -> None:
    with serving(write_repos(tmp_path / "repos"), "--port", "0", "--json") as (_, line):
        check("bundle serve --json", json.loads(line))


def test_what_a_failing_command_writes_is_documented(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)):
        missing = bundle("verify", "absent", "--hf-home", tmp_path, "--json")
    (tmp_path / "broken.tar.zst").write_bytes(b"nothing")
    broken = bundle("inspect", tmp_path / "broken.tar.zst", "--json")
    check("any `bundle` command with --json that fails", missing, broken)


def _install_signed(home: Path, folder: Path) -> None:
    """Install a bundle that says where it comes from and by whose key."""
    repo = replace(locked_repo("org/s", {"s": b"s"}), endpoint="https://huggingface.co")
    packed = tiny_bundle(folder / "signed", repo, contents=[b"s"], name="signed")
    bundle("sign", packed, "--key", make_key(folder / "signing").path, "--json")
    bundle("install", packed, "--hf-home", home, "--json")
