"""Evaluate held-out text and write the report, at each checkpoint.

Ranks share the documents out. The training is not affected: no random number is drawn, and the gates are restored bit
for bit.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from infini_llama.data import Documents, Sources, prepare_documents
from infini_llama.data.sources import split_each
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.report.report import write_report
from infini_llama.run_folder.metrics import append
from infini_llama.settings.sections import TOKENS_FOLDER, Settings
from infini_llama.train.perplexity import perplexities

HeldOut = list[tuple[Documents, float]]


def hold_out(
    sources: Sources, tokenizer: PreTrainedTokenizerBase, settings: Settings, output_dir: Path
) -> tuple[list[Documents], HeldOut]:
    """Return the documents of each source to train on, and those to evaluate on, with the share of the evaluation.

    Raises:
        TrainingDataError: There are too few documents for the configured fraction.
    """
    evaluation = settings.evaluation
    documents = [part.documents for part in sources.parts]
    if evaluation.raw_data is not None:
        data = prepare_documents(evaluation.raw_data, tokenizer, settings.data, output_dir / TOKENS_FOLDER)
        return documents, [(data.documents, 1.0)]
    if not evaluation.fraction:
        return documents, []
    trained, held_out = split_each(sources, evaluation.fraction)
    return trained, list(zip(held_out, sources.shares, strict=True))


def take_beginning(documents: Documents, most_tokens: int) -> Iterator[Tensor]:
    """Yield documents with at most `most_tokens` tokens together; the last one may be cut."""
    for tokens in documents:
        # A document of one token has nothing to predict.
        if most_tokens < 2:
            return
        yield tokens[:most_tokens]
        most_tokens -= len(tokens)


class ReportAtCheckpoint(TrainerCallback):
    """Evaluates and writes `report.html` at each checkpoint; writes the page again at the end of the run.

    Args:
        output_dir: The run's folder.
        model: The model to evaluate.
        held_out: The documents to evaluate on, each source with its share of the tokens; empty for none.
        most_tokens: How many of their tokens to use, from the start.
    """

    def __init__(
        self, output_dir: Path, model: InfiniLlamaForCausalLM, held_out: HeldOut, most_tokens: int
    ) -> None:
        self._output_dir, self._model = output_dir, model
        self._held_out, self._most_tokens = held_out, most_tokens

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Evaluate in all ranks, unless a signal asked the run to stop, and write the report in one rank."""
        is_stopped = control.should_training_stop and state.global_step < state.max_steps
        if self._held_out and not is_stopped:
            documents = [
                tokens
                for held_out, share in self._held_out
                for tokens in take_beginning(held_out, round(self._most_tokens * share))
            ]
            # Of a model that is shared among ranks the weights may be in bfloat16, which needs autocast.
            with torch.autocast(args.device.type, torch.bfloat16, enabled=bool(args.bf16)):
                stretches = perplexities(self._model, documents, rank=args.process_index, size=args.world_size)
            self._model.train()
            if state.is_world_process_zero and stretches:
                line = {
                    "kind": "evaluation",
                    "step": state.global_step,
                    "stretches": [dataclasses.asdict(stretch) for stretch in stretches],
                    "time": round(time.time(), 3),
                }
                append(self._output_dir, line)
        self._write(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Write the final page."""
        self._write(state)

    def _write(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            write_report(self._output_dir)
