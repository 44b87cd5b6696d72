"""The recall task: test whether the memory keeps what local attention cannot see.

The first segment of a row has a few bindings of a key to a value, one token per binding, among noise. Segments of noise
follow. The last segment names the keys, and the model must give the value after each. Local attention sees only one
segment, so without a working memory an answer is a guess, right in 1 of `values` cases.

This tests the mechanism on a synthetic task, not language modelling. The loss counts only the answers.

The recipe is the same for every seed. Its parts and their reasons:

* queries and keys start at variance 1 (`InfiniLlamaPreTrainedModel._init_weights`). Near 0 sigma maps all keys to
  almost the same, the delta rule's second segment removes exactly what the first wrote, and there is no gradient;
* a tenth of the embeddings is dropped, a fifth for the delta rule. On three segments the loss is soon 0, although keys
  of noise still overlap a little with the questions; in 32 segments, with sixteen times the noise, the overlap hides
  the answer. With dropout the loss does not become 0, and training reduces the overlap further;
* the learning rate stays high until the last three tenths, and is higher for the gates;
* `memory_write_spread`, where the model has one, grows from 0 over the first half of the steps (in a run
  `training.spread_warmup_steps` does that). With all of it from the start the delta rule finds the answer late or, with
  some seeds, not at all.

Other models than ours can be trained and asked in the same way, if they are called as those of transformers are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infini_llama.data import IGNORED
from infini_llama.model.cache import InfiniCache
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.train.optimizer import parameter_groups
from infini_llama.train.schedule import write_spread
from infini_llama.train.truncation import split_into_parts

# Memory update -> share of dropped embeddings. The delta rule does not write noise that the memory already holds, so in
# rows of three segments it sees less noise to learn from than the linear rule.
DROPOUT = {"linear": 0.1, "delta": 0.2}
_SEGMENTS_AT_ONCE = 32
# The share of the steps over which the spread grows.
_SPREAD_GROWS = 0.5


@dataclass(frozen=True, kw_only=True)
class RecallTask:
    """Bindings hidden in the first segment, asked for in the last.

    Attributes:
        bindings: Number of bindings in a row, and of questions.
        keys: Number of keys to choose from; a row has no key twice.
        values: Number of values to choose from; a guess is right in 1 of `values` cases.
        noise: Number of different noise tokens.
        segment_length: Tokens per segment; questions and answers take `2 * bindings` tokens of the last one.
    """

    bindings: int = 4
    keys: int = 8
    values: int = 16
    noise: int = 8
    segment_length: int = 16

    @property
    def vocab_size(self) -> int:
        """Number of different tokens: bindings, then keys, values and noise."""
        return self.keys * self.values + self.keys + self.values + self.noise

    def rows(self, count: int, segments: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return tokens and labels, `(count, segments * segment_length)` each."""
        length = self.segment_length
        first_key = self.keys * self.values
        first_value, first_noise = first_key + self.keys, first_key + self.keys + self.values
        tokens = torch.randint(first_noise, self.vocab_size, (count, segments * length), generator=generator)
        keys = torch.rand(count, self.keys, generator=generator).argsort(1)[:, : self.bindings]
        values = torch.randint(self.values, (count, self.bindings), generator=generator)
        places = torch.rand(count, length, generator=generator).argsort(1)[:, : self.bindings]
        tokens.scatter_(1, places, keys * self.values + values)
        asked = torch.rand(count, self.bindings, generator=generator).argsort(1)
        questions = torch.stack((first_key + keys.gather(1, asked), first_value + values.gather(1, asked)), dim=2)
        tokens[:, -2 * self.bindings :] = questions.flatten(1)
        labels = torch.full_like(tokens, IGNORED)
        labels[:, -2 * self.bindings + 1 :: 2] = tokens[:, -2 * self.bindings + 1 :: 2]
        return tokens, labels


def recall_model(
    task: RecallTask, *, memory_update: str = "linear", seed: int = 0, spread: float = 0.0
) -> InfiniLlamaForCausalLM:
    """Return the small model for the task: two layers of two heads, with gates half open.

    Args:
        task: The task.
        memory_update: As in `InfiniLlamaConfig`.
        seed: Seed of the weights.
        spread: `memory_write_spread` of its configuration.
    """
    torch.manual_seed(seed)
    config = InfiniLlamaConfig(
        vocab_size=task.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        segment_length=task.segment_length,
        memory_update=memory_update,  # type: ignore[arg-type]
        embedding_dropout=DROPOUT[memory_update],
        memory_write_spread=spread,
        bos_token_id=None,
        eos_token_id=None,
    )
    return InfiniLlamaForCausalLM(config)


def shut_gates(model: InfiniLlamaForCausalLM) -> None:
    """Shut the gates for ever, so that only local attention works: they neither open nor learn."""
    for layer in model.model.layers:
        torch.nn.init.constant_(layer.self_attn.gate.bias, -math.inf).requires_grad_(False)


