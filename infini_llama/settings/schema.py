"""The JSON Schema of the configuration, for editors: `schema.json` beside this module is its text."""

from __future__ import annotations

from bundler.text.schema import schema_text
from infini_llama.settings.sections import Settings


def settings_schema() -> str:
    """Return the text of `schema.json`."""
    return schema_text(
        Settings,
        title="Infini-Llama configuration",
        description="What `infini-llama train` trains, and how. `infini-llama keys` prints every key.",
    )
