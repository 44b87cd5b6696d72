"""What a bundle holds, as a CycloneDX bill of materials: repos, files, hashes, licences, and what they were made from.

Rule book:

* it is a pure function of a lock and a digest: equal bundles have equal bills, byte by byte. So there is no time in it,
  and its serial number follows from the digest;
* a repo is one component, whatever number of entries it has in the lock, and its files are components in it;
* what a card claims is marked as declared; nothing here is concluded;
* what may run code when it is loaded is marked: pickle files, and repos whose Python may be run.

The library makes each repo, and the frame around them. They are put together, and files and dependencies are written,
without it: it compares each with all before it, and 30,000 files took it minutes.

Source: CycloneDX 1.6 (ECMA-424).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from bundler import __version__
from bundler.errors import DependencyError
from bundler.hub.selection.pickle_names import is_pickle
from bundler.plan.names import is_repo_id
from bundler.trust.package_urls import group_by_url, url_of_entry, url_of_repo

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import License

    from bundler.plan.lock import Lock, LockedRepo
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
        LockError: The lock has more names than a bill lists.
    """
    try:
        from cyclonedx.output.json import JsonV1Dot6
        from cyclonedx.schema.schema import SchemaVersion1Dot6
    except ModuleNotFoundError as error:
        raise DependencyError(
            "a bill of materials is written by the package cyclonedx-python-lib, which is not installed",
            hint="pip install cyclonedx-python-lib",
        ) from error
    grouped = group_by_url(lock)
    document = json.loads(JsonV1Dot6(_make_frame(lock, digest)).output_as_string())
    document["components"] = [
        {
            **json.loads(_make_repo(url, entries).as_json(view_=SchemaVersion1Dot6)),  # type: ignore[attr-defined]
            "components": _list_files(url, entries),
        }
        for url, entries in sorted(grouped.items())
    ]
    document["dependencies"] = _list_dependencies(digest, grouped)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _make_frame(lock: Lock, digest: str) -> Bom:
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
    return bom


def _list_dependencies(digest: str, grouped: Mapping[str, list[LockedRepo]]) -> list[dict[str, object]]:
    """Return what the bundle is made of, and which repos were made from others in it, as their cards say."""
    named: dict[str, list[str]] = {}
    for url, entries in grouped.items():
        if entries[0].repo_type == "model":
            for name in {entries[0].repo_id, *(alias for entry in entries for alias in entry.aliases)}:
                named.setdefault(name, []).append(url)
    depends = {digest: set(grouped)}
    for url, entries in grouped.items():
        bases = {base for entry in entries if entry.card for base in entry.card.base_models}
        depends[url] = {one for base in bases for one in named.get(base, ())} - {url}
    return [{"ref": ref, "dependsOn": sorted(on)} if on else {"ref": ref} for ref, on in sorted(depends.items())]


def _make_repo(url: str, entries: list[LockedRepo]) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType, Pedigree

    first = entries[0]
    kinds = {"model": ComponentType.MACHINE_LEARNING_MODEL, "dataset": ComponentType.DATA}
    # Kernels and spaces are code.
    kind = kinds.get(first.repo_type, ComponentType.LIBRARY)
    if first.origin is not None:
        kind = ComponentType.LIBRARY if first.origin.unpacked else ComponentType.DATA
    cards = [entry.card for entry in entries if entry.card is not None]
    ancestors = [
        *_make_origins(
            "model", ComponentType.MACHINE_LEARNING_MODEL, {n for card in cards for n in card.base_models}
        ),
        *_make_origins("dataset", ComponentType.DATA, {n for card in cards for n in card.datasets}),
    ]
    group, _, name = first.repo_id.rpartition("/")
    return Component(
        name=name,
        group=group or None,
        version=first.commit,
        type=kind,
        bom_ref=url,
        purl=url_of_entry(first),
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


def _make_origins(repo_type: RepoType, kind: ComponentType, names: Iterable[str]) -> Iterator[Component]:
    from cyclonedx.model.component import Component

    for name in sorted(names):
        # Cards are written by hand: what they name may be no repo.
        yield Component(name=name, type=kind, purl=url_of_repo(repo_type, name) if is_repo_id(name) else None)


def _list_files(url: str, entries: list[LockedRepo]) -> list[dict[str, object]]:
    """Return the files of a repo as the components that they are."""
    files = {file.path: file for entry in entries for file in entry.files}
    prepared = {file.path: file for entry in entries for file in entry.prepared}
    found = [
        _describe_file(f"{url}#files/{path}", path, file.sha256, file.blake3, _PICKLE if is_pickle(path) else None)
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
