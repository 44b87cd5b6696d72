"""Generate text as a stream: prompt and answer may have any length, and RAM use does not grow.

transformers' `generate` works too, and has beams, penalties and batches; but it keeps every token, and reads the prompt
in one pass. Here the prompt is read a few segments at a time, and generated tokens are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from infini_llama.model.cache import InfiniCache
from infini_llama.model.modeling import InfiniLlamaForCausalLM

_SEGMENTS_AT_ONCE = 4
# Tokens that a character can take: it has at most four bytes in UTF-8, and a token has at least one.
_LONGEST_CHARACTER = 4


@torch.no_grad()
def stream(
    model: InfiniLlamaForCausalLM,
    prompt: Tensor,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    stop: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Yield the generated tokens one by one.

    Args:
        model: The model, in evaluation mode.
        prompt: `(T,)`, at least one token.
        max_new_tokens: The largest number of tokens to yield.
        temperature: Divides the logits before sampling; 0 always takes the likeliest token.
        stop: Token that ends the stream; it is not yielded.
        generator: Source of random numbers; None for torch's default.

    Raises:
        ValueError: The prompt is empty.
    """
    if not len(prompt):
        raise ValueError("expected a prompt of at least one token, found none")
    cache = InfiniCache(model.config.num_hidden_layers)
    for part in prompt.split(_SEGMENTS_AT_ONCE * model.config.segment_length):
        logits = model(part[None], past_key_values=cache, logits_to_keep=1).logits
    for remaining in range(max_new_tokens, 0, -1):
        token = _choose(logits[0, -1].float(), temperature, generator)
        if token == stop:
            return
        yield token
        if remaining > 1:
            logits = model(prompt.new_tensor([[token]]), past_key_values=cache).logits


def decode_stream(tokens: Iterable[int], tokenizer: Any) -> Iterator[str]:
    """Yield the text of a stream of tokens, in pieces of whole characters; joined they are the text of all tokens."""
    # Decode together with the tokens before: some tokenizers leave out the space of the first word.
    context: list[int] = []
    pending: list[int] = []
    for token in tokens:
        pending.append(token)
        piece = _text_after(context, pending, tokenizer)
        # A character of several tokens decodes to the replacement character until it is complete.
        if not piece.endswith("\N{REPLACEMENT CHARACTER}") or len(pending) > _LONGEST_CHARACTER:
            yield piece
            context, pending = pending, []
    if pending:
        yield _text_after(context, pending, tokenizer)


def _text_after(context: list[int], tokens: list[int], tokenizer: Any) -> str:
    before: str = tokenizer.decode(context)
    both: str = tokenizer.decode(context + tokens)
    return both[len(before) :]


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(logits.argmax())
    # From the likeliest down: the least temperature then leaves that one, where logits would overflow.
    scaled = (logits.double() - logits.max()) / temperature
    return int(torch.multinomial(torch.softmax(scaled, dim=-1), 1, generator=generator))
