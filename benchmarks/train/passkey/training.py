"""Train a small byte-level Infini-Llama to find passkeys, on rows that grow; a training that was cut off goes on.

The loss is that of the answers, that of the passkey where it is hidden the second time, and a tenth of that of all
bytes. The second can be told from the first time, twenty bytes before. It is learnt within a hundred steps, and with it
which digit of a number a byte is: the memory then has something to keep them by. Without it, a model of the same size
answered a quarter of the digits after 600 steps, with any of the five.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.train.passkey.rows import DIGITS, draw_rows
from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.train.optimizer import parameter_groups

_TEXT_WEIGHT = 0.1
_WARMUP_STEPS = 20
# The share of the steps in which the learning rate falls to 0.
_RATE_FALLS = 0.3
_SAVED_EVERY = 50

OnStep = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a training, in which rows have one greatest length.

    Attributes:
        length: Greatest length of a row in bytes, a whole number of segments.
        rows: Rows per step.
        steps: Number of steps.
        introduced: Whether rows begin by saying what will be asked.
        led: Whether rows begin inside a sentence, so that passkeys begin anywhere in a segment.
        spread: Shares of `memory_write_spread` at its beginning and at its end; it grows in between.
        prose_rows: Rows of prose per step besides, of the same length.
        local_rows: Rows of one segment per step besides, in which local attention finds the passkey.
    """

    length: int
    rows: int
    steps: int
    introduced: bool = True
    led: bool = True
    spread: tuple[float, float] = (1.0, 1.0)
    prose_rows: int = 0
    local_rows: int = 0


def small_model(shape: dict[str, Any], seed: int) -> InfiniLlamaForCausalLM:
    """Return a new model of bytes, the first layer's gates shut.

    Args:
        shape: Keys of its configuration.
        seed: Of its weights.
    """
    torch.manual_seed(seed)
    tokens = len(byte_tokenizer())
    model = InfiniLlamaForCausalLM(
        InfiniLlamaConfig(vocab_size=tokens, bos_token_id=None, eos_token_id=None, **shape)
    )
    shut_first_layer(model)
    return model


def shut_first_layer(model: InfiniLlamaForCausalLM) -> None:
    """Leave only local attention in the first layer, for ever.

    Its memory keeps bytes without what stands around them. With its gates open a model soon finds which five digits it
    has seen somewhere, and the memories of later layers, which could tell their order, stay shut.
    """
    nn.init.constant_(model.model.layers[0].self_attn.gate.bias, -math.inf).requires_grad_(False)


