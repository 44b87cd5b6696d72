"""What a bundle holds, as an SPDX 3.0.1 bill of materials: the same as `bundler.trust.sbom`, in the words of SPDX.

Rule book:

* it is a pure function of a lock and a digest. SPDX wants a time at which a bill was made; this one says 1970, and why;
* a model is an AI package and a dataset a dataset package, but conformance with the profiles of both is not claimed:
  they ask for more than cards say;
* what may run code when it is loaded is said in a comment, since SPDX has no word for it;
* the library makes all but the files: it takes half a millisecond for each, and there may be a hundred thousand.

Source: spdx.github.io/spdx-spec/v3.0.1; the package spdx-python-model is made from its ontology, and refuses to write
what breaks it.
"""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from bundler import __version__
from bundler.errors import DependencyError
from bundler.hub.selection.pickle_names import is_pickle
from bundler.plan.names import is_repo_id
from bundler.text.documents import REPOSITORY
from bundler.trust.licenses import normalize
from bundler.trust.package_urls import group_by_url, url_of_repo

if TYPE_CHECKING:
    from bundler.plan.lock import Lock, LockedFile, LockedRepo, PreparedFile
    from bundler.plan.names import RepoType

_VERSION = "3.0.1"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NO_TIME = "Equal bundles have equal bills, so the time at which this was written is not in it."
_PICKLE = "A pickle: it may run code when it is loaded."
_REMOTE_CODE = "Its Python may be run when it is loaded (trust_remote_code)."
_PREPARED = "Made from the files of the dataset, in the form that the datasets library loads offline."
_NO_TEXT = "The card of the repo names this licence; it is none that SPDX lists."


def write_spdx(lock: Lock, digest: str) -> str:
    """Return an SPDX 3.0.1 document in JSON-LD.

    Args:
        lock: A complete one, of a bundle.
        digest: The bundle's, ``sha256:…``.

    Raises:
        DependencyError: The package spdx-python-model, license-expression or packageurl-python is not installed.
        LockError: The lock has more names than a bill lists.
    """
    try:
        import packageurl  # noqa: F401  # what is missing is said before anything is read
        from spdx_python_model import v3_0_1 as spdx
    except ModuleNotFoundError as error:
        raise DependencyError(
            "a bill of materials in SPDX is written by the package spdx-python-model, which is not installed",
            hint="pip install spdx-python-model license-expression packageurl-python",
        ) from error
    bill = _Bill(spdx, digest)
    bill.describe(lock)
    written = io.BytesIO()
    spdx.JSONLDSerializer().write(bill.objects, written)
    document = json.loads(written.getvalue())
    [made] = (one["@id"] for one in document["@graph"] if one["type"] == "CreationInfo")
    document["@graph"] += [{**file, "creationInfo": made} for file in bill.files]
    return json.dumps(document, indent=1) + "\n"


