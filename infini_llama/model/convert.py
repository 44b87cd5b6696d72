"""Convert a Llama checkpoint to an Infini-Llama, to continue its pretraining.

Rule book:

* all weights are those of the Llama, unchanged; only the gates are new. A weight that is missing, left over or of
  another shape is an error;
* within one segment the converted model gives the same logits as the Llama, whatever the gates. To check this, both are
  run and compared before anything is written;
* the folder appears only when it is complete, with a `provenance.json` that says where the model came from.

The Llama may use any attention and RoPE of transformers. It is read from a folder, never by name.
"""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from bundler import __version__
from bundler.errors import IntegrityError
from bundler.files.atomic import fsync_dir
from infini_llama.errors import ConfigError
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.gate import NEW_GATE
from infini_llama.model.load import load_exactly
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.run_folder.checkpoints import seal

_COMPARED_TOKENS = 64
# Both do the same operations on the same numbers; only the order of sums differs between kernels.
_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        output_dir: Folder of the new model.
        parameters: Number of the Llama's parameters.
        gates: Number of new parameters.
        largest_difference: Largest absolute difference between logits of the two models in one segment.
    """

    output_dir: Path
    parameters: int
    gates: int
    largest_difference: float


def convert(
    snapshot: Path,
    output_dir: Path,
    *,
    segment_length: int,
    memory_update: Literal["linear", "delta"] = "linear",
    gate_init: float = 0.0,
    origin: dict[str, Any],
) -> Conversion:
    """Convert the Llama in `snapshot` and write it to `output_dir`, which must not exist.

    Args:
        snapshot: Folder with `config.json` and weights of a Llama.
        output_dir: The new folder.
        segment_length: As in `InfiniLlamaConfig`.
        memory_update: As in `InfiniLlamaConfig`.
        gate_init: As in `InfiniLlamaConfig`.
        origin: Where the snapshot came from, for `provenance.json`.

    Raises:
        ConfigError: `output_dir` exists, or the checkpoint is not a Llama.
        IntegrityError: Weights are missing or left over, or the logits differ.
    """
    if output_dir.exists():
        raise ConfigError(f"{output_dir} exists; conversion writes a new folder", hint="name another --output-dir")
    config = AutoConfig.from_pretrained(snapshot, local_files_only=True)
    if config.model_type != "llama":
        raise ConfigError(f"{snapshot}: expected a model of type 'llama', found {config.model_type!r}")
    infini_config = InfiniLlamaConfig(
        **{name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")},
        segment_length=segment_length,
        memory_update=memory_update,
        gate_init=gate_init,
    )
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.vocab_size, (1, min(segment_length, _COMPARED_TOKENS)), generator=generator)
    # One after the other, so that only one large model must fit into memory.
    expected = _logits(LlamaForCausalLM.from_pretrained(snapshot, local_files_only=True), tokens)
    model = load_exactly(snapshot, infini_config, new=NEW_GATE)
    difference = float((_logits(model, tokens) - expected).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise IntegrityError(
            f"{snapshot}: the converted model's logits differ from the Llama's by {difference:.2e}"
        )
    _write(model, snapshot, output_dir, origin)
    gates = sum(p.numel() for name, p in model.named_parameters() if name.endswith(NEW_GATE))
    parameters = sum(p.numel() for p in model.parameters()) - gates
    return Conversion(output_dir=output_dir, parameters=parameters, gates=gates, largest_difference=difference)


@torch.no_grad()
def _logits(model: Any, tokens: Tensor) -> Tensor:
    logits: Tensor = model.eval()(tokens, use_cache=False).logits
    return logits.float()


def _write(model: InfiniLlamaForCausalLM, snapshot: Path, output_dir: Path, origin: dict[str, Any]) -> None:
    incoming = output_dir.with_name(f".{output_dir.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    model.save_pretrained(incoming)
    if any((snapshot / name).exists() for name in ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")):
        AutoTokenizer.from_pretrained(snapshot, local_files_only=True).save_pretrained(incoming)
    versions = {
        "infini-llama": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    seal(incoming, {"converted_from": origin, "versions": versions})
    incoming.rename(output_dir)
    fsync_dir(output_dir.parent)