def losses_of(model: Any, tokens: Tensor, repeated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean losses of the answers, of the passkeys where they are repeated, and of all bytes.

    Args:
        model: The model.
        tokens: Rows that end in a passkey, `(rows, bytes)`.
        repeated: Where the passkey of each row begins that is hidden the second time, `(rows,)`.
    """
    hidden = model.model(tokens, use_cache=False).last_hidden_state
    row, digits = torch.arange(len(tokens)).unsqueeze(1), torch.arange(DIGITS)
    places = torch.full_like(repeated, tokens.shape[1] - DIGITS), repeated
    of_answers, of_repeated = (
        loss_at(model, hidden, tokens, (row, place.unsqueeze(1) + digits)) for place in places
    )
    return of_answers, of_repeated, loss_at(model, hidden, tokens, (row, torch.arange(1, tokens.shape[1])))


def loss_at(model: Any, hidden: Tensor, tokens: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean loss of some bytes.

    Args:
        model: The model.
        hidden: What its last layer gave, `(rows, bytes, width)`.
        tokens: The rows, `(rows, bytes)`.
        at: Which bytes, rows and places.
    """
    row, place = at
    logits = model.lm_head(hidden[row, place - 1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[row, place].flatten())


class Training:
    """A training by stages, with a state on disk.

    Args:
        model: The model; it is left in evaluation mode.
        stages: What to train on.
        state: File of the state; a training goes on from it where it exists.
        seed: Of the rows.
        learning_rate: Highest of all parameters but the gates.
        gate_learning_rate: Highest of the gates.
        prose: Tokens of the prose of stages that have some, `(bytes,)`.
    """

    def __init__(
        self,
        model: InfiniLlamaForCausalLM,
        stages: Sequence[Stage],
        state: Path,
        *,
        seed: int,
        learning_rate: float = 5e-3,
        gate_learning_rate: float = 1e-2,
        prose: Tensor | None = None,
    ) -> None:
        self._model, self._state, self._prose = model, state, prose
        self._plan = [
            (stage, first + (last - first) * (step + 1) / stage.steps)
            for stage in stages
            for first, last in [stage.spread]
            for step in range(stage.steps)
        ]
        self._spread = model.config.memory_write_spread
        self._generator = torch.Generator().manual_seed(seed)
        groups = parameter_groups(
            model,
            learning_rate=learning_rate,
            gate_learning_rate=gate_learning_rate,
            weight_decay=0.01,
            decay_embeddings=False,
        )
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._share_of_rate)

    def run(self, on_step: OnStep) -> None:
        """Train to the end.

        Args:
            on_step: Called with each step's number, from 1, and the loss of its answers.
        """
        done = self._load() if self._state.exists() else 0
        self._model.train()
        for step, (stage, share) in enumerate(self._plan[done:], start=done + 1):
            self._model.config.memory_write_spread = self._spread * share
            on_step(step, self._step(stage))
            if step % _SAVED_EVERY == 0 or step == len(self._plan):
                self._save(step)
        self._model.config.memory_write_spread = self._spread
        self._model.eval()  # type: ignore[no-untyped-call]

    def _step(self, stage: Stage) -> float:
        length = self._model.config.segment_length
        tokens, repeated = draw_rows(
            stage.rows, stage.length, length, self._generator, introduced=stage.introduced, led=stage.led
        )
        answers = self._learn(tokens, repeated)
        if stage.local_rows:
            # What comes before the question in its segment is not in the memory yet.
            local = draw_rows(stage.local_rows, length, length, self._generator, introduced=False, led=True)
            self._learn(*local)
        if stage.prose_rows:
            assert self._prose is not None, "a stage with prose has some to draw from"
            rows = draw_prose(self._prose, stage.prose_rows, stage.length, self._generator)
            self._model(rows, labels=rows, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return answers

    def _learn(self, tokens: Tensor, repeated: Tensor) -> float:
        """Add the gradients of some rows; return the loss of their answers."""
        of_answers, of_repeated, of_text = losses_of(self._model, tokens, repeated)
        (of_answers + of_repeated + _TEXT_WEIGHT * of_text).backward()
        return float(of_answers.detach())

    def _share_of_rate(self, step: int) -> float:
        steps = len(self._plan)
        return min((step + 1) / _WARMUP_STEPS, 1, (steps - step) / (_RATE_FALLS * steps))

    def _save(self, step: int) -> None:
        parts = {"model": self._model, "optimizer": self._optimizer, "schedule": self._schedule}
        state = {name: part.state_dict() for name, part in parts.items()}  # type: ignore[attr-defined]
        # The spread is drawn from torch's own source.
        chance = {"rows": self._generator.get_state(), "torch": torch.get_rng_state()}
        incoming = self._state.with_suffix(".incoming")
        self._state.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**state, **chance, "step": step}, incoming)
        incoming.replace(self._state)

    def _load(self) -> int:
        """Go on from the state on disk; return the number of steps that are done."""
        state = torch.load(self._state, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._generator.set_state(state["rows"])
        torch.set_rng_state(state["torch"])
        return int(state["step"])


def draw_prose(prose: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Return pieces of prose from anywhere, `(count, length)`."""
    begins = torch.randint(len(prose) - length + 1, (count, 1), generator=generator)
    return prose[begins + torch.arange(length)]
