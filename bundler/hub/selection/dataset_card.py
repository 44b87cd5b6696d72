"""Which configurations a dataset's card declares: a pure function of its `README.md`.

Where the card has a list `configs`, the datasets library knows these and no others. Where it has none, the names follow
from files, or from what the Hub derives of them; then only the library can tell, and the fetch asks it.
"""

from __future__ import annotations

import yaml

from bundler.plan.manifest import Entry
from bundler.text.wording import close_matches, name_some

CARD = "README.md"
# As in huggingface_hub: the metadata stands between two lines of dashes at the beginning.
_FENCE = "---"
# Of a card whose metadata is longer than any, nothing is told: parsing takes its time.
_MAX_METADATA_CHARACTERS = 1 << 20


def declared_configs(card: bytes) -> tuple[str, ...]:
    """Return the names of the configurations that a card lists; none where it lists none, or cannot be read."""
    lines = card.decode("utf-8-sig", "replace").splitlines()
    if not lines or lines[0].strip() != _FENCE:
        return ()
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == _FENCE), 0)
    text = "\n".join(lines[1:end])
    if len(text) > _MAX_METADATA_CHARACTERS:
        return ()
    try:
        metadata = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return ()
    configs = metadata.get("configs") if isinstance(metadata, dict) else None
    if not isinstance(configs, list):
        return ()
    names = [item.get("config_name") for item in configs if isinstance(item, dict)]
    return tuple(name for name in names if isinstance(name, str))


def unknown_configs(entry: Entry, card: bytes) -> list[str]:
    """Say of each configuration that an entry asks for, and the card does not list, what the card lists."""
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
