"""bundler.trust.spdx: a bundle's bill of materials in SPDX, which the SPDX project's own reader takes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from spdx_python_model import v3_0_1 as spdx

from bundler.plan.lock import Card
from bundler.trust.spdx import write_spdx
from tests.support.bundles import COMMIT, lock_of, locked_repo, locked_web_file, tiny_bundle
from tests.support.described import described_lock
from tests.support.process import run, script

DIGEST = f"sha256:{'0' * 64}"
MODEL, DATA = f"pkg:huggingface/org/m@{COMMIT}", f"pkg:huggingface/datasets/org/d@{COMMIT}"


@pytest.fixture
def graph() -> dict[str, dict[str, Any]]:
    """The objects by what follows # in their id."""
    objects = json.loads(write_spdx(described_lock(), DIGEST))["@graph"]
    return {one["spdxId"].partition("#")[2]: one for one in objects if "spdxId" in one}


def related(graph: dict[str, dict[str, Any]], one: str, how: str) -> list[str]:
    found = graph.get(f"{one}/{how}")
    return [to.partition("#")[2] for to in found["to"]] if found else []


def test_the_reader_of_the_spdx_project_takes_it_and_equal_bundles_have_equal_bills() -> None:
    text = write_spdx(described_lock(), DIGEST)
    assert text == write_spdx(described_lock(), DIGEST)
    assert text != write_spdx(described_lock(), DIGEST.replace("0", "1"))
    for each in (text, write_spdx(lock_of(locked_repo("gpt2", {})), DIGEST)):
        read = spdx.SHACLObjectSet()
        spdx.JSONLDDeserializer().read(io.BytesIO(each.encode()), read)
        assert not read.missing_ids
        again = io.BytesIO()
        # Its writer refuses what lacks a property, or has one of another type.
        spdx.JSONLDSerializer().write(read, again)
        [document] = read.foreach_type(spdx.SpdxDocument)
        [bill] = document.rootElement
        [bundle] = bill.rootElement
        assert bundle.name == "tiny"


def test_each_repo_is_one_package_with_its_files_and_their_hashes(graph: dict[str, dict[str, Any]]) -> None:
    base = f"pkg:huggingface/org/base@{COMMIT}"
    assert related(graph, "bundle", "contains") == [MODEL, base, DATA]
    assert {name: graph[name]["type"] for name in (MODEL, base, DATA)} == {
        MODEL: "ai_AIPackage",
        base: "ai_AIPackage",
        DATA: "dataset_DatasetPackage",
    }
    assert graph[MODEL]["software_packageUrl"] == MODEL
    assert related(graph, MODEL, "contains") == [f"{MODEL}/files/config.json", f"{MODEL}/files/pytorch_model.bin"]
    locked = described_lock().repos[1].files[0]
    hashes = {one["algorithm"]: one["hashValue"] for one in graph[f"{MODEL}/files/config.json"]["verifiedUsing"]}
    assert hashes == {"sha256": locked.sha256, "blake3": locked.blake3}
    prepared = f"{DATA}/prepared/default/0.0.0/h/d.arrow"
    assert related(graph, DATA, "contains") == [f"{DATA}/files/d.txt", prepared]


def test_what_may_run_code_is_said(graph: dict[str, dict[str, Any]]) -> None:
    assert "trust_remote_code" in graph[MODEL]["comment"]
    assert "pickle" in graph[f"{MODEL}/files/pytorch_model.bin"]["comment"]
    assert "comment" not in graph[f"{MODEL}/files/config.json"]


def test_what_the_card_claims_is_declared_and_origins_are_linked(graph: dict[str, dict[str, Any]]) -> None:
    listed, other = related(graph, MODEL, "hasDeclaredLicense")
    assert graph[listed]["simplelicensing_licenseExpression"] == "Apache-2.0"
    assert (graph[other]["type"], graph[other]["name"]) == ("simplelicensing_SimpleLicensingText", "llama3")
    assert related(graph, MODEL, "descendantOf") == [
        f"pkg:huggingface/org/base@{COMMIT}",
        "pkg:huggingface/org/gone",
    ]
    assert related(graph, MODEL, "trainedOn") == [DATA]


