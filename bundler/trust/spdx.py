"""What a bundle holds, as an SPDX 3.0.1 bill of materials: the same as `bundler.trust.sbom`, in the words of SPDX.

Rule book:

* it is a pure function of a lock and a digest. SPDX wants a time at which a bill was made; this one says 1970, and why;
* a model is an AI package and a dataset a dataset package, but conformance with the profiles of both is not claimed:
  they ask for more than cards say;
* what may run code when it is loaded is said in a comment, since SPDX has no word for it.

Source: spdx.github.io/spdx-spec/v3.0.1; the package spdx-python-model is made from its ontology, and refuses to write
what breaks it.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bundler import __version__
from bundler.errors import DependencyError
from bundler.hub.selection.pickle_names import is_pickle
from bundler.text.documents import REPOSITORY
from bundler.trust.licenses import normalize

if TYPE_CHECKING:
    from bundler.plan.lock import Lock, LockedFile, LockedRepo, PreparedFile

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
        DependencyError: The package spdx-python-model, or license-expression, is not installed.
    """
    try:
        from spdx_python_model import v3_0_1 as spdx
    except ModuleNotFoundError as error:
        raise DependencyError(
            "a bill of materials in SPDX is written by the package spdx-python-model, which is not installed",
            hint="pip install spdx-python-model license-expression",
        ) from error
    bill = _Bill(spdx, digest)
    bill.describe(lock)
    written = io.BytesIO()
    spdx.JSONLDSerializer().write(bill.objects, written, indent=1)
    return written.getvalue().decode().rstrip("\n") + "\n"


class _Bill:
    """A bill that is being written.

    Args:
        spdx: The module with the classes.
        digest: The bundle's.
    """

    def __init__(self, spdx: Any, digest: str) -> None:
        self._spdx, self._digest = spdx, digest
        self._space = f"{REPOSITORY}/spdx/{digest.removeprefix('sha256:')}#"
        self._packages: dict[str, Any] = {}
        self._licenses: dict[str, Any] = {}
        self.objects = spdx.SHACLObjectSet()
        self._made = spdx.CreationInfo(specVersion=_VERSION, created=_EPOCH, comment=_NO_TIME)
        self._made.createdBy = [self._add("SoftwareAgent", "writer", name=f"bundle {__version__}")]

    def describe(self, lock: Lock) -> None:
        """Add everything."""
        sha256 = [self._hash("sha256", self._digest.removeprefix("sha256:"))]
        bundle = self._add("software_Package", "bundle", name=lock.name, verifiedUsing=sha256)
        bundle.software_packageVersion = self._digest
        bundle.software_primaryPurpose = self._spdx.software_SoftwarePurpose.archive
        bundle.comment = f"lock digest: {lock.digest}"
        grouped: dict[tuple[str, str], list[LockedRepo]] = {}
        for repo in lock.repos:
            grouped.setdefault((_name_purl(repo.repo_type, repo.repo_id), repo.commit), []).append(repo)
        repos = [self._add_repo(f"{name}@{commit}", entries) for (name, commit), entries in grouped.items()]
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
        package = self._add_package(first.repo_type, first.repo_id, url)
        package.software_packageVersion = first.commit
        if any(entry.trust_remote_code for entry in entries):
            package.comment = _REMOTE_CODE
        for name in {_name_purl(first.repo_type, one) for e in entries for one in (first.repo_id, *e.aliases)}:
            self._packages.setdefault(name, package)
        self._relate(package, "contains", self._add_files(url, entries))
        words = sorted({word for entry in entries if entry.card for word in entry.card.licenses})
        self._relate(package, "hasDeclaredLicense", [self._license(word) for word in words])
        return package

    def _add_package(self, repo_type: str, repo_id: str, url: str) -> Any:
        purposes = self._spdx.software_SoftwarePurpose
        if repo_type == "dataset":
            package = self._add("dataset_DatasetPackage", url, name=repo_id)
            package.dataset_datasetType = [self._spdx.dataset_DatasetType.noAssertion]
            package.software_primaryPurpose = purposes.data
        else:
            package = self._add("ai_AIPackage", url, name=repo_id)
            package.software_primaryPurpose = purposes.model
        package.software_packageUrl = url
        return package

    def _add_files(self, url: str, entries: list[LockedRepo]) -> Iterator[Any]:
        files = {file.path: file for entry in entries for file in entry.files}
        for path in sorted(files):
            yield self._add_file(f"{url}/files/{quote(path)}", files[path], _PICKLE if is_pickle(path) else None)
        prepared = {file.path: file for entry in entries for file in entry.prepared}
        for path in sorted(prepared):
            yield self._add_file(f"{url}/prepared/{quote(path)}", prepared[path], _PREPARED)

    def _add_file(self, name: str, file: LockedFile | PreparedFile, comment: str | None) -> Any:
        assert file.sha256 and file.blake3, "the lock of a bundle is complete"
        hashes = [self._hash("sha256", file.sha256), self._hash("blake3", file.blake3)]
        made = self._add("software_File", name, name=file.path, verifiedUsing=hashes)
        if comment:
            made.comment = comment
        return made

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
        self._relate(package, "descendantOf", [self._origin("model", name) for name in bases])
        self._relate(package, "trainedOn", [self._origin("dataset", name) for name in datasets])

    def _origin(self, repo_type: str, repo_id: str) -> Any:
        name = _name_purl(repo_type, repo_id)
        if name not in self._packages:
            self._packages[name] = self._add_package(repo_type, repo_id, name)
        return self._packages[name]


def _name_purl(repo_type: str, repo_id: str) -> str:
    """Return the package URL of a repo, without a commit: its characters need no escapes."""
    return f"pkg:huggingface/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
