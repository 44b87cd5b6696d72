"""Passkey retrieval: does a language model find a number that it read a long way back?

As in arXiv 2404.07143 and arXiv 2305.16300: a text that says the same few sentences again and again hides a passkey
somewhere, and asks for it at the end. The model goes on with the text; an answer counts when all digits are right.

Rule book:

* a prompt has a length in segments, so that what local attention can and cannot reach is known. It is filled up with
  whole sentences to at most that many tokens; the passkey lies as far into the filler as `depth` says;
* prompts are read as a stream, in memory that does not grow with their length;
* prompts depend on a seed and the tokenizer alone.

A model that has seen no such text in training, or a small one, finds nothing: 0 is no fault of the command.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.tasks.generate import stream

_TASK = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there.\n"
)
_FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
_KEY = "The pass key is {key}. Remember it. {key} is the pass key.\n"
_QUESTION = "What is the pass key? The pass key is"


@dataclass(frozen=True, kw_only=True)
class PasskeyTask:
    """Prompts for one tokenizer.

    Attributes:
        tokenizer: The model's own.
        digits: Of a passkey.
    """

    tokenizer: Any
    digits: int = 5

    def prompts(self, count: int, length: int, depth: float, seed: int = 0) -> Iterator[tuple[Tensor, str]]:
        """Yield prompts of at most `length` tokens, and their passkeys.

        Args:
            count: How many.
            length: In tokens.
            depth: Where in the filler the passkey lies: 0 before all of it, 1 after.
            seed: Of the passkeys.

        Raises:
            ValueError: Not even a prompt without filler is so short.
        """
        chance = torch.Generator().manual_seed(seed)
        for _ in range(count):
            key = "".join(map(str, torch.randint(10, (self.digits,), generator=chance).tolist()))
            yield torch.tensor(self._fit_prompt(key, length, depth)), key

    def _fit_prompt(self, key: str, length: int, depth: float) -> list[int]:
        """Return the tokens of the longest prompt that has at most `length`."""
        shortest = self._ids(self._text(key, 0, depth))
        if len(shortest) > length:
            raise ValueError(f"task, passkey and question take {len(shortest)} tokens, found room for {length}")
        per_sentence = len(self._ids(_FILLER * 2)) - len(self._ids(_FILLER))
        # An estimate: a tokenizer may join letters across sentences.
        times = (length - len(shortest)) // per_sentence
        while times and len(self._ids(self._text(key, times, depth))) > length:
            times -= 1
        while len(self._ids(self._text(key, times + 1, depth))) <= length:
            times += 1
        return self._ids(self._text(key, times, depth))

    @staticmethod
    def _text(key: str, times: int, depth: float) -> str:
        before = round(times * depth)
        return _TASK + _FILLER * before + _KEY.format(key=key) + _FILLER * (times - before) + _QUESTION

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def passkey_accuracy(
    model: InfiniLlamaForCausalLM,
    task: PasskeyTask,
    *,
    segments: int,
    depth: float,
    prompts: int = 10,
    seed: int = 0,
) -> float:
    """Return the share of passkeys that the model names, at `segments` segments.

    Args:
        model: Is put into evaluation mode.
        task: For the model's tokenizer.
        segments: Length of the prompts.
        depth: Where the passkey lies, 0 to 1.
        prompts: How many to try.
        seed: Of the passkeys.

    Raises:
        ValueError: A prompt does not fit into so few segments.
    """
    model.eval()  # type: ignore[no-untyped-call]
    length, found = segments * model.config.segment_length, 0
    for prompt, key in task.prompts(prompts, length, depth, seed):
        # At least one token per digit is enough, with one for the space before.
        said = stream(model, prompt, max_new_tokens=task.digits + 1)
        found += str(task.tokenizer.decode(list(said))).strip().startswith(key)
    return found / prompts
