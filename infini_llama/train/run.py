"""Run a training, from a verified bundle and raw text to a checkpoint; this module has only the order of the steps.

Importing this module imports transformers, so the caller must shut the network and verify the bundle before.
"""

from __future__ import annotations

import platform
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from torch.utils.data import ConcatDataset
from transformers import TrainingArguments, default_data_collator, set_seed
from transformers.utils.logging import disable_progress_bar

from bundler import __version__
from bundler.files.digest import sha256_bytes
from bundler.home.installed import InstalledBundle
from bundler.text.wording import counted
from infini_llama.data import Sources, prepare_sources
from infini_llama.data.drawing import Drawing, choose_drawing, describe_rows, list_sources, make_rows
from infini_llama.data.tokenizers import (
    ChosenTokenizer,
    TokenizerOrigin,
    check_resumed,
    choose_tokenizer,
    origin_record,
)
from infini_llama.model.load import starting_record
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.parallel.context import cut_rows, find_context
from infini_llama.progress import say
from infini_llama.run_folder import checkpoints
from infini_llama.run_folder.checkpoints import Provenance
from infini_llama.run_folder.provenance import check_provenance, read_started_from
from infini_llama.run_folder.stopped import remove_stop_note, write_stop_note
from infini_llama.settings.sections import TOKENS_FOLDER, Settings
from infini_llama.train.divergence import StopAtDivergence
from infini_llama.train.held_out import HeldOut, ReportAtCheckpoint, hold_out
from infini_llama.train.metrics_log import MetricsLog
from infini_llama.train.starting_model import make_model
from infini_llama.train.stopping import StopAtSignal, stop_signals
from infini_llama.train.trainer import InfiniTrainer, count_parameters, training_arguments


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of a run.

    Attributes:
        first_loss: Mean loss of the first step, in nats per token.
        last_loss: Mean loss in the last line of the log, over at most `log_every_steps` steps.
        steps: Number of optimizer steps, with those before a resume.
        tokens: Number of tokens trained on, without padding; repeated tokens count each time.
        seconds: Wall-clock time of the training in this process.
        checkpoint: The last checkpoint.
        resumed_from: The checkpoint that the run continued from; None for a new run.
        bundle: Name of the bundle; empty without a bundle.
        bundle_digest: Digest of the bundle.
        parameters: Number of the model's parameters; tied ones count once.
        tokenizer: Repo id or folder in the configuration.
        tokenizer_origin: Which tokenizer was used, and where it came from.
        documents: Number of documents trained on.
        bad_records: Number of records without usable text, which were left out.
        files_left_out: Number of files that were not read because their suffix is not known.
        world_size: Number of processes that trained.
        wrapper: Name of the class that wrapped the model.
        stopped_by: The signal that ended the run before its last step; None if there was none.
    """

    first_loss: float
    last_loss: float
    steps: int
    tokens: int
    seconds: float
    checkpoint: str
    resumed_from: str | None
    bundle: str
    bundle_digest: str
    parameters: int
    tokenizer: str
    tokenizer_origin: str
    documents: int
    bad_records: int
    files_left_out: int
    world_size: int
    wrapper: str
    stopped_by: str | None


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Everything that a run needs before it trains."""

    chosen: ChosenTokenizer
    data: Sources
    documents: int
    held_out: HeldOut
    rows: ConcatDataset[dict[str, Tensor]]
    drawing: Drawing | None
    model: InfiniLlamaForCausalLM
    arguments: TrainingArguments
    provenance: Provenance


class _Outcome(NamedTuple):
    """The result of the training steps."""

    seconds: float
    checkpoint: Path
    stopped_by: signal.Signals | None


def train(
    settings: Settings,
    bundle: InstalledBundle | None,
    *,
    raw_data: str | Path | None = None,
    output_dir: Path,
    resume_from: Path | None = None,
    online: bool = False,
    accept_other_bundle: bool = False,
    start_from: Path | None = None,
) -> Summary:
    """Train an Infini-Llama.

    Args:
        settings: The configuration.
        bundle: The verified bundle with the tokenizer, if there is one.
        raw_data: File, folder, or `dataset:org/name`: see `infini_llama.data`; None for the sources of the settings.
        output_dir: Where checkpoints go.
        resume_from: A complete checkpoint of the same run to continue from.
        online: Whether to ask the Hub for the tokenizer; only without a bundle.
        accept_other_bundle: Whether to continue from a checkpoint of another bundle.
        start_from: Folder of a model to start with instead of a new one: see `infini_llama.model.load`.

    Raises:
        TrainingDataError: There is no usable text.
        NotInstalledError: The bundle, or the local cache, has no such tokenizer.
        ConfigError: The checkpoint to continue from has another tokenizer, bundle or model; or the model to start with
            differs from the configuration.
        IntegrityError: The tokenizer's files match the lock, but no tokenizer loads; or the weights to start with do
            not fit.
        DivergenceError: The loss or the weights are no longer finite.
    """
    _begin(settings)
    chosen = choose_tokenizer(
        settings.tokenizer, bundle=bundle, fallback=settings.tokenizer_fallback, online=online
    )
    if resume_from is not None:
        check_resumed(resume_from, chosen.origin)
    run = _make_ready(settings, bundle, chosen, raw_data, output_dir, resume_from, start_from)
    if resume_from is not None:
        for difference in check_provenance(resume_from, run.provenance, accept_other_bundle=accept_other_bundle):
            say(f"note: {difference}")
    trainer = _make_trainer(settings, run, output_dir)
    outcome = _take_steps(trainer, output_dir, resume_from)
    return _summarize(settings, bundle, run, trainer, outcome, resume_from)


