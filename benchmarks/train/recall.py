"""How far back a memory recalls, beside a gated DeltaNet and a Llama with a window, over three seeds.

    python -m benchmarks.train.recall [--write] [--variant NAME] [--seed N] [--steps N]        `make bench-recall`

The task is that of `infini-llama recall`: bindings in the first segment, questions in the last, segments of noise
between. All variants are trained by one recipe on rows of three segments (`infini_llama/tasks/recall.py`), and have the
same number of layers, heads and widths. Then they are asked in rows of 2 to 4,096 segments that they have not seen.

Each result is a line of a file as soon as it is there, and is not measured again: an interrupted run goes on. With
`--write`, the table replaces the one in `infini_llama/README.md`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
import transformers
from torch import Tensor, nn

from benchmarks.lib.marks import Marks
from benchmarks.train.gated_delta_net import DeltaNetState, GatedDeltaNetForCausalLM
from benchmarks.train.recall_results import CAUSES, LENGTHS, SEEDS, Result, append_result, markdown, read_results
from infini_llama.model.cache import InfiniCache
from infini_llama.model.memory import Memory
from infini_llama.tasks.recall import DROPOUT, RecallTask, read_rows, recall_model, train_recall

README = Path(__file__).parents[2] / "infini_llama" / "README.md"
MARKS = Marks("bench-recall")
SPREAD = 5.0
_STEPS_SHOWN = 200


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A kind of model.

    Attributes:
        title: Its name in the table.
        build: Makes the model for a task and a seed.
        new_cache: Makes the state of new streams of a model.
        kept: Lists the tensors of such a state.
        learning_rate: Highest of the training; the recipe's if not told otherwise.
    """

    title: str
    build: Callable[[RecallTask, int], Any]
    new_cache: Callable[[Any], Any]
    kept: Callable[[Any], Iterable[Tensor]]
    learning_rate: float = 1e-2


def _infini(title: str, memory_update: str, spread: float) -> Variant:
    def kept(cache: InfiniCache) -> Iterable[Tensor]:
        for state in (layer.state for layer in cache.layers):
            assert state is not None, "a stream that was read has a state"
            yield from (*state.memory, state.keys, state.values)

    return Variant(
        title=title,
        build=lambda task, seed: recall_model(task, memory_update=memory_update, seed=seed, spread=spread),
        new_cache=lambda model: InfiniCache(model.config.num_hidden_layers),
        kept=kept,
    )


def gated_delta_net(task: RecallTask, seed: int) -> GatedDeltaNetForCausalLM:
    """Return a gated DeltaNet of the size of `recall_model`, with its dropout."""
    shape = recall_model(task).config
    torch.manual_seed(seed)
    return GatedDeltaNetForCausalLM(shape, embedding_dropout=DROPOUT["linear"])


def window_llama(task: RecallTask, seed: int) -> Any:
    """Return a Llama of the size of `recall_model`, each of whose tokens sees one segment's length back.

    It is transformers' Mistral, which is Llama with a window. The embeddings are dropped as in the other models.
    """
    shape = recall_model(task).config
    torch.manual_seed(seed)
    model: Any = transformers.MistralForCausalLM(
        transformers.MistralConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=shape.num_attention_heads,
            num_key_value_heads=shape.num_attention_heads,
            sliding_window=task.segment_length,
            max_position_embeddings=task.segment_length * max(LENGTHS),
            bos_token_id=None,
            eos_token_id=None,
        )
    )

    def drop(module: nn.Module, _: Any, embedded: Tensor) -> Tensor:
        return nn.functional.dropout(embedded, DROPOUT["linear"], module.training)

    model.model.embed_tokens.register_forward_hook(drop)
    return model


VARIANTS = {
    "linear": _infini("linear", "linear", 0.0),
    "delta": _infini("delta", "delta", 0.0),
    "linear-spread": _infini(f"linear, spread {SPREAD:g}", "linear", SPREAD),
    "delta-spread": _infini(f"delta, spread {SPREAD:g}", "delta", SPREAD),
    "gated-delta-net": Variant(
        title="gated DeltaNet",
        build=gated_delta_net,
        new_cache=lambda _: DeltaNetState(),
        kept=lambda state: (*state.matrices.values(), *state.recent.values()),
        # With the recipe's 0.01 it still guessed after 400 steps.
        learning_rate=3e-3,
    ),
    "window-llama": Variant(
        title="Llama, window of a segment",
        build=window_llama,
        new_cache=lambda model: transformers.DynamicCache(config=model.config),
        kept=lambda cache: (part for layer in cache.layers for part in (layer.keys, layer.values)),
    ),
}


