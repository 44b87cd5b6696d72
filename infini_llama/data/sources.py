"""The sources of a training: one, from the command line, or a mixture of several, from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from bundler.files.digest import sha256_bytes
from infini_llama.data.documents import Documents
from infini_llama.data.preparation import Prepared, prepare_documents
from infini_llama.errors import TrainingDataError
from infini_llama.settings.sections import DataSettings


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is trained on.

    Attributes:
        parts: The sources, prepared.
        weights: The weight of each.
        names: What an order knows each by: what its files hold, and the key of its text, if the source names one.
    """

    parts: list[Prepared]
    weights: list[float]
    names: list[str]

    @property
    def shares(self) -> list[float]:
        """The share of all rows that is drawn from each; together 1."""
        return [weight / sum(self.weights) for weight in self.weights]

    @property
    def files(self) -> int:
        """Number of files that were read."""
        return sum(part.files for part in self.parts)

    @property
    def left_out(self) -> list[str]:
        """Files whose suffix is not known."""
        return [path for part in self.parts for path in part.left_out]

    @property
    def bad_records(self) -> int:
        """Number of records without usable text."""
        return sum(part.bad_records for part in self.parts)

    def record(self, *, with_places: bool = False) -> dict[str, Any]:
        """Return the description of the data for the provenance: of a mixture sums, and each source with its weight."""
        records = [part.record() for part in self.parts]
        if with_places:
            for record, part in zip(records, self.parts, strict=True):
                record.update(place=str(part.place), from_cache=part.from_cache)
        if len(records) == 1:
            return records[0]
        sums = {
            key: sum((record[key] for record in records), start=type(records[0][key])())
            for key in self.parts[0].record()
            if key not in ("path", "sha256")
        }
        return {
            "path": ", ".join(record["path"] for record in records),
            "sha256": sha256_bytes("".join(record["sha256"] for record in records).encode()),
            **sums,
            "sources": [
                {"weight": weight, **record} for weight, record in zip(self.weights, records, strict=True)
            ],
        }


def prepare_sources(
    raw_data: str | Path | None, tokenizer: PreTrainedTokenizerBase, settings: DataSettings, cache_dir: Path
) -> Sources:
    """Return the sources as tokens (see `infini_llama.data.preparation`).

    Args:
        raw_data: The one source; None for those of the settings.
        tokenizer: The run's tokenizer.
        settings: The sources, and how to read them.
        cache_dir: Folder for the tokens, if the settings name none.

    Raises:
        TrainingDataError: Both or neither are given; two sources hold the same text; or as for `prepare_documents`.
    """
    if (raw_data is None) == (not settings.sources):
        found = "both" if settings.sources else "neither"
        raise TrainingDataError(
            f"expected --raw-data, or data.sources in the configuration, found {found}",
            hint="--raw-data names one source; data.sources lists several, with weights",
        )
    if raw_data is not None:
        part = prepare_documents(raw_data, tokenizer, settings, cache_dir)
        return Sources(parts=[part], weights=[1.0], names=[part.sha256])
    parts: list[Prepared] = []
    seen: dict[tuple[str, str], Prepared] = {}
    for source in settings.sources:
        one = replace(settings, text_key=source.text_key or settings.text_key)
        parts.append(prepare_documents(source.raw_data, tokenizer, one, cache_dir))
        twin = seen.setdefault((parts[-1].sha256, one.text_key), parts[-1])
        if twin is not parts[-1]:
            raise TrainingDataError(
                f"data.sources: {twin.source} and {source.raw_data} hold the same text",
                hint="leave one out, and give the other the weight of both",
            )
    names = [
        part.sha256 if source.text_key is None else f"{part.sha256} {source.text_key}"
        for part, source in zip(parts, settings.sources, strict=True)
    ]
    return Sources(parts=parts, weights=[source.weight for source in settings.sources], names=names)


def split_each(sources: Sources, fraction: float) -> tuple[list[Documents], list[Documents]]:
    """Return the documents of each source to train on, and those that are held out: `fraction` of its documents.

    Raises:
        TrainingDataError: A source has too few documents for that.
    """
    kept, taken = [], []
    for part in sources.parts:
        trained, held_out = part.documents.split(fraction)
        if not len(trained) or not len(held_out):
            raise TrainingDataError(
                f"evaluation.fraction: expected documents on both sides, found {len(trained)} to train on and "
                f"{len(held_out)} held out, of {len(part.documents)} in {part.source}",
                hint="whole documents are held out: name other text with evaluation.raw_data",
            )
        kept.append(trained)
        taken.append(held_out)
    return kept, taken
