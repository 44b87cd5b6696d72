"""Load a trained or converted model from a folder, with the network shut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.console.paths import GivenPath
from bundler.errors import IntegrityError, NotInstalledError
from bundler.offline.enforce import enforce_offline

if TYPE_CHECKING:
    from infini_llama import InfiniLlamaForCausalLM

checkpoint_argument = click.argument(
    "checkpoint", type=GivenPath(exists=True, file_okay=False), metavar="CHECKPOINT"
)


def load(checkpoint: Path) -> tuple[InfiniLlamaForCausalLM, Any]:
    """Shut the network, and return the model and the tokenizer in a folder.

    Raises:
        NotInstalledError: The folder has no model, or no tokenizer.
        ConfigError: The model is another one, or its weights are in shards.
        IntegrityError: Weights are damaged or missing, or the tokenizer's files are.
    """
    enforce_offline(quick=True)
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from infini_llama.model.load import load_exactly, read_own_config

    disable_progress_bar()
    if not (checkpoint / "config.json").is_file() or not (checkpoint / "tokenizer_config.json").is_file():
        raise NotInstalledError(
            f"{checkpoint}: expected a model and its tokenizer, found no config.json or no tokenizer_config.json",
            hint="name a checkpoint-N folder of a run, or what `infini-llama convert` wrote",
        )
    model = load_exactly(checkpoint, read_own_config(checkpoint))
    model.eval()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except Exception as error:  # whatever the tokenizers library raises for a damaged file
        raise IntegrityError(
            f"{checkpoint}: expected a tokenizer, found none that loads: {error}",
            hint="bring the folder again, or name another checkpoint",
        ) from error
    return model, tokenizer