class _Bill:
    """A bill that is being written.

    Args:
        spdx: The module with the classes.
        digest: The bundle's.

    Attributes:
        objects: All but the files.
        files: The files, without what says how they were made.
    """

    def __init__(self, spdx: Any, digest: str) -> None:
        self._spdx, self._digest = spdx, digest
        self._space = f"{REPOSITORY}/spdx/{digest.removeprefix('sha256:')}#"
        self._packages: dict[str, Any] = {}
        self._licenses: dict[str, Any] = {}
        self.objects = spdx.SHACLObjectSet()
        self.files: list[dict[str, object]] = []
        self._made = spdx.CreationInfo(specVersion=_VERSION, created=_EPOCH, comment=_NO_TIME)
        self._made.createdBy = [self._add("SoftwareAgent", "writer", name=f"bundle {__version__}")]

    def describe(self, lock: Lock) -> None:
        """Add everything."""
        sha256 = [self._hash("sha256", self._digest.removeprefix("sha256:"))]
        bundle = self._add("software_Package", "bundle", name=lock.name, verifiedUsing=sha256)
        bundle.software_packageVersion = self._digest
        bundle.software_primaryPurpose = self._spdx.software_SoftwarePurpose.archive
        bundle.comment = f"lock digest: {lock.digest}"
        grouped = group_by_url(lock)
        repos = [self._add_repo(url, entries) for url, entries in grouped.items()]
        self._name_packages(list(zip(repos, grouped.values(), strict=True)))
        self._relate(bundle, "contains", repos)
        for package, entries in zip(repos, grouped.values(), strict=True):
            self._add_origins(package, entries)
        bill = self._add("software_Sbom", "sbom", rootElement=[bundle])
        conformance = self._spdx.ProfileIdentifierType
        profiles = [conformance.core, conformance.software, conformance.simpleLicensing]
        self._add("SpdxDocument", "document", rootElement=[bill], profileConformance=profiles)

    def _add(self, kind: str, fragment: str, **values: Any) -> Any:
        made = getattr(self._spdx, kind)(spdxId=self._space + fragment, creationInfo=self._made, **values)
        self.objects.add(made)
        return made

    def _hash(self, algorithm: str, value: str) -> Any:
        return self._spdx.Hash(algorithm=getattr(self._spdx.HashAlgorithm, algorithm), hashValue=value)

    def _relate(self, one: Any, how: str, others: Iterable[Any]) -> None:
        if to := list(others):
            kind = getattr(self._spdx.RelationshipType, how)
            name = f"{one.spdxId.removeprefix(self._space)}/{how}"
            # "One from, any number to."
            self._add("Relationship", name, from_=one, relationshipType=kind, to=to)

    def _add_repo(self, url: str, entries: list[LockedRepo]) -> Any:
        first = entries[0]
        unpacked = first.origin is not None and first.origin.unpacked
        # Addresses of other hosts have slashes, and nothing else may come to have the id of one.
        fragment = url if first.origin is None else quote(url, safe="")
        package = self._add_package("unpacked" if unpacked else first.repo_type, first.repo_id, fragment, url)
        package.software_packageVersion = first.commit
        if any(entry.trust_remote_code for entry in entries):
            package.comment = _REMOTE_CODE
        self._relate(package, "contains", self._list_files(fragment, entries))
        words = sorted({word for entry in entries if entry.card for word in entry.card.licenses})
        self._relate(package, "hasDeclaredLicense", [self._license(word) for word in words])
        return package

    def _name_packages(self, packages: list[tuple[Any, list[LockedRepo]]]) -> None:
        """Note by which names cards mean a package: first those of repos themselves, then their aliases."""
        for package, entries in packages:
            if entries[0].origin is None:
                self._packages[str(url_of_repo(entries[0].repo_type, entries[0].repo_id))] = package
        for package, entries in packages:
            for alias in sorted({alias for entry in entries for alias in entry.aliases}):
                self._packages.setdefault(str(url_of_repo(entries[0].repo_type, alias)), package)

    def _add_package(
        self, repo_type: RepoType | Literal["unpacked"], name: str, fragment: str, url: str | None
    ) -> Any:
        """Add a package: a model or a dataset, or what is neither."""
        purposes = self._spdx.software_SoftwarePurpose
        if repo_type == "model":
            package = self._add("ai_AIPackage", fragment, name=name)
            package.software_primaryPurpose = purposes.model
        elif repo_type == "dataset":
            package = self._add("dataset_DatasetPackage", fragment, name=name)
            package.dataset_datasetType = [self._spdx.dataset_DatasetType.noAssertion]
            package.software_primaryPurpose = purposes.data
        else:
            package = self._add("software_Package", fragment, name=name)
            # Kernels and spaces are code, as is a repository in a zip file.
            package.software_primaryPurpose = purposes.data if repo_type == "file" else purposes.library
        if url is not None:
            package.software_packageUrl = url
        return package

    def _list_files(self, package: str, entries: list[LockedRepo]) -> Iterator[str]:
        """Describe the files of a repo, and yield their ids."""
        files = {file.path: file for entry in entries for file in entry.files}
        for path in sorted(files):
            comment = _PICKLE if is_pickle(path) else None
            yield self._describe_file(f"{package}/files/{quote(path)}", files[path], comment)
        prepared = {file.path: file for entry in entries for file in entry.prepared}
        for path in sorted(prepared):
            yield self._describe_file(f"{package}/prepared/{quote(path)}", prepared[path], _PREPARED)

    def _describe_file(self, name: str, file: LockedFile | PreparedFile, comment: str | None) -> str:
        assert file.sha256 and file.blake3, "the lock of a bundle is complete"
        spdx_id = self._space + name
        self.files.append(
            {
                "type": "software_File",
                "spdxId": spdx_id,
                **({"comment": comment} if comment else {}),
                "name": file.path,
                "verifiedUsing": [
                    {"type": "Hash", "algorithm": "sha256", "hashValue": file.sha256},
                    {"type": "Hash", "algorithm": "blake3", "hashValue": file.blake3},
                ],
            }
        )
        return spdx_id

    def _license(self, word: str) -> Any:
        """Return what a card declares: an expression where SPDX lists it, else the card's word."""
        if word not in self._licenses:
            name = f"licence-{len(self._licenses)}"
            if (expression := normalize(word)) is not None:
                kind, values = "LicenseExpression", {"simplelicensing_licenseExpression": expression}
            else:
                kind, values = "SimpleLicensingText", {"name": word, "simplelicensing_licenseText": _NO_TEXT}
            self._licenses[word] = self._add(f"simplelicensing_{kind}", name, **values)
        return self._licenses[word]

    def _add_origins(self, package: Any, entries: list[LockedRepo]) -> None:
        cards = [entry.card for entry in entries if entry.card]
        bases = sorted({name for card in cards for name in card.base_models})
        datasets = sorted({name for card in cards for name in card.datasets})
        made_from = [self._origin("model", name) for name in bases]
        self._relate(package, "descendantOf", [one for one in made_from if one is not package])
        trained_on = [self._origin("dataset", name) for name in datasets]
        self._relate(package, "trainedOn", [one for one in trained_on if one is not package])

    def _origin(self, repo_type: RepoType, name: str) -> Any:
        """Return the package that a card names, which may be none of this bundle, or no repo at all."""
        url = str(url_of_repo(repo_type, name)) if is_repo_id(name) else None
        fragment = url or f"named/{repo_type}/{quote(name, safe='')}"
        if fragment not in self._packages:
            self._packages[fragment] = self._add_package(repo_type, name, fragment, url)
        return self._packages[fragment]
