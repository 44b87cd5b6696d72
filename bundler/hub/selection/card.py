"""Read the card of a repo, its `README.md`.

Licences, base models and datasets are statements of its authors, and go into the lock unchanged. If the card of a
dataset has a list `configs`, the datasets library accepts only these. If not, the library finds the names from files
or asks the Hub; then the fetch uses the library to find out.
"""

from __future__ import annotations

import re

import yaml

from bundler.plan.lock import Card
from bundler.plan.manifest import Entry
from bundler.text.wording import close_matches, name_some

CARD = "README.md"
# As in huggingface_hub: the metadata is at the beginning, between two lines of dashes.
_FENCE = "---"
# Longer metadata is not parsed: no real card has it, and parsing would take long.
_MAX_METADATA_CHARACTERS = 1 << 19
_MAX_OPEN_BRACKETS = 1000
_BRACKETS = re.compile(r"[\[\]{}]")
# More, or longer ones, than any honest card has.
_MAX_CLAIMS = 100
_MAX_CLAIM_CHARACTERS = 200
# SPDX specification 2.3, annex D: what an id of a licence is made of.
_OTHER_THAN_IN_IDS = re.compile(r"[^A-Za-z0-9.-]+")


class _Loader(yaml.SafeLoader):
    """The safe loader without merge keys (`<<`): of ten lines that merge each other it would make billions of pairs."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave the key where it stands; what constructs it will not know it."""


def read_card(card: bytes) -> Card:
    """Return what a card states; an empty `Card` if it states nothing, or cannot be read."""
    metadata = _read_metadata(card)
    licenses = {text.lower() for text in _read_texts(metadata, "license")}
    if "other" in licenses and (names := _read_texts(metadata, "license_name")):
        # The SPDX form of a licence that its list does not have, so that nobody takes its name for one of the list.
        licenses -= {"other"}
        licenses |= {f"LicenseRef-{_OTHER_THAN_IN_IDS.sub('-', name)}" for name in names}
    return Card(
        licenses=tuple(sorted(licenses)),
        base_models=tuple(sorted(set(_read_texts(metadata, "base_model")))),
        datasets=tuple(sorted(set(_read_texts(metadata, "datasets")))),
    )


def read_task(card: bytes) -> str | None:
    """Return the task for which `transformers.pipeline` loads a model by its card; None if it names none."""
    found = _read_texts(_read_metadata(card), "pipeline_tag")
    return found[0] if found else None


def declared_configs(card: bytes) -> tuple[str, ...]:
    """Return the names of the configurations in a card; none if it lists none, or cannot be read."""
    configs = _read_metadata(card).get("configs")
    if not isinstance(configs, list):
        return ()
    names = [item.get("config_name") for item in configs if isinstance(item, dict)]
    return tuple(name for name in names if isinstance(name, str))


def default_config_warning(entry: Entry, card: bytes) -> list[str]:
    """Return a warning if an entry names configurations, and leaves out the one that code means which names none."""
    configs = _read_metadata(card).get("configs")
    items = [item for item in configs if isinstance(item, dict)] if isinstance(configs, list) else []
    defaults = [
        name
        for item in items
        if isinstance(name := item.get("config_name"), str)
        and (item.get("default") is True or name == "default" or len(items) == 1)
    ]
    if not entry.configs or len(defaults) != 1 or defaults[0] in entry.configs:
        return []
    return [
        f"{entry.label}: load_dataset({entry.repo_id!r}) without a configuration means {defaults[0]}, which configs "
        "leaves out; add it if code names none"
    ]


def unknown_configs(entry: Entry, card: bytes) -> list[str]:
    """Return a fault for each configuration of an entry that the card does not list."""
    known = declared_configs(card)
    problems = []
    for name in entry.configs:
        if known and name not in known:
            close = close_matches(name, known, at_most=2, cutoff=0.5)
            listed = [*close, *(other for other in known if other not in close)]
            problems.append(
                f"{entry.path or entry.repo_id}.configs: {entry.repo_id} has no configuration {name!r}; its card "
                f"lists {name_some(listed, shown=len(close) or 8)}"
            )
    return problems


def _read_metadata(card: bytes) -> dict[object, object]:
    lines = card.decode("utf-8-sig", "replace").splitlines()
    if not lines or lines[0].strip() != _FENCE:
        return {}
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == _FENCE), 0)
    text = "\n".join(lines[1:end])
    if len(text) > _MAX_METADATA_CHARACTERS or _count_open_brackets(text) > _MAX_OPEN_BRACKETS:
        return {}
    try:
        metadata = yaml.load(text, _Loader)  # noqa: S506 -- a safe one
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError):
        # The package lets the errors of its own code out, as for `!!bool x`.
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _count_open_brackets(text: str) -> int:
    """Return how many brackets are open at a time, at most: the parser's time grows with their square."""
    most = now = 0
    for bracket in _BRACKETS.findall(text):
        now += 1 if bracket in "[{" else -1
        most = max(most, now)
    return most


def _read_texts(metadata: dict[object, object], key: str) -> list[str]:
    """Return the texts under a key that takes one or a list of them; what a lock could not hold is left out."""
    value = metadata.get(key)
    found = value if isinstance(value, list) else [value]
    texts = [item.strip() for item in found[:_MAX_CLAIMS] if isinstance(item, str)]
    return [text for text in texts if 0 < len(text) <= _MAX_CLAIM_CHARACTERS and text.isprintable()]
