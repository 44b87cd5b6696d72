"""Passkey retrieval: test whether a language model finds a number that it read long before.

The task is that of arXiv 2404.07143 and arXiv 2305.16300: a text repeats a few sentences, hides a passkey somewhere,
and asks for it at the end. The model continues the text; its answer is right if all digits are right.

Rule book:

* the length of a prompt is given in segments, so that it is known what local attention can see. Whole sentences of
  filler are added up to that length; `depth` gives the place of the passkey in the filler;
* prompts are read as a stream, so RAM use does not grow with their length;
* prompts depend only on a seed and the tokenizer.

A small model, or one that has not seen such text in training, finds nothing: a result of 0 is not an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.tasks.generate import stream

TASK = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there.\n"
)
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
KEY = "The pass key is {key}. Remember it. {key} is the pass key.\n"
QUESTION = "What is the pass key? The pass key is"


@dataclass(frozen=True, kw_only=True)
class PasskeyTask:
    """Makes prompts for a tokenizer.

    Attributes:
        tokenizer: The model's tokenizer.
        digits: Number of digits of a passkey.
    """

    tokenizer: Any
    digits: int = 5

    def prompts(self, count: int, length: int, depth: float, seed: int = 0) -> Iterator[tuple[Tensor, str]]:
        """Yield prompts of at most `length` tokens, and their passkeys.

        Args:
            count: Number of prompts.
            length: Their greatest length in tokens.
            depth: Place of the passkey in the filler, from 0 (before it) to 1 (after it).
            seed: Seed of the passkeys.

        Raises:
            ValueError: Even a prompt without filler is longer.
        """
        chance = torch.Generator().manual_seed(seed)
        for _ in range(count):
            key = "".join(map(str, torch.randint(10, (self.digits,), generator=chance).tolist()))
            yield torch.tensor(self._fit_prompt(key, length, depth)), key

    def _fit_prompt(self, key: str, length: int, depth: float) -> list[int]:
        """Return the tokens of the longest prompt of at most `length` tokens."""
        shortest = self._ids(self._text(key, 0, depth))
        if len(shortest) > length:
            raise ValueError(f"task, passkey and question take {len(shortest)} tokens, found room for {length}")
        per_sentence = len(self._ids(FILLER * 2)) - len(self._ids(FILLER))
        # Only an estimate: a tokenizer may join letters across sentences.
        times = (length - len(shortest)) // per_sentence
        while times and len(self._ids(self._text(key, times, depth))) > length:
            times -= 1
        while len(self._ids(self._text(key, times + 1, depth))) <= length:
            times += 1
        return self._ids(self._text(key, times, depth))

    @staticmethod
    def _text(key: str, times: int, depth: float) -> str:
        before = round(times * depth)
        return TASK + FILLER * before + KEY.format(key=key) + FILLER * (times - before) + QUESTION

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
    """Return the share of passkeys that the model answers right, in prompts of `segments` segments.

    Args:
        model: The model; it is put into evaluation mode.
        task: The task, with the model's tokenizer.
        segments: Length of the prompts in segments.
        depth: Place of the passkey, from 0 to 1.
        prompts: Number of prompts to try.
        seed: Seed of the passkeys.

    Raises:
        ValueError: A prompt does not fit into so few segments.
    """
    model.eval()  # type: ignore[no-untyped-call]
    length, found = segments * model.config.segment_length, 0
    for prompt, key in task.prompts(prompts, length, depth, seed):
        # One token per digit is enough, and one for the space before.
        said = stream(model, prompt, max_new_tokens=task.digits + 1)
        found += str(task.tokenizer.decode(list(said))).strip().startswith(key)
    return found / prompts
