"""An entry of a manifest for a file of another host than the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from bundler.files.paths import relative_path_problem
from bundler.plan.file_rules import (
    Into,
    TorchRepo,
    Url,
    file_name,
    is_loopback,
    place_of,
    torch_repo_folder,
    torch_repo_of,
)
from bundler.plan.lock_rules import Sha256
from bundler.text.rules import Key, Rule, key

_Path = Annotated[
    str,
    Rule(
        check=relative_path_problem,
        name="path",
        schema={"pattern": r"^(?!/)(?!(?:.*/)?\.{0,2}(?:/|$))[^\\\u0000-\u001f\u007f]+$"},
    ),
]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One wanted file of another host. The constructor trusts; `Manifest.parse` checks.

    Attributes:
        url: Its address.
        into: Who looks for it: tiktoken, torch_hub, nltk_data; or files, for a program that looks below $BUNDLE_FILES.
        path: Where it goes, below the folder of what it is for; by default as the address or the library has it.
        repo: For torch_hub, that the file is a zip of this repo, as torch.hub.load names it: owner/name:ref. For an
            address of GitHub it is known.
        sha256: What the file must be; by default what it is when it is locked.
        place: Key path in the manifest, for messages; not part of the entry's meaning.
    """

    url: Url = key(about=Key(missing="write url: https://…", synonyms=("link", "address", "uri")))
    into: Into = key("files", Key(synonyms=("for", "kind", "type", "to")))
    path: _Path | None = key(None, Key(shape=_Path, synonyms=("name", "dest", "destination")))
    repo: TorchRepo | None = key(None, Key(shape=TorchRepo, synonyms=("repo_id", "github")))
    sha256: Sha256 | None = key(None, Key(shape=Sha256, synonyms=("hash", "checksum", "digest")))
    place: str = key("", Key(filled_with="path"))

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong between keys that are each right."""
        parts = urlsplit(self.url)
        if parts.scheme == "http" and self.sha256 is None and not is_loopback(parts.hostname or ""):
            yield "url", "http can be changed on its way: write https, or sha256 with what the file must be"
        if self.repo is not None and self.into != "torch_hub":
            yield "repo", f"is for into: torch_hub, found {self.into}"
        if self.path is not None and (self.into == "tiktoken" or self.torch_repo):
            yield "path", "has no meaning here: the library has a name of its own for it"
        if not self.torch_repo and place_of(self.url, self.into, self.path) is None:
            example = "corpora/stopwords.zip" if self.into == "nltk_data" else "name.bin"
            yield "path", f"missing; the address has no name that can be used: write path: {example}"

    @property
    def name(self) -> str:
        """What stands for it in locks, in the form of a repo's id."""
        return file_name(self.url, self.into)

    @property
    def torch_repo(self) -> str | None:
        """The repo that the file is a zip of, as torch names it; None for a file that is taken as it is."""
        return (self.repo or torch_repo_of(self.url)) if self.into == "torch_hub" else None

    @property
    def destination(self) -> str:
        """Where it goes, below the folder of all files; of a repo its folder."""
        if self.torch_repo:
            return torch_repo_folder(self.torch_repo)
        return place_of(self.url, self.into, self.path) or ""

    @property
    def label(self) -> str:
        """The entry's key path and address, for messages."""
        return f"{self.place} ({self.url})" if self.place else self.url

    def canonical(self) -> dict[str, object]:
        """Return what its meaning depends on."""
        return {"url": self.url, "into": self.into, "to": self.destination, "sha256": self.sha256}
