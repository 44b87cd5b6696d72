"""The rows of a run, the order in which it draws them, and where in it the run is.

A run draws `rows_per_step` rows at each step, from all processes together; which process computes a row does not matter
for the order. Where a run goes on with larger or smaller batches, it goes on with the next row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from bundler.text.wording import counted
from infini_llama.data.documents import Documents
from infini_llama.data.order import VERSION, Draws, Order, Record, Source
from infini_llama.data.rows import Rows
from infini_llama.data.sources import Sources
from infini_llama.errors import ConfigError, TrainingDataError
from infini_llama.progress import say
from infini_llama.run_folder.provenance import read_provenance
from infini_llama.settings.sections import Settings

# Below this share of slots with tokens a note says what would fill them.
_WASTEFUL = 0.9


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The order of a run.

    Attributes:
        order: The order.
        rows_per_step: Rows that all processes draw for an optimizer step.
        step: The step that the run goes on from; 0 for a new run.
        drawn: Rows that had been drawn by then.
    """

    order: Order
    rows_per_step: int
    step: int = 0
    drawn: int = 0

    def draws(self, steps: int) -> Draws:
        """Return the rows of all steps up to `steps`; those of steps before the resume are there to be skipped."""
        begin = self.drawn - self.step * self.rows_per_step
        return Draws(self.order, begin=begin, end=begin + steps * self.rows_per_step, drawn=self.drawn)

    def record(self, step: int) -> dict[str, Any]:
        """Return what the checkpoint of a step holds of it."""
        return self.order.record(self.drawn + (step - self.step) * self.rows_per_step)


def choose_drawing(
    sources: Sequence[Source], settings: Settings, resume_from: Path | None, world_size: int
) -> Drawing | None:
    """Return the order of a run; None for one that began before there was this order, and goes on in its own.

    Args:
        sources: Where the rows come from.
        settings: The configuration.
        resume_from: The checkpoint that the run goes on from.
        world_size: Number of processes.

    Raises:
        ConfigError: The checkpoint's order is not known, or cannot go on with several sources.
    """
    training = settings.training
    rows = training.batch_size * training.gradient_accumulation_steps * (world_size // training.context_parallel)
    if resume_from is None:
        return Drawing(order=Order(sources, settings.seed), rows_per_step=rows)
    provenance = read_provenance(resume_from)
    record = provenance.get("order")
    if not record:
        if len(sources) > 1:
            raise ConfigError(
                f"{resume_from} is of a run that began in the order of version 0.1.0, which has no mixtures",
                hint="start a new run from its weights: --start-from, and another --output-dir",
            )
        say("note: rows are drawn in the order of version 0.1.0, in which the run began")
        return None
    if record["version"] != VERSION:
        raise ConfigError(
            f"{resume_from}: expected rows in the order of version {VERSION}, found {record['version']}",
            hint="continue with the version of infini-llama that wrote it; `provenance.json` names it",
        )
    before = Record(**record)
    weights = {source.name: source.weight for source in sources}
    if list(before.weights.items()) != list(weights.items()):
        say("note: a new mixture begins; each source that was in the old one goes on where it was")
    order = Order(sources, settings.seed, before)
    return Drawing(order=order, rows_per_step=rows, step=provenance["step"], drawn=before.drawn)


def make_rows(documents: Documents, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> Rows:
    """Cut documents into rows.

    Raises:
        TrainingDataError: No document has two tokens.
    """
    if documents.longest < 2:
        raise TrainingDataError("no document has two tokens, and there is nothing to predict from one")
    return Rows(
        documents,
        segment_length=settings.model.segment_length,
        segments_per_row=settings.data.segments_per_row,
        padding_id=tokenizer.pad_token_id or 0,
        share_segments=settings.data.share_segments,
    )


def list_sources(data: Sources, rows: Sequence[Rows]) -> list[Source]:
    """Return the sources as an order knows them."""
    return [
        Source(name=name, rows=len(own), weight=weight)
        for name, weight, own in zip(data.names, data.weights, rows, strict=True)
    ]


def describe_rows(data: Sources, rows: Sequence[Rows], settings: Settings) -> Iterator[str]:
    """Yield lines for the log: how many rows there are, how full, and of a mixture, of which source."""
    tokens, count = sum(part.tokens for part in rows), sum(len(part) for part in rows)
    used_share = tokens / (count * settings.row_length)
    yield (
        f"{counted(data.files, 'file')}, {counted(tokens, 'token')} in {counted(count, 'row')} of "
        f"{settings.data.segments_per_row} x {settings.model.segment_length}, {used_share:.0%} full"
    )
    if used_share < _WASTEFUL and not settings.data.share_segments and count > 1:
        yield "note: the rest is padding, which costs as much; data.share_segments: true fills it with documents"
    if len(rows) > 1:
        for part, share, own in zip(data.parts, data.shares, rows, strict=True):
            yield f"{share:.1%} of the rows from {part.source}, which has {counted(len(own), 'row')}"
