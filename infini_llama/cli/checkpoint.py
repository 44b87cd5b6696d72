"""Load a trained or converted model from a folder, with the network shut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.console.paths import GivenPath
from bundler.errors import NotInstalledError
from bundler.offline.enforce import enforce_offline

if TYPE_CHECKING:
    from infini_llama import InfiniLlamaForCausalLM

checkpoint_argument = click.argument(
    "checkpoint", type=GivenPath(exists=True, file_okay=False), metavar="CHECKPOINT"
)


def load(checkpoint: Path) -> tuple[InfiniLlamaForCausalLM, Any]:
    """Shut the network, and return the model and the tokenizer in a folder.

    Raises:
        NotInstalledError: The folder has no Infini-Llama, or no tokenizer.
        ConfigError: The weights are in shards.
    """
    enforce_offline(quick=True)
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from infini_llama import InfiniLlamaForCausalLM
    from infini_llama.model.load import check_is_whole

    disable_progress_bar()
    if not (checkpoint / "config.json").is_file() or not (checkpoint / "tokenizer_config.json").is_file():
        raise NotInstalledError(
            f"{checkpoint}: expected a model and its tokenizer, found no config.json or no tokenizer_config.json",
            hint="name a checkpoint-N folder of a run, or what `infini-llama convert` wrote",
        )
    check_is_whole(checkpoint)
    model = InfiniLlamaForCausalLM.from_pretrained(checkpoint, local_files_only=True)
    model.eval()
    return model, AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