def train_recall(
    model: Any,
    task: RecallTask,
    *,
    steps: int,
    segments: int = 3,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    gate_learning_rate: float = 3e-2,
    seed: int = 0,
    detached: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train on new rows, with the recipe in the module's docstring.

    Args:
        model: The model, which gives a loss for `input_ids` and `labels`; it is left in training mode.
        task: The task.
        steps: Number of optimizer steps.
        segments: Segments per row.
        batch_size: Rows per step.
        learning_rate: Highest learning rate of all parameters but the gates.
        gate_learning_rate: Highest learning rate of the gates.
        seed: Seed of the rows.
        detached: Cut the gradient between segments, so that the memory is read but cannot learn what to keep; of an
            Infini-Llama only.
        on_step: Called with each step's number, from 1, and its loss.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = parameter_groups(
        model,
        learning_rate=learning_rate,
        gate_learning_rate=gate_learning_rate,
        weight_decay=0.01,
        decay_embeddings=False,
    )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step, steps))
    reach = task.segment_length * (1 if detached else segments)
    full_spread = getattr(model.config, "memory_write_spread", 0.0)
    model.train()
    for step in range(1, steps + 1):
        tokens, labels = task.rows(batch_size, segments, generator)
        row, loss = {"input_ids": tokens, "labels": labels}, 0.0
        spread = write_spread(full_spread, _SPREAD_GROWS * steps, step)
        if spread is not None:
            row["write_spread"] = spread
        parts: Iterable[dict[str, Any]] = [{**row, "use_cache": False}]
        if isinstance(model, InfiniLlamaForCausalLM):
            parts = split_into_parts(row, reach, model.config.num_hidden_layers)
        for part in parts:
            result = model(**part, num_items_in_batch=batch_size * task.bindings).loss
            result.backward()
            loss += float(result.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step, loss)


def _share_of_rate(step: int, steps: int) -> float:
    """Return the share of the highest learning rate: it rises for 5 % of the steps, and falls to 0 in the last 30 %."""
    return min((step + 1) / max(1, steps // 20), 1, (steps - step) / (0.3 * steps))


def recall_accuracy(
    model: InfiniLlamaForCausalLM, task: RecallTask, *, segments: int, rows: int = 256, seed: int = 1_000_000
) -> float:
    """Return the share of right answers in rows of `segments` segments."""
    (share,) = recall_accuracies(model, task, lengths=[segments], rows=rows, seed=seed)
    return share


def recall_accuracies(
    model: InfiniLlamaForCausalLM,
    task: RecallTask,
    *,
    lengths: Sequence[int],
    rows: int = 256,
    seed: int = 1_000_000,
) -> list[float]:
    """Return the share of right answers at each length, in one pass over rows that have the greatest.

    Args:
        model: The model; it is put into evaluation mode.
        task: The task.
        lengths: Lengths in segments, at least 2 each, in any order.
        rows: Number of rows.
        seed: Seed of the rows.
    """
    cache = InfiniCache(model.config.num_hidden_layers)
    found = {
        read.segments: read.ask(cache)
        for read in read_rows(model, task, cache, lengths=lengths, rows=rows, seed=seed)
    }
    return [found[length] for length in lengths]


@dataclass(frozen=True, kw_only=True)
class ReadRows:
    """Rows that a model has read up to their last segment.

    Attributes:
        segments: How long they are with it.
        ask: Returns the share of right answers of a model with a state, which it leaves as it is.
    """

    segments: int
    ask: Callable[[Any], float]


@torch.no_grad()
def read_rows(
    model: Any, task: RecallTask, cache: Any, *, lengths: Sequence[int], rows: int, seed: int = 1_000_000
) -> Iterator[ReadRows]:
    """Read rows as streams, and stop before the questions at each length: RAM use does not grow with it.

    Args:
        model: The model, which goes on from `past_key_values`; it is put into evaluation mode.
        task: The task.
        cache: The state of new streams; it is advanced, and is that before the questions at each stop.
        lengths: Lengths in segments, at least 2 each, in any order.
        rows: Number of rows.
        seed: Seed of the rows.
    """
    model.eval()
    size, generator = task.segment_length, torch.Generator().manual_seed(seed)
    tokens, labels = task.rows(rows, max(lengths), generator)
    questions, expected = tokens[:, -size:], labels[:, -size + 1 :]
    asked = expected != IGNORED

    @torch.no_grad()
    def ask(state: Any) -> float:
        # A question would be remembered by those that come later.
        answers = model(questions, past_key_values=copy.deepcopy(state)).logits[:, :-1].argmax(-1)
        return float((answers[asked] == expected[asked]).float().mean())

    read = 0
    for length in sorted(set(lengths)):
        begin, end = read * size, (length - 1) * size
        for part in tokens[:, begin:end].split(_SEGMENTS_AT_ONCE * size, dim=1):
            if part.shape[1]:
                model(part, past_key_values=cache, logits_to_keep=1)
        read = length - 1
        yield ReadRows(segments=length, ask=ask)
