"""Manifests: which blob of one is the bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bundler.errors import FormatError
from bundler.remote.oci.types import BUNDLE_DIGEST, BUNDLE_LAYERS, BUNDLE_PIECE

MOST_BYTES = 4 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Descriptor:
    """What names a blob or a manifest (OCI image specification, "descriptor.md").

    Attributes:
        media_type: Of what kind it is.
        digest: Its digest.
        size_bytes: Its length.
        artifact_type: Of a manifest among referrers, what it is for.
        annotations: What else is said of it.
    """

    media_type: str
    digest: str
    size_bytes: int
    artifact_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: Any, label: str) -> Descriptor:
        """Read a descriptor.

        Raises:
            FormatError: It is malformed.
        """
        try:
            found = cls(
                str(value["mediaType"]),
                str(value["digest"]),
                value["size"],
                str(value.get("artifactType") or ""),
                {str(key): str(text) for key, text in (value.get("annotations") or {}).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{label}: a descriptor in its manifest is malformed") from error
        if not _DIGEST.fullmatch(found.digest) or type(found.size_bytes) is not int or found.size_bytes < 0:
            raise FormatError(
                f"{label}: expected a SHA-256 and a length in its manifest, found {found.digest[:80]!r}"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return it as a manifest has it."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.annotations:
            value["annotations"] = self.annotations
        return value


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read.

    Attributes:
        digest: Its digest, of the bytes that were read.
        value: Its content.
        media_type: What it says that it is.
        size_bytes: Its length.
    """

    digest: str
    value: dict[str, Any]
    media_type: str
    size_bytes: int

    @classmethod
    def parse(cls, content: bytes, digest: str, label: str) -> Manifest:
        """Read a manifest.

        Raises:
            FormatError: It is none.
        """
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{label}: expected a manifest in JSON, found something else") from error
        if not isinstance(value, dict):
            raise FormatError(f"{label}: expected a manifest, found JSON of another kind")
        return cls(digest, value, str(value.get("mediaType") or ""), len(content))

    def list_descriptors(self, key: str, label: str) -> list[Descriptor]:
        """Return its layers, or its manifests.

        Raises:
            FormatError: They are malformed.
        """
        rows = self.value.get(key) or []
        if not isinstance(rows, list):
            raise FormatError(f"{label}: {key} of its manifest is malformed")
        return [Descriptor.parse(row, label) for row in rows]

    def find_pieces(self, label: str) -> list[Descriptor]:
        """Return the layers that are the bundle, in order: the only one (`find_bundle`), or its pieces.

        Raises:
            FormatError: There is none, or not all of the pieces.
        """
        layers = self.list_descriptors("layers", label)
        pieces = [one for one in layers if BUNDLE_PIECE in one.annotations]
        if not pieces:
            return [self.find_bundle(label)]
        said = {one.annotations[BUNDLE_PIECE]: one for one in pieces}
        names = [f"{number}/{len(pieces)}" for number in range(1, len(pieces) + 1)]
        if set(said) != set(names) or not all(one.size_bytes for one in pieces):
            raise FormatError(
                f"{label}: expected all pieces of a bundle in its manifest, 1/{len(pieces)} to {names[-1]}, found "
                f"{', '.join(sorted(said)[:10])}",
                hint="push the bundle again",
            )
        return [said[name] for name in names]

    def find_bundle(self, label: str) -> Descriptor:
        """Return the layer that is the bundle: the one that says so, the only one, or the only one of a bundle's types.

        Raises:
            FormatError: There is none, or more than one.
        """
        layers = self.list_descriptors("layers", label)
        fitting = [one for one in layers if BUNDLE_DIGEST in one.annotations] or layers
        if len(fitting) > 1:
            fitting = [one for one in fitting if one.media_type in BUNDLE_LAYERS]
        if len(fitting) != 1:
            there = ", ".join(_name_types(layers)) or "none"
            raise FormatError(
                f"{label}: expected one layer that is a bundle, found {len(fitting)}; its layers: {there}",
                hint="is it an artifact or image that `bundle push` wrote?",
            )
        return fitting[0]

    def find_bundle_digest(self, label: str) -> str | None:
        """Return the bundle's digest, where whoever pushed it has said it.

        Raises:
            FormatError: What is said is no digest.
        """
        annotations = self.value.get("annotations")
        found = annotations.get(BUNDLE_DIGEST) if isinstance(annotations, dict) else None
        if found is not None and not (isinstance(found, str) and _DIGEST.fullmatch(found)):
            raise FormatError(
                f"{label}: expected the digest of a bundle in its manifest, found {str(found)[:80]!r}"
            )
        return found


def _name_types(layers: Sequence[Descriptor]) -> list[str]:
    return [repr(layer.media_type[:80]) for layer in layers[:10]]
