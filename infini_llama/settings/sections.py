"""The training configuration: a strict, typed YAML file.

Rule book:

* every key has one type, one range and one meaning, all given in the dataclasses below;
* an unknown key is an error with a suggestion: a misspelt `weight_decy` must not be ignored in a training of days;
* one error names all faults, each with its key path and line;
* `null` is accepted only where it has a meaning, which is written to the log (`Settings.notes`).

Parsing imports neither torch nor transformers, so that faults are reported before anything slow begins.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from bundler.text.fault import InvalidFileError
from bundler.text.reader import Reader
from bundler.text.rules import key
from bundler.text.text_file import NotATextFileError, parse_yaml, read_text_file
from bundler.text.trees import YamlTree
from infini_llama.errors import ConfigError
from infini_llama.settings.overrides import override

# Folder for a run's tokens below its output folder, unless `data.cache_dir` names another.
MOST_SEED = 2**32 - 1
TOKENS_FOLDER = "tokens"


class InvalidSettingsError(InvalidFileError, ConfigError):
    """A configuration is malformed; holds all faults."""

    next_step = "`infini-llama keys` explains every key"


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Shape of the model; the vocabulary comes from the tokenizer.

    Attributes:
        hidden_size: Width of the residual stream.
        intermediate_size: Width inside the MLP.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Number of query heads.
        num_key_value_heads: Number of heads of keys, values and memories; null for as many as query heads.
        segment_length: Tokens that local attention sees at once.
        memory_update: The linear rule or the delta rule of the paper.
        gate_init: Initial logit of every gate; 0 is half open.
        embedding_dropout: Share of the embeddings that is set to 0 in training.
        memory_write_spread: In training each segment counts e^u times in the memory, u drawn evenly from -spread to
            spread: short rows then teach what thousands of segments of filler ask for. 4 to 5 for a thousand and more.
        tie_word_embeddings: Use one matrix for input embeddings and output.
        rope_theta: Base of RoPE's wavelengths.
        initializer_range: Standard deviation of initial weights.
    """

    hidden_size: int = key(at_least=1)
    intermediate_size: int = key(at_least=1)
    num_hidden_layers: int = key(at_least=1)
    num_attention_heads: int = key(at_least=1)
    num_key_value_heads: int | None = key(None, at_least=1)
    segment_length: int = key(at_least=1)
    memory_update: Literal["linear", "delta"] = key("linear")
    gate_init: float = key(0.0, at_least=-20, at_most=20)
    embedding_dropout: float = key(0.0, at_least=0, at_most=0.9)
    memory_write_spread: float = key(0.0, at_least=0, at_most=16)
    tie_word_embeddings: bool = key(True)
    rope_theta: float = key(10000.0, above=0)
    initializer_range: float = key(0.02, above=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """A source of a mixture.

    Attributes:
        raw_data: Its text, in the form of `--raw-data`.
        weight: Its share of the rows, in proportion to the other weights. After its last row a source begins anew.
        text_key: As `data.text_key`, which null stands for.
    """

    raw_data: str = key()
    weight: float = key(1.0, above=0)
    text_key: str | None = key(None)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How documents become rows.

    Attributes:
        sources: What to train on, a mixture of several sources, instead of `--raw-data`.
        segments_per_row: Segments in a row, which is how far the memory reaches in training.
        share_segments: Let documents follow each other without padding, several to a segment, each computed as if
            alone. Otherwise each starts on a fresh segment, and short ones leave most of it empty.
        end_of_document: End each document with the tokenizer's end-of-text token.
        text_key: Key of a JSON line, or column of a Parquet file or dataset, that holds the text.
        on_bad_record: What to do about records without usable text: end with an error that names them, or skip them and
            report their number.
        num_proc: Processes that tokenize; null for one per core, or fewer for little text.
        keep_tokens: Keep tokens on the disk. Otherwise a document is tokenized again when it is trained on.
        cache_dir: Folder for tokens, which are kept by content; null for `tokens` in the output folder.
    """

    sources: tuple[SourceSettings, ...] = key(())
    segments_per_row: int = key(at_least=1)
    share_segments: bool = key(False)
    end_of_document: bool = key(True)
    text_key: str = key("text")
    on_bad_record: Literal["error", "skip"] = key("error")
    num_proc: int | None = key(None, at_least=1)
    keep_tokens: bool = key(True)
    cache_dir: str | None = key(None)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Optimisation and bookkeeping.

    Attributes:
        steps: Number of optimizer steps.
        batch_size: Rows per process and forward pass.
        gradient_accumulation_steps: Forward passes per optimizer step.
        learning_rate: Peak learning rate, for all parameters but the gates.
        gate_learning_rate: Peak learning rate of the gates. At the usual rate they hardly change during a training.
        weight_decay: For matrices; null means 0.0. Norms, biases and gates are never decayed.
        decay_embeddings: Whether embeddings are decayed like matrices.
        schedule: How the learning rate changes after the warm-up. `wsd` stays at the peak and falls with a square root
            in the last steps, so that a run can go on from before them, with more steps.
        warmup_steps: Steps in which the learning rate rises from 0 to the peak.
        spread_warmup_steps: Steps in which `model.memory_write_spread` grows from 0; half of all is a good choice.
            The delta rule, with all of the spread from the start, learns late or not at all.
        decay_steps: Steps at the end in which the learning rate of `wsd` falls; null for a tenth of all.
        min_learning_rate_ratio: Share of the peak at which the learning rate ends.
        rewarm_steps: After a resume with other rates, another schedule or another number of steps: steps that lead from
            the learning rate of the checkpoint to the new one; 0 to change it at once.
        max_grad_norm: Larger gradients are scaled down to this norm; 0 for no limit.
        adam_beta1: Decay of the first moment.
        adam_beta2: Decay of the second moment.
        precision: Number format of the forward pass; weights and memory stay float32.
        backprop_segments: Segments after which the gradient is cut; the memory continues. Null for the whole row, which
            needs RAM in proportion to its length.
        distributed: With several processes: `ddp`, where each holds everything; or `fsdp2`, where each holds a share of
            weights, gradients and optimizer state.
        context_parallel: Processes that share each row, a run of its segments each, and pass the memory on; the number
            of processes must be a multiple. `batch_size` then is the rows of such a group.
        activation_checkpointing: Recompute activations in the backward pass, which is slower and needs much less RAM.
        compile: Compile the model (`torch.compile`), which takes minutes at the start, and a C++ compiler on CPUs.
        log_every_steps: Steps between two lines in the log.
        checkpoint_every_steps: Steps between two checkpoints; there is always one at the end.
        checkpoint_format: `whole`, the files that any transformers program loads, which one process writes; or
            `shards`, where each process writes its part, and `infini-llama export` makes those files.
        checkpoint_in_background: With `shards`: go on with the training while a checkpoint is written, from a copy in
            RAM.
        keep_checkpoints: How many checkpoints to keep; the oldest are deleted.
        device_tflops: Peak of one device at this precision by its data sheet, in TFLOP/s (10^12 operations a second),
            so that the log says which share of it is used (MFU); null if it is not known.
        report_to: Which program gets the measurements, besides `metrics.jsonl`; its package must be installed. Each
            writes below the output folder, and asks no server.
    """

    steps: int = key(at_least=1)
    batch_size: int = key(at_least=1)
    gradient_accumulation_steps: int = key(1, at_least=1)
    learning_rate: float = key(above=0)
    gate_learning_rate: float = key(0.01, above=0)
    weight_decay: float | None = key(0.1, at_least=0)
    decay_embeddings: bool = key(False)
    schedule: Literal["constant", "cosine", "linear", "wsd"] = key("cosine")
    warmup_steps: int = key(0, at_least=0)
    spread_warmup_steps: int = key(0, at_least=0)
    decay_steps: int | None = key(None, at_least=1)
    min_learning_rate_ratio: float = key(0.0, at_least=0, at_most=1)
    rewarm_steps: int = key(0, at_least=0)
    max_grad_norm: float = key(1.0, at_least=0)
    adam_beta1: float = key(0.9, at_least=0, below=1)
    adam_beta2: float = key(0.95, at_least=0, below=1)
    precision: Literal["float32", "bfloat16"] = key("float32")
    backprop_segments: int | None = key(None, at_least=1)
    distributed: Literal["ddp", "fsdp2"] = key("ddp")
    context_parallel: int = key(1, at_least=1)
    activation_checkpointing: bool = key(False)
    compile: bool = key(False)
    log_every_steps: int = key(10, at_least=1)
    checkpoint_every_steps: int = key(500, at_least=1)
    checkpoint_format: Literal["whole", "shards"] = key("whole")
    checkpoint_in_background: bool = key(False)
    keep_checkpoints: int = key(2, at_least=1)
    device_tflops: float | None = key(None, above=0)
    report_to: Literal["none", "tensorboard", "wandb", "mlflow"] = key("none")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Held-out text, evaluated at each checkpoint; there is none unless one of the first two keys is set.

    Attributes:
        raw_data: The held-out text, in the form of `--raw-data`.
        fraction: Share of the documents to hold out of the training, taken at even distances.
        max_tokens: Tokens to read at each evaluation, from the start of the text.
    """

    raw_data: str | None = key(None)
    fraction: float = key(0.0, at_least=0, below=1)
    max_tokens: int = key(1 << 16, at_least=2)


NOTHING_HELD_OUT = EvaluationSettings()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole configuration. The constructor trusts; `parse` checks.

    Attributes:
        tokenizer: Repo id or alias of a tokenizer in the bundle, or a folder: `./name`, as `save_pretrained` wrote it.
        tokenizer_fallback: What to use, without a bundle, if the tokenizer is not available: nothing (an error), or
            built-in bytes.
        seed: Seed for weights, order of rows and dropout.
        model: Shape of the model.
        data: How documents become rows.
        training: Optimisation and bookkeeping.
        evaluation: Held-out text.
    """

    tokenizer: str
    tokenizer_fallback: Literal["none", "byte"] = key("none")
    seed: int = key(0, at_least=0, at_most=MOST_SEED)
    model: ModelSettings
    data: DataSettings
    training: TrainingSettings
    evaluation: EvaluationSettings = NOTHING_HELD_OUT

    @property
    def weight_decay(self) -> float:
        """The weight decay as a number: 0.0 for null."""
        return 0.0 if self.training.weight_decay is None else self.training.weight_decay

    @property
    def row_length(self) -> int:
        """Number of tokens in a row."""
        return self.model.segment_length * self.data.segments_per_row

    @property
    def backprop_length(self) -> int:
        """Number of tokens after which the gradient is cut."""
        return self.model.segment_length * (self.training.backprop_segments or self.data.segments_per_row)

    @property
    def notes(self) -> list[str]:
        """Lines for the log about values whose meaning is not obvious."""
        notes = []
        if self.training.weight_decay is None:
            notes.append("training.weight_decay is null: taken as 0.0, nothing is decayed")
        return notes

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield (key path, message) for each fault between keys that are right by themselves."""
        model, training = self.model, self.training
        heads, shared = model.num_attention_heads, model.num_key_value_heads or model.num_attention_heads
        if model.hidden_size % heads:
            yield "model.hidden_size", f"{model.hidden_size} is not a multiple of num_attention_heads ({heads})"
        elif model.hidden_size // heads % 2:
            message = f"RoPE needs an even width of each head, found {model.hidden_size // heads}"
            yield "model.hidden_size", message
        if heads % shared:
            yield "model.num_attention_heads", f"{heads} is not a multiple of num_key_value_heads ({shared})"
        if training.warmup_steps > training.steps:
            message = f"{training.warmup_steps} is more than training.steps ({training.steps})"
            yield "training.warmup_steps", message
        if training.spread_warmup_steps > (training.steps if model.memory_write_spread else 0):
            most = f"at most training.steps ({training.steps}), and 0 where model.memory_write_spread is"
            yield "training.spread_warmup_steps", f"expected {most}, found {training.spread_warmup_steps}"
        if training.decay_steps is not None and training.schedule != "wsd":
            yield "training.decay_steps", f"expected it with schedule wsd only, found schedule {training.schedule}"
        elif training.warmup_steps + (training.decay_steps or 0) > training.steps >= training.warmup_steps:
            message = f"with warmup_steps it is more than training.steps ({training.steps})"
            yield "training.decay_steps", message
        if training.schedule == "constant" and training.min_learning_rate_ratio:
            yield "training.min_learning_rate_ratio", "expected a schedule that falls, found schedule constant"
        if training.checkpoint_in_background and training.checkpoint_format != "shards":
            message = f"expected it with checkpoint_format shards only, found {training.checkpoint_format}"
            yield "training.checkpoint_in_background", message
        if self.evaluation.raw_data is not None and self.evaluation.fraction:
            yield "evaluation.fraction", "expected this or evaluation.raw_data, found both"
        reach, row = training.backprop_segments, self.data.segments_per_row
        spread = training.context_parallel
        if row % spread:
            yield "training.context_parallel", f"data.segments_per_row ({row}) is not a multiple of {spread}"
        if spread > 1 and (reach or row) < row:
            message = "expected null with context_parallel: a part of a row would have to wait for the one before"
            yield "training.backprop_segments", message
        if spread > 1 and training.compile:
            yield "training.compile", "expected false with context_parallel, whose exchanges are not compiled"
        if reach is not None and reach > row:
            yield "training.backprop_segments", f"{reach} is more than data.segments_per_row ({row})"

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved configuration, defaults included, as plain values: those of JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML that `parse` takes."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def load(path: Path, overrides: Iterable[str] = ()) -> Settings:
    """Read a configuration file.

    Args:
        path: The file.
        overrides: Texts `key.path=value` from the command line; they replace values of the file.

    Raises:
        ConfigError: The file cannot be read, or has faults; the error names all of them.
    """
    try:
        text = read_text_file(path, "configuration")
    except NotATextFileError as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from error
    return parse(text, source=str(path), overrides=overrides)


def parse(text: str, *, source: str = "configuration", overrides: Iterable[str] = ()) -> Settings:
    """Parse and check a configuration.

    Args:
        text: YAML.
        source: The file's name for messages.
        overrides: As for `load`.

    Raises:
        InvalidSettingsError: It has faults; the error names all of them.
    """
    reader = Reader(YamlTree())
    root = override(parse_yaml(text, source, InvalidSettingsError), overrides, reader)
    settings = reader.read(Settings, root)
    if settings is None or reader.faults:
        raise InvalidSettingsError(source, reader.faults)
    return settings
