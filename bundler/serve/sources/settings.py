"""`hub.yaml`: what a served folder of repos cannot say by its files alone.

    version: 1
    renames:                          # an old name answers with a redirect to the new one
      gpt2: openai-community/gpt2
      datasets/wikitext: datasets/Salesforce/wikitext
    gated:                            # files need one of these access tokens; [] opens to nobody
      org/secretive: [hf_reader]
    tags:                             # other names of a branch's commit
      openai-community/gpt2: {v1.0: main}
    branches:                         # further branches: folders, relative to hub.yaml
      openai-community/gpt2: {dev: _branches/gpt2-dev}

Repos are named as in the Hub's addresses, datasets with `datasets/` before them. Keep the folders of branches
where no repo can be: a name that starts with `_` is never a namespace. Gating here rehearses how clients meet a
gated repo; the tokens are plain text, and it protects nothing.

Every fault is reported with its key path, all in one error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from bundler.errors import ManifestError
from bundler.files.paths import relative_path_problem
from bundler.plan.names import is_repo_id, is_revision
from bundler.serve.source import DEFAULT_BRANCH, RepoKey
from bundler.text.fault import InvalidFileError
from bundler.text.reader import Reader
from bundler.text.rules import Key, Rule, key
from bundler.text.text_file import NotATextFileError, parse_yaml, read_text_file
from bundler.text.trees import YamlTree
from bundler.text.wording import quoted

SETTINGS_FILE = "hub.yaml"


class InvalidHubSettingsError(InvalidFileError, ManifestError):
    """A `hub.yaml` with its faults."""

    next_step = "`bundle serve --help` shows one with every key"


@dataclass(frozen=True, kw_only=True)
class HubSettings:
    """A parsed `hub.yaml`.

    Attributes:
        renames: Present name by old name.
        gated: Access tokens by gated repo.
        tags: By repo: branch by tag.
        branches: By repo: folder, relative to the served one, by branch other than main.
    """

    renames: Mapping[RepoKey, RepoKey] = field(default_factory=dict)
    gated: Mapping[RepoKey, frozenset[str]] = field(default_factory=dict)
    tags: Mapping[RepoKey, Mapping[str, str]] = field(default_factory=dict)
    branches: Mapping[RepoKey, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> HubSettings:
        """Read the settings of a served folder; the defaults when it has none.

        Raises:
            ManifestError: `hub.yaml` is malformed.
        """
        path = folder / SETTINGS_FILE
        if not path.is_file():
            return cls()
        try:
            text = read_text_file(path, "hub.yaml")
        except NotATextFileError as error:
            raise ManifestError(f"{path}: {error}") from error
        return cls.parse(text, source=str(path))

    @classmethod
    def parse(cls, text: str, *, source: str) -> HubSettings:
        """Read settings from text; `source` names it in errors.

        Raises:
            ManifestError: Something is malformed; the message lists everything that is.
        """
        root = parse_yaml(text, source, InvalidHubSettingsError)
        reader = Reader(YamlTree())
        read = reader.read(_HubFile, root)
        if read is not None:
            wrong = {fault.path for fault in reader.faults}
            for path, message in read.mistakes():
                if path not in wrong:
                    reader.fault(path, message, reader.line(path))
        if read is None or reader.faults:
            raise InvalidHubSettingsError(source, reader.faults)
        return cls(
            renames={RepoKey.parse(old): RepoKey.parse(new) for old, new in read.renames.items()},
            gated={RepoKey.parse(repo): frozenset(tokens) for repo, tokens in read.gated.items()},
            tags={RepoKey.parse(repo): tags for repo, tags in read.tags.items()},
            branches={RepoKey.parse(repo): folders for repo, folders in read.branches.items()},
        )


def _repo_problem(text: str) -> str | None:
    if is_repo_id(RepoKey.parse(text).repo_id):
        return None
    return f"expected a repo such as org/name or datasets/org/name, found {quoted(text)}"


def _ref_problem(text: str) -> str | None:
    return None if is_revision(text) else f"expected the name of a branch or tag, found {quoted(text)}"


_Repo = Annotated[str, Rule(check=_repo_problem)]
_Ref = Annotated[str, Rule(check=_ref_problem)]
_Folder = Annotated[str, Rule(check=relative_path_problem)]


@dataclass(frozen=True, kw_only=True)
class _HubFile:
    """The keys of `hub.yaml`, with repos as they are written there."""

    version: Literal[1] = key(1, Key(expected="1, the only version this program reads"))
    renames: Mapping[_Repo, _Repo] = field(default_factory=dict)
    gated: Mapping[_Repo, tuple[str, ...]] = field(default_factory=dict)
    tags: Mapping[_Repo, Mapping[_Ref, str]] = field(default_factory=dict)
    branches: Mapping[_Repo, Mapping[_Ref, _Folder]] = field(default_factory=dict)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield the key path and the message for what does not fit together."""
        keys = {text: RepoKey.parse(text) for text in (*self.renames, *self.renames.values())}
        for old, new in self.renames.items():
            if keys[old].repo_type != keys[new].repo_type:
                message = f"a {keys[old].repo_type} cannot become a {keys[new].repo_type}"
                yield f"renames.{old}", message
            if new in self.renames:
                yield f"renames.{old}", f"{new} is itself an old name; give the last one"
        for repo, folders in self.branches.items():
            if DEFAULT_BRANCH in folders:
                yield f"branches.{repo}.{DEFAULT_BRANCH}", f"the repo's own folder is {DEFAULT_BRANCH}"
        for repo, tags in self.tags.items():
            for tag, branch in tags.items():
                if branch != DEFAULT_BRANCH and branch not in self.branches.get(repo, {}):
                    yield f"tags.{repo}.{tag}", f"no branch {branch!r} of this repo"
