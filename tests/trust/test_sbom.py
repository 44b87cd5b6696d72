"""bundler.trust.sbom: a bundle's bill of materials, valid by the schema of CycloneDX and equal for equal bundles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from bundler.errors import LockError
from bundler.plan.lock import Card, Lock
from bundler.text.wording import size
from bundler.trust.package_urls import MAX_NAMES
from bundler.trust.sbom import write_sbom
from bundler.trust.spdx import write_spdx
from tests.support.bundles import COMMIT, lock_of, locked_repo, locked_web_file, tiny_bundle
from tests.support.described import described_lock
from tests.support.process import run, script

DIGEST = f"sha256:{'0' * 64}"
MODEL = "pkg:huggingface/org/m@" + COMMIT


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {row["name"].rpartition(":")[2]: row["value"] for row in component.get("properties", [])}


@pytest.fixture
def lock() -> Lock:
    return described_lock()


def test_it_is_valid_and_equal_for_equal_bundles(lock: Lock) -> None:
    text = write_sbom(lock, DIGEST)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert text == write_sbom(lock, DIGEST)
    assert text != write_sbom(lock, DIGEST.replace("0", "1"))
    empty = write_sbom(lock_of(locked_repo("gpt2", {})), DIGEST)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(empty) is None


def test_each_repo_is_one_component_with_its_files_and_their_hashes(lock: Lock) -> None:
    bom = json.loads(write_sbom(lock, DIGEST))
    found = {component["purl"]: component for component in bom["components"]}
    data = "pkg:huggingface/datasets/org/d@" + COMMIT
    assert set(found) == {MODEL, "pkg:huggingface/org/base@" + COMMIT, data}
    assert [component["name"] for component in found[MODEL]["components"]] == ["config.json", "pytorch_model.bin"]
    hashes = {row["alg"]: row["content"] for row in found[MODEL]["components"][0]["hashes"]}
    locked = lock.repos[1].files[0]
    assert hashes == {"SHA-256": locked.sha256, "BLAKE3": locked.blake3}
    assert {c["name"]: properties(c) for c in found[data]["components"]} == {
        "d.txt": {},
        "default/0.0.0/h/d.arrow": {"prepared-dataset": "true"},
    }
    assert bom["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "0" * 64}]
    assert properties(bom["metadata"]["component"]) == {"lock-digest": lock.digest}


def test_what_may_run_code_is_marked(lock: Lock) -> None:
    bom = json.loads(write_sbom(lock, DIGEST))
    (model,) = (component for component in bom["components"] if component["purl"] == MODEL)
    assert properties(model) == {"pickle": "true", "remote-code": "true"}
    assert [properties(file) for file in model["components"]] == [{}, {"pickle": "true"}]
    (base,) = (component for component in bom["components"] if component["name"] == "base")
    assert properties(base) == {}


def test_what_the_card_claims_is_declared_and_origins_are_linked(lock: Lock) -> None:
    bom = json.loads(write_sbom(lock, DIGEST))
    (model,) = (component for component in bom["components"] if component["purl"] == MODEL)
    assert [row["license"] for row in model["licenses"]] == [
        {"acknowledgement": "declared", "id": "Apache-2.0"},
        {"acknowledgement": "declared", "name": "llama3"},
    ]
    origins = {(c["type"], c["purl"]) for c in model["pedigree"]["ancestors"]}
    assert origins == {
        ("machine-learning-model", "pkg:huggingface/org/base"),
        ("machine-learning-model", "pkg:huggingface/org/gone"),
        ("data", "pkg:huggingface/datasets/org/d"),
    }
    depends = {row["ref"]: row.get("dependsOn", []) for row in bom["dependencies"]}
    assert depends[MODEL] == ["pkg:huggingface/org/base@" + COMMIT]
    assert len(depends[DIGEST]) == 3


def test_the_command_reads_a_bundle_or_an_installed_one(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}, licenses=["mit"]), contents=[b"a"])
    home = ["--hf-home", str(tmp_path / "home")]
    run([script("bundle"), "install", str(bundle), *home])
    shown = run([script("bundle"), "sbom", str(bundle)]).stdout
    assert run([script("bundle"), "sbom", "tiny", *home]).stdout == shown
    run([script("bundle"), "sbom", "tiny", *home, "-o", str(tmp_path / "tiny.cdx.json")])
    assert (tmp_path / "tiny.cdx.json").read_text() == shown
    again = run([script("bundle"), "sbom", "tiny", *home, "-o", str(tmp_path / "tiny.cdx.json")])
    assert again.stderr == f"replaces {tmp_path}/tiny.cdx.json: {size(len(shown))}\n"
    assert json.loads(shown)["specVersion"] == "1.6"
    missing = run([script("bundle"), "sbom", "other", *home], check=False)
    assert (missing.returncode, missing.stdout) == (9, "")


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}), contents=[b"a"])
    (tmp_path / "cyclonedx").mkdir()
    (tmp_path / "cyclonedx/__init__.py").write_text("raise ModuleNotFoundError('cyclonedx')")
    done = run([script("bundle"), "sbom", str(bundle)], env={"PYTHONPATH": str(tmp_path)}, check=False)
    assert (done.returncode, done.stdout) == (13, "")
    assert "pip install cyclonedx-python-lib" in done.stderr


def test_kernels_and_spaces_are_libraries_under_addresses_of_their_kind() -> None:
    lock = lock_of(
        locked_repo("org/k", {"build/torch-cpu/__init__.py": b""}, kind="kernel"),
        locked_repo("org/s", {"s.py": b""}, kind="space"),
    )
    found = {
        (part["type"], part["purl"]) for part in json.loads(write_sbom(lock, "sha256:" + "0" * 64))["components"]
    }
    assert found == {
        ("library", f"pkg:huggingface/kernels/org/k@{COMMIT}"),
        ("library", f"pkg:huggingface/spaces/org/s@{COMMIT}"),
    }


def test_files_of_other_hosts_are_generic_packages_with_their_address() -> None:
    url = "https://a.example/models/x.pth?v=1"
    entry = locked_web_file(url, {"torch/hub/checkpoints/x.pth": b"x"}, into="torch_hub")
    text = write_sbom(lock_of(entry), DIGEST)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    [part] = json.loads(text)["components"]
    assert entry.origin is not None
    assert part["type"] == "data"
    assert part["purl"].startswith("pkg:generic/x.pth?checksum=sha256:")
    found = PackageURL.from_string(part["purl"]).qualifiers
    assert found == {"checksum": f"sha256:{entry.origin.sha256}", "download_url": url}


def test_what_a_card_names_may_be_no_repo() -> None:
    names = ("/", "a b", "org/base", "two, or/three")
    lock = lock_of(replace(locked_repo("org/m", {}), card=Card(base_models=names, datasets=names)))
    text = write_sbom(lock, DIGEST)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {(one["name"], one.get("purl")) for one in json.loads(text)["components"][0]["pedigree"]["ancestors"]}
    known = ("pkg:huggingface/org/base", "pkg:huggingface/datasets/org/base")
    assert found == {
        *((name, None) for name in names if name != "org/base"),
        *(("org/base", url) for url in known),
    }


@pytest.mark.parametrize("write", [write_sbom, write_spdx])
def test_a_bill_of_more_names_than_it_lists_is_refused(write: Callable[[Lock, str], str]) -> None:
    repo = locked_repo("org/m", {})
    most = [replace(repo, repo_id=f"org/m{number}") for number in range(MAX_NAMES)]
    assert f"org/m{MAX_NAMES - 1}@" in write(lock_of(*most), DIGEST)
    more = replace(repo, repo_id="org/n", card=Card(licenses=("mit",)))
    with pytest.raises(LockError, match=r"at most 2,000 repos, aliases, .* has 2,001"):
        write(lock_of(*most[1:], more), DIGEST)


@pytest.mark.parametrize("write", [write_sbom, write_spdx])
def test_a_file_that_goes_to_two_places_is_there_twice(write: Callable[[Lock, str], str]) -> None:
    url = "https://a.example/x.pth"
    lock = lock_of(
        locked_web_file(url, {"torch/hub/checkpoints/x.pth": b"x"}, into="torch_hub"),
        locked_web_file(url, {"files/x.pth": b"x"}, into="files"),
    )
    found = {one["name"] for one in _walk(json.loads(write(lock, DIGEST))) if "name" in one}
    assert {"torch/hub/checkpoints/x.pth", "files/x.pth"} <= found


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _walk(one)


@pytest.mark.parametrize(("write", "name"), [(write_sbom, "bom-ref"), (write_spdx, "spdxId")])
def test_no_two_things_have_one_id(write: Callable[[Lock, str], str], name: str) -> None:
    lock = lock_of(
        locked_repo("org/d", {"prepared/x": b"1"}, kind="dataset", prepared={"x": b"2"}),
        *(
            locked_web_file(url, {f"files/{number}": b"x"}, into="files")
            for number, url in enumerate(("https://h/x", "https://h/x/files/files/0", "https://h/x/contains"))
        ),
    )
    found = [one[name] for one in _walk(json.loads(write(lock, DIGEST))) if name in one]
    assert len(found) == len(set(found))


def test_only_models_are_what_models_were_made_from() -> None:
    made = replace(locked_repo("org/m", {}), card=Card(base_models=("org/b",)))
    lock = lock_of(made, locked_repo("org/b", {}, kind="dataset"))
    depends = {
        row["ref"]: row.get("dependsOn", []) for row in json.loads(write_sbom(lock, DIGEST))["dependencies"]
    }
    assert depends[MODEL] == []
