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

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.errors import FormatError, ManifestError
from bundler.files.paths import check_relative_path
from bundler.plan.names import is_repo_id, is_revision
from bundler.serve.source import DEFAULT_BRANCH, RepoKey
from bundler.text import strict_yaml

SETTINGS_FILE = "hub.yaml"
_KEYS = ("version", "renames", "gated", "tags", "branches")


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
            return cls.parse(path.read_text(), source=str(path))
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path}: expected UTF-8 text, found byte {error.start} that is not") from error

    @classmethod
    def parse(cls, text: str, *, source: str) -> HubSettings:
        """Read settings from text; `source` names it in errors.

        Raises:
            ManifestError: Something is malformed; the message lists everything that is.
        """
        try:
            root = strict_yaml.read(text)
        except strict_yaml.StrictYamlError as error:
            raise ManifestError(f"{source}, line {error.line}: {error.problem}") from error
        reader = _Reader()
        settings = reader.settings(root)
        if reader.faults:
            raise ManifestError(f"{source}: " + "\n".join(reader.faults))
        return settings


class _Reader:
    """Checks nodes, collecting faults."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def settings(self, root: strict_yaml.Node | None) -> HubSettings:
        top = self._mapping(root, "")
        self.faults += [f"{key}: unknown key; known are {', '.join(_KEYS)}" for key in top if key not in _KEYS]
        if "version" in top and self._text(top["version"], "version") != "1":
            self.faults.append("version: expected 1, the only version this program reads")
        settings = HubSettings(
            renames={
                old: self._key(self._text(node, place), place) for old, node, place in self._repos(top, "renames")
            },
            gated={key: frozenset(self._texts(node, place)) for key, node, place in self._repos(top, "gated")},
            tags={key: self._named(node, place) for key, node, place in self._repos(top, "tags")},
            branches={key: self._named(node, place) for key, node, place in self._repos(top, "branches")},
        )
        self._check_renames(settings)
        self._check_refs(settings)
        return settings

    def _check_renames(self, settings: HubSettings) -> None:
        for old, new in settings.renames.items():
            if old.repo_type != new.repo_type:
                self.faults.append(f"renames.{old}: a {old.repo_type} cannot become a {new.repo_type}")
            if new in settings.renames:
                self.faults.append(f"renames.{old}: {new} is itself an old name; give the last one")

    def _check_refs(self, settings: HubSettings) -> None:
        for key, folders in settings.branches.items():
            for branch, folder in folders.items():
                if branch == DEFAULT_BRANCH:
                    self.faults.append(f"branches.{key}.{branch}: the repo's own folder is {DEFAULT_BRANCH}")
                try:
                    check_relative_path(folder, what=f"branches.{key}.{branch}")
                except FormatError as error:
                    self.faults.append(error.message)
        for key, tags in settings.tags.items():
            for tag, branch in tags.items():
                if branch != DEFAULT_BRANCH and branch not in settings.branches.get(key, {}):
                    self.faults.append(f"tags.{key}.{tag}: no branch {branch!r} of this repo")

    def _repos(
        self, top: Mapping[str, strict_yaml.Node], name: str
    ) -> list[tuple[RepoKey, strict_yaml.Node, str]]:
        if name not in top:
            return []
        section = self._mapping(top[name], name)
        return [(self._key(key, f"{name}.{key}"), node, f"{name}.{key}") for key, node in section.items()]

    def _named(self, node: strict_yaml.Node, where: str) -> dict[str, str]:
        values = {}
        for name, value in self._mapping(node, where).items():
            if not is_revision(name):
                self.faults.append(f"{where}.{name}: expected the name of a branch or tag")
            values[name] = self._text(value, f"{where}.{name}")
        return values

    def _key(self, text: str, where: str) -> RepoKey:
        key = RepoKey.parse(text)
        if not is_repo_id(key.repo_id):
            self.faults.append(f"{where}: expected a repo such as org/name or datasets/org/name, found {text!r}")
        return key

    def _mapping(self, node: strict_yaml.Node | None, where: str) -> dict[str, strict_yaml.Node]:
        if not isinstance(node, strict_yaml.Mapping):
            self.faults.append(
                f"{where or 'the file'}: expected a mapping, found {node.described if node else 'nothing'}"
            )
            return {}
        prefix = f"{where}." if where else ""
        self.faults += [f"{prefix}{key}, line {line}: stands twice" for key, line in node.repeated]
        self.faults += [f"{prefix}{key}, line {line}: quote this key" for key, line in node.odd_keys]
        return node.items

    def _texts(self, node: strict_yaml.Node, where: str) -> list[str]:
        if not isinstance(node, strict_yaml.Sequence):
            self.faults.append(f"{where}: expected a list of access tokens, found {node.described}")
            return []
        return [self._text(item, f"{where}[{index}]") for index, item in enumerate(node.items)]

    def _text(self, node: strict_yaml.Node, where: str) -> str:
        if not isinstance(node, strict_yaml.Scalar) or not node.text:
            self.faults.append(f"{where}: expected text, found {node.described}")
            return ""
        return node.text
