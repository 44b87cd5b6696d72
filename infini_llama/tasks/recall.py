"""The recall task: does the memory carry what local attention cannot see?

The first segment of a row hides a few bindings of a key to a value, one token per binding, among noise. Segments of
noise follow. The last segment names the keys, and after each the model must say the value. Local attention sees one
segment, so without a working memory the answer is a guess: one in `values`.

This is a test of the mechanism on a synthetic task, not of language modelling. Positions in the loss are those of the
answers alone.

The recipe, the same for every seed, and what each part of it is for:

* queries and keys start at variance 1 (`InfiniLlamaPreTrainedModel._init_weights`). Near 0 all keys are alike to sigma,
  and the delta rule's second segment takes away exactly what its first wrote: there is no gradient to start from;
* a tenth of the embeddings is dropped, a fifth for the delta rule. On three segments the loss soon is 0 with keys of
  noise that still overlap a little with the questions; over 32 segments, that is sixteen times the noise, they drown
  the answer. Dropout keeps the loss from vanishing, and the overlap shrinks with it;
* the learning rate stays high until the last three tenths, and is higher for the gates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infini_llama.data import IGNORED
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.train.optimizer import parameter_groups
from infini_llama.train.truncation import parts

# By the memory's update. The delta rule writes noise that it knows already as nothing, and so has less of it in rows of
# three segments than the linear rule, against which it could learn.
_DROPOUT = {"linear": 0.1, "delta": 0.2}


@dataclass(frozen=True, kw_only=True)
class RecallTask:
    """Bindings hidden in the first segment, asked for in the last.

    Attributes:
        bindings: Bindings in a row, and questions.
        keys: Keys to choose from, without repetition.
        values: Values to choose from; 1 / `values` is chance.
        noise: Kinds of noise token.
        segment_length: Tokens of a segment; questions and answers take `2 * bindings` of the last.
    """

    bindings: int = 4
    keys: int = 8
    values: int = 16
    noise: int = 8
    segment_length: int = 16

    @property
    def vocab_size(self) -> int:
        """Token kinds: bindings, then keys, values and noise."""
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


def recall_model(task: RecallTask, *, memory_update: str = "linear", seed: int = 0) -> InfiniLlamaForCausalLM:
    """Return the small model that the task is tried with: two layers of two heads, gates half open."""
    torch.manual_seed(seed)
    config = InfiniLlamaConfig(
        vocab_size=task.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        segment_length=task.segment_length,
        memory_update=memory_update,  # type: ignore[arg-type]
        embedding_dropout=_DROPOUT[memory_update],
        bos_token_id=None,
        eos_token_id=None,
    )
    return InfiniLlamaForCausalLM(config)


def shut_gates(model: InfiniLlamaForCausalLM) -> None:
    """Leave local attention alone, for good: the gates neither open nor learn."""
    for layer in model.model.layers:
        torch.nn.init.constant_(layer.self_attn.gate.bias, -math.inf).requires_grad_(False)


def train_recall(
    model: InfiniLlamaForCausalLM,
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
    """Train on fresh rows, with the recipe that the module describes.

    Args:
        model: Is left in training mode.
        task: What to train on.
        steps: Of the optimizer.
        segments: Of a row.
        batch_size: Rows of a step.
        learning_rate: The highest, of all but the gates.
        gate_learning_rate: Of the gates.
        seed: Of the rows.
        detached: Cut the gradient between segments: the memory is read but cannot learn what to keep.
        on_step: Is told each step's number, from 1, and loss.
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
    model.train()
    for step in range(1, steps + 1):
        tokens, labels = task.rows(batch_size, segments, generator)
        loss = 0.0
        for part in parts({"input_ids": tokens, "labels": labels}, reach, model.config.num_hidden_layers):
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
    """Return the share of the highest learning rate: up in a twentieth, constant, to 0 in the last three tenths."""
    return min((step + 1) / max(1, steps // 20), 1, (steps - step) / (0.3 * steps))


@torch.no_grad()
def recall_accuracy(
    model: InfiniLlamaForCausalLM, task: RecallTask, *, segments: int, rows: int = 256, seed: int = 1_000_000
) -> float:
    """Return the share of questions answered right in rows of `segments` segments."""
    model.eval()  # type: ignore[no-untyped-call]
    tokens, labels = task.rows(rows, segments, torch.Generator().manual_seed(seed))
    answers = model(tokens, use_cache=False).logits[:, :-1].argmax(-1)
    asked = labels[:, 1:] != IGNORED
    return float((answers[asked] == labels[:, 1:][asked]).float().mean())