def measure(name: str, seed: int, *, steps: int, rows: int, lengths: tuple[int, ...] = LENGTHS) -> Result:
    """Train a model and ask it at each length.

    Args:
        name: A key of `VARIANTS`.
        seed: Of weights and rows.
        steps: Of the training.
        rows: Rows per length.
        lengths: Lengths in segments.
    """
    variant, task, losses = VARIANTS[name], RecallTask(), list[float]()
    model = variant.build(task, seed)

    def note(step: int, loss: float) -> None:
        losses.append(loss)
        if step % _STEPS_SHOWN == 0:
            click.echo(f"{name}, seed {seed}: step {step}/{steps}  loss {loss:.4f}", err=True)

    begun = time.perf_counter()
    train_recall(model, task, steps=steps, seed=seed, learning_rate=variant.learning_rate, on_step=note)
    seconds = time.perf_counter() - begun
    accuracy, causes = ask(variant, model, task, lengths, rows)
    last = losses[-max(1, steps // 20) :]
    return Result(
        variant=name,
        seed=seed,
        steps=steps,
        rows=rows,
        parameters=sum(p.numel() for p in model.parameters()),
        state=count_state(variant, model, task),
        train_seconds=round(seconds, 1),
        loss=sum(last) / len(last),
        accuracy=accuracy,
        causes=causes,
    )


def ask(
    variant: Variant, model: Any, task: RecallTask, lengths: tuple[int, ...], rows: int, seed: int = 1_000_000
) -> tuple[tuple[float, ...], dict[str, tuple[float, ...]]]:
    """Return the share of right answers at each length; and the same where M, or both, are as after the first segment.

    What is right only there was spoilt by the segments of noise: what they add to M are values, and what they add to z
    makes the whole answer smaller.

    Args:
        variant: The kind of the model.
        model: The model.
        task: The task.
        lengths: Lengths in segments, in ascending order, the first of them 2.
        rows: Number of rows.
        seed: Seed of the rows.
    """
    shares, first = list[float](), None
    causes: dict[str, list[float]] = {}
    cache = variant.new_cache(model)
    for read in read_rows(model, task, cache, lengths=lengths, rows=rows, seed=seed):
        shares.append(read.ask(cache))
        if isinstance(cache, InfiniCache):
            first = first or copy.deepcopy(cache)
            for cause in CAUSES:
                causes.setdefault(cause, []).append(read.ask(_undo(cache, first, cause)))
    return tuple(shares), {cause: tuple(found) for cause, found in causes.items()}


def _undo(cache: InfiniCache, first: InfiniCache, parts: str) -> InfiniCache:
    """Return a copy of a state, with the M of an earlier one, or with M and z."""
    undone = copy.deepcopy(cache)
    for layer, before in zip(undone.layers, first.layers, strict=True):
        assert layer.state is not None and before.state is not None, "a stream that was read has a state"
        (matrix, normaliser), old = layer.state.memory, before.state.memory
        memory = Memory(old.matrix if "M" in parts else matrix, old.normaliser if "z" in parts else normaliser)
        layer.state = layer.state._replace(memory=memory)
    return undone


@torch.no_grad()
def count_state(variant: Variant, model: Any, task: RecallTask) -> int:
    """Return how many numbers are kept of a stream one token before a segment ends, where they are most."""
    cache = variant.new_cache(model)
    tokens = torch.zeros(1, 2 * task.segment_length - 1, dtype=torch.long)
    model.eval()(tokens, past_key_values=cache)
    return sum(part.numel() for part in variant.kept(cache))


@click.command()
@click.option("--write", is_flag=True, help="Replace the table in infini_llama/README.md.")
@click.option("--variant", "variants", type=click.Choice(list(VARIANTS)), multiple=True, default=tuple(VARIANTS))
@click.option("--seed", "seeds", type=click.Choice(SEEDS), multiple=True, default=SEEDS)
@click.option("--steps", type=click.IntRange(1), default=800, show_default=True)
@click.option(
    "--rows", type=click.IntRange(1), default=64, show_default=True, help="Rows per length, four questions each."
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("benchmarks/work/recall.jsonl"),
    show_default=True,
    help="Where results are kept as they come; delete it to measure again.",
)
def main(
    write: bool, variants: tuple[str, ...], seeds: tuple[int, ...], steps: int, rows: int, results: Path
) -> None:
    """Measure what is not there yet, and print or write the table."""
    torch.set_num_threads(1)
    done = {
        (each.variant, each.seed) for each in read_results(results) if (each.steps, each.rows) == (steps, rows)
    }
    for seed in seeds:
        for name in variants:
            if (name, seed) not in done:
                append_result(results, measure(name, seed, steps=steps, rows=rows))
    titles = {name: variant.title for name, variant in VARIANTS.items()}
    text = markdown(read_results(results), titles, steps=steps, rows=rows)
    click.echo(text)
    if write:
        MARKS.write(README, text)


if __name__ == "__main__":
    main()
