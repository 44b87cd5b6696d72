"""What a bundle holds, as a CycloneDX bill of materials: repos, files, hashes, licences, and what they were made from.

Rule book:

* it is a pure function of a lock and a digest: equal bundles have equal bills, byte by byte. So there is no time in it,
  and its serial number follows from the digest;
* a repo is one component, whatever number of entries it has in the lock, and its files are components in it;
* what a card claims is marked as declared; nothing here is concluded;
* what may run code when it is loaded is marked: pickle files, and repos whose Python may be run.

Package URLs have the form that the purl specification gives to type `huggingface`; datasets, kernels
and spaces stand under `datasets/` and so on, as in the Hub's own addresses. Files of other hosts have type `generic`.

Source: CycloneDX 1.6 (ECMA-424); github.com/package-url/purl-spec, types/huggingface.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bundler import __version__
from bundler.errors import DependencyError
from bundler.hub.selection.pickle_names import is_pickle
from bundler.plan.file_rules import host_of_url
from bundler.plan.names import address_prefix

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License
    from packageurl import PackageURL

    from bundler.plan.lock import Lock, LockedRepo, Origin
    from bundler.plan.names import RepoType

# Names of properties, as CycloneDX wants them: with a namespace of the tool that writes them.
_PICKLE = "infini-llama:bundle:pickle"
_REMOTE_CODE = "infini-llama:bundle:remote-code"
_LOCK_DIGEST = "infini-llama:bundle:lock-digest"
_PREPARED = "infini-llama:bundle:prepared-dataset"
_NAMESPACE = uuid.UUID("6f0a2f6e-9f39-5c0b-8d67-1b6a7a1c3c55")


def write_sbom(lock: Lock, digest: str) -> str:
    """Return a CycloneDX 1.6 document in JSON.

    Args:
        lock: A complete one, of a bundle.
        digest: The bundle's, ``sha256:…``.

    Raises:
        DependencyError: The package cyclonedx-python-lib is not installed.
    """
    try:
        from cyclonedx.output.json import JsonV1Dot6
    except ModuleNotFoundError as error:
        raise DependencyError(
            "a bill of materials is written by the package cyclonedx-python-lib, which is not installed",
            hint="pip install cyclonedx-python-lib",
        ) from error
    grouped = _group(lock)
    document = json.loads(JsonV1Dot6(_make_bom(lock, grouped, digest)).output_as_string())
    files = {str(_make_url(entries)): _list_files(entries) for entries in grouped}
    for component in document.get("components", ()):
        if found := files[component["bom-ref"]]:
            component["components"] = found
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _group(lock: Lock) -> list[list[LockedRepo]]:
    """Return the entries of a lock by the repo and commit that they are of."""
    grouped: dict[tuple[RepoType, str, str], list[LockedRepo]] = {}
    for repo in lock.repos:
        grouped.setdefault((repo.repo_type, repo.repo_id, repo.commit), []).append(repo)
    return list(grouped.values())


def _make_bom(lock: Lock, grouped: list[list[LockedRepo]], digest: str) -> Bom:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository

    sha256 = digest.removeprefix("sha256:")
    bundle = Component(
        name=lock.name,
        type=ComponentType.CONTAINER,
        version=digest,
        bom_ref=digest,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        properties=[Property(name=_LOCK_DIGEST, value=lock.digest)],
    )
    tool = Component(name="bundle", type=ComponentType.APPLICATION, version=__version__)
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, digest), metadata=BomMetaData(component=bundle))
    # The library puts itself and the present time in where nothing stands.
    bom.metadata.tools = ToolRepository(components=[tool])
    bom.metadata.timestamp = None  # type: ignore[assignment]  # the getter has another type than the setter takes
    made: dict[str, list[Component]] = {}
    for entries in grouped:
        component = _make_repo(entries)
        bom.components.add(component)
        for name in {entries[0].repo_id, *(alias for entry in entries for alias in entry.aliases)}:
            made.setdefault(name, []).append(component)
    bom.register_dependency(bundle, bom.components)
    for entries in grouped:
        bases = {base for entry in entries if entry.card for base in entry.card.base_models}
        ours = made[entries[0].repo_id][0]
        bom.register_dependency(ours, [one for base in bases for one in made.get(base, ()) if one is not ours])
    return bom


def _make_repo(entries: list[LockedRepo]) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType, Pedigree

    first = entries[0]
    kinds = {"model": ComponentType.MACHINE_LEARNING_MODEL, "dataset": ComponentType.DATA}
    # Kernels and spaces are code.
    kind = kinds.get(first.repo_type, ComponentType.LIBRARY)
    if first.origin is not None:
        kind = ComponentType.LIBRARY if first.origin.unpacked else ComponentType.DATA
    url = _make_url(entries)
    cards = [entry.card for entry in entries if entry.card is not None]
    ancestors = [
        Component(name=name, type=ComponentType.MACHINE_LEARNING_MODEL, purl=_make_purl("model", name, None))
        for name in sorted({name for card in cards for name in card.base_models})
    ]
    ancestors += [
        Component(name=name, type=ComponentType.DATA, purl=_make_purl("dataset", name, None))
        for name in sorted({name for card in cards for name in card.datasets})
    ]
    group, _, name = first.repo_id.rpartition("/")
    return Component(
        name=name,
        group=group or None,
        version=first.commit,
        type=kind,
        bom_ref=str(url),
        purl=url,
        licenses=_make_licenses({text for card in cards for text in card.licenses}),
        pedigree=Pedigree(ancestors=ancestors) if ancestors else None,
        properties=[
            *([Property(name=_REMOTE_CODE, value="true")] if any(e.trust_remote_code for e in entries) else []),
            *(
                [Property(name=_PICKLE, value="true")]
                if any(is_pickle(file.path) for entry in entries for file in entry.files)
                else []
            ),
        ],
    )


def _make_url(entries: list[LockedRepo]) -> PackageURL:
    first = entries[0]
    if first.origin is not None:
        return _make_generic_purl(first.origin)
    return _make_purl(first.repo_type, first.repo_id, first.commit)


def _list_files(entries: list[LockedRepo]) -> list[dict[str, object]]:
    """Return the files of a repo as the components that they are.

    The library takes a millisecond for each, and compares its reference with all before it: 30,000 took it minutes.
    """
    url = _make_url(entries)
    files = {file.path: file for entry in entries for file in entry.files}
    prepared = {file.path: file for entry in entries for file in entry.prepared}
    found = [
        _describe_file(f"{url}#{path}", path, file.sha256, file.blake3, _PICKLE if is_pickle(path) else None)
        for path, file in files.items()
    ]
    found += [
        _describe_file(f"{url}#prepared/{path}", path, file.sha256, file.blake3, _PREPARED)
        for path, file in prepared.items()
    ]
    return sorted(found, key=lambda component: (str(component["name"]), str(component["bom-ref"])))


def _describe_file(
    ref: str, path: str, sha256: str | None, blake3: str | None, mark: str | None
) -> dict[str, object]:
    assert sha256 and blake3, "the lock of a bundle is complete"
    hashes = [{"alg": "BLAKE3", "content": blake3}, {"alg": "SHA-256", "content": sha256}]
    component: dict[str, object] = {"type": "file", "name": path, "bom-ref": ref, "hashes": hashes}
    if mark is not None:
        component["properties"] = [{"name": mark, "value": "true"}]
    return component


def _make_purl(repo_type: RepoType, repo_id: str, commit: str | None) -> PackageURL:
    from packageurl import PackageURL

    namespace, _, name = repo_id.rpartition("/")
    namespace = f"{address_prefix(repo_type)}{namespace}".rstrip("/")
    return PackageURL("huggingface", namespace or None, name, commit)


def _make_generic_purl(origin: Origin) -> PackageURL:
    from packageurl import PackageURL

    name = urlsplit(origin.url).path.rpartition("/")[2] or host_of_url(origin.url)
    return PackageURL(
        "generic", None, name, None, {"checksum": f"sha256:{origin.sha256}", "download_url": origin.url}
    )


def _make_licenses(words: Iterable[str]) -> list[License]:
    """Return what a card declares: SPDX ids where they are some, else names."""
    from cyclonedx.contrib.license.exceptions import InvalidSpdxLicenseException
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.license import LicenseAcknowledgement

    declared, factory, made = LicenseAcknowledgement.DECLARED, LicenseFactory(), []
    for word in sorted(words):
        try:
            made.append(factory.make_with_id(word, acknowledgement=declared))
        except InvalidSpdxLicenseException:
            made.append(factory.make_with_name(word, acknowledgement=declared))
    return list(made)