def test_a_licence_that_is_no_expression_is_text() -> None:
    for word in ("(" * 350, "mit AND", "é", "other"):
        text = write_spdx(lock_of(locked_repo("org/m", {}, licenses=[word])), DIGEST)
        assert "simplelicensing_LicenseExpression" not in text, word


def test_file_names_of_any_kind_make_ids() -> None:
    text = write_spdx(lock_of(locked_repo("org/m", {"a b%#é.txt": b""})), DIGEST)
    assert f"{MODEL}/files/a%20b%25%23%C3%A9.txt" in text


def test_the_command_writes_it(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}, licenses=["mit"]), contents=[b"a"])
    shown = run([script("bundle"), "sbom", str(bundle), "--format", "spdx"]).stdout
    assert json.loads(shown)["@context"] == "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}), contents=[b"a"])
    (tmp_path / "spdx_python_model.py").write_text("raise ModuleNotFoundError('x')")
    command = [script("bundle"), "sbom", str(bundle), "--format", "spdx"]
    done = run(command, env={"PYTHONPATH": str(tmp_path)}, check=False)
    assert (done.returncode, done.stdout) == (13, "")
    assert "pip install spdx-python-model" in done.stderr


def test_files_are_described_as_the_library_describes_them() -> None:
    """They are written without it."""
    text = write_spdx(described_lock(), DIGEST)
    read, again = spdx.SHACLObjectSet(), io.BytesIO()
    spdx.JSONLDDeserializer().read(io.BytesIO(text.encode()), read)
    spdx.JSONLDSerializer().write(read, again)

    def files(document: str | bytes) -> dict[str, Any]:
        return {one["spdxId"]: one for one in json.loads(document)["@graph"] if one["type"] == "software_File"}

    assert files(text) == files(again.getvalue())
    assert len(files(text)) == 5


def test_packages_are_named_and_typed_by_what_they_are() -> None:
    url = "https://a.example/models/x.pth"
    lock = lock_of(
        locked_repo("org/k", {"build/torch-cpu/__init__.py": b""}, kind="kernel"),
        locked_repo("org/s", {"s.py": b""}, kind="space"),
        locked_web_file(url, {"torch/hub/checkpoints/x.pth": b"x"}, into="torch_hub"),
    )
    found = {
        (one["type"], one["software_primaryPurpose"], one["software_packageUrl"].partition("?")[0])
        for one in json.loads(write_spdx(lock, DIGEST))["@graph"]
        if "software_packageUrl" in one
    }
    assert found == {
        ("software_Package", "library", f"pkg:huggingface/kernels/org/k@{COMMIT}"),
        ("software_Package", "library", f"pkg:huggingface/spaces/org/s@{COMMIT}"),
        ("software_Package", "data", "pkg:generic/x.pth"),
    }


def test_what_a_card_names_may_be_no_repo() -> None:
    card = Card(base_models=("/", "org/base"))
    text = write_spdx(lock_of(replace(locked_repo("org/m", {}), card=card)), DIGEST)
    spdx.JSONLDDeserializer().read(io.BytesIO(text.encode()), spdx.SHACLObjectSet())
    found = {one["name"]: one.get("software_packageUrl") for one in json.loads(text)["@graph"] if "name" in one}
    assert (found["/"], found["org/base"]) == (None, "pkg:huggingface/org/base")


def test_origins_are_found_by_a_repos_own_name_first_and_none_is_its_own() -> None:
    lock = lock_of(
        locked_repo("org/a", {}, aliases=["org/b"]),
        locked_repo("org/b", {}),
        replace(locked_repo("org/m", {}), card=Card(base_models=("org/b", "org/m"))),
    )
    objects = json.loads(write_spdx(lock, DIGEST))["@graph"]
    found = {one["spdxId"].partition("#")[2]: one for one in objects if "spdxId" in one}
    assert related(found, MODEL, "descendantOf") == [f"pkg:huggingface/org/b@{COMMIT}"]