def _begin(settings: Settings) -> None:
    """Log the notes of the settings, and seed all random numbers."""
    for note in settings.notes:
        say(f"note: {note}")
    if not sys.stderr.isatty():
        disable_progress_bar()
    set_seed(settings.seed)


def _make_ready(
    settings: Settings,
    bundle: InstalledBundle | None,
    chosen: ChosenTokenizer,
    raw_data: str | Path | None,
    output_dir: Path,
    resume_from: Path | None,
    start_from: Path | None,
) -> _Run:
    """Tokenize the text, and build or load the model."""
    tokenizer = chosen.tokenizer
    data = prepare_sources(raw_data, tokenizer, settings.data, output_dir / TOKENS_FOLDER)
    documents, held_out = hold_out(data, tokenizer, settings, output_dir)
    rows = [make_rows(part, tokenizer, settings) for part in documents]
    started = starting_record(start_from) or (read_started_from(resume_from) if resume_from else {})
    arguments = training_arguments(settings, output_dir)
    # A loaded model may have more parameters than a new one: unused rows of its embeddings.
    folder = resume_from if resume_from and started else start_from
    model = make_model(settings, tokenizer, folder, arguments, is_resumed=resume_from is not None)
    for line in describe_rows(data, rows, settings):
        say(line)
    say(f"{count_parameters(model):,} parameters")
    return _Run(
        chosen=chosen,
        data=data,
        held_out=held_out,
        documents=sum(len(part) for part in documents),
        rows=ConcatDataset(rows),
        drawing=choose_drawing(list_sources(data, rows), settings, resume_from, arguments.world_size),
        model=model,
        arguments=arguments,
        provenance=_provenance(settings, bundle, chosen.origin, data, arguments.world_size, started),
    )


def _make_trainer(settings: Settings, run: _Run, output_dir: Path) -> InfiniTrainer:
    context = find_context(settings.training.context_parallel, run.arguments.world_size)
    trainer = InfiniTrainer(
        settings=settings,
        provenance=run.provenance,
        drawing=run.drawing,
        model=run.model,
        args=run.arguments,
        train_dataset=run.rows,
        # All rows have one length; the default collator would pad them with the tokenizer.
        data_collator=default_data_collator
        if context is None
        else cut_rows(
            default_data_collator,
            context,
            settings.model.segment_length,
            share_segments=settings.data.share_segments,
        ),
        context=context,
        processing_class=run.chosen.tokenizer,
    )
    metrics = MetricsLog(
        output_dir,
        run.model,
        bad_records=run.data.bad_records,
        tensorboard=settings.training.report_to == "tensorboard",
        device_tflops=settings.training.device_tflops,
    )
    # Before those of other programs, which then show what it adds.
    trainer.callback_handler.callbacks.insert(0, metrics)
    trainer.add_callback(StopAtDivergence(output_dir))
    trainer.add_callback(ReportAtCheckpoint(output_dir, run.model, run.held_out, settings.evaluation.max_tokens))
    return trainer


def _take_steps(trainer: InfiniTrainer, output_dir: Path, resume_from: Path | None) -> _Outcome:
    """Train all steps, or until a signal asks to stop."""
    if trainer.args.should_save:
        checkpoints.clear_incoming(output_dir)
        remove_stop_note(output_dir)
    begun = time.monotonic()
    with stop_signals() as request:
        stopping = StopAtSignal(request)
        trainer.add_callback(stopping)
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    checkpoint = output_dir / f"checkpoint-{trainer.state.global_step}"
    if stopping.stopped_by is not None and trainer.args.should_save:
        write_stop_note(output_dir, stopping.stopped_by, checkpoint)
    return _Outcome(time.monotonic() - begun, checkpoint, stopping.stopped_by)


def _summarize(
    settings: Settings,
    bundle: InstalledBundle | None,
    run: _Run,
    trainer: InfiniTrainer,
    outcome: _Outcome,
    resume_from: Path | None,
) -> Summary:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Summary(
        first_loss=losses[0],
        last_loss=losses[-1],
        steps=trainer.state.global_step,
        tokens=int(trainer.state.num_input_tokens_seen),
        seconds=round(outcome.seconds, 3),
        checkpoint=str(outcome.checkpoint),
        resumed_from=str(resume_from) if resume_from else None,
        bundle=bundle.lock.name if bundle else "",
        bundle_digest=bundle.digest if bundle else "",
        parameters=count_parameters(run.model),
        tokenizer=settings.tokenizer,
        tokenizer_origin=str(run.chosen.origin),
        documents=run.documents,
        bad_records=run.data.bad_records,
        files_left_out=len(run.data.left_out),
        world_size=run.arguments.world_size,
        wrapper=trainer.wrapper,
        stopped_by=outcome.stopped_by.name if outcome.stopped_by else None,
    )


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()}, {counted(torch.get_num_threads(), 'thread')})"


def _provenance(
    settings: Settings,
    bundle: InstalledBundle | None,
    origin: TokenizerOrigin,
    data: Sources,
    world_size: int,
    started: dict[str, Any],
) -> Provenance:
    return Provenance(
        bundle=bundle.lock.name if bundle else "",
        bundle_digest=bundle.digest if bundle else "",
        lock_sha256=sha256_bytes(bundle.lock.dumps().encode()) if bundle else "",
        tokenizer=settings.tokenizer,
        tokenizer_commit=origin.commit,
        tokenizer_origin=origin_record(origin),
        data=data.record(),
        settings=settings.to_dict(),
        seed=settings.seed,
        versions={
            "infini-llama": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        world_size=world_size,
        machine={"system": platform.platform(), "device": _device()},
        started_from=started,
    )
