from __future__ import annotations

from itertools import islice

import pytest
import torch

from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.tasks.generate import decode_stream, stream
from tests.infini_llama.conftest import MakeModel


@pytest.mark.parametrize("length", [1, 8, 29, 80])
def test_a_stream_says_what_generate_says(make_model: MakeModel, length: int) -> None:
    model = make_model()
    prompt = torch.randint(1, 61, (length,), generator=torch.Generator().manual_seed(2))
    expected = model.generate(prompt[None], max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert list(stream(model, prompt, max_new_tokens=20)) == expected[0, length:].tolist()


def test_a_stream_ends_before_the_token_that_stops_it(make_model: MakeModel) -> None:
    model, prompt = make_model(), torch.tensor([5, 6, 7])
    said = list(stream(model, prompt, max_new_tokens=20))
    first = said.index(said[4])
    assert list(stream(model, prompt, max_new_tokens=20, stop=said[4])) == said[:first]


def test_the_same_seed_draws_the_same_tokens(make_model: MakeModel) -> None:
    model, prompt = make_model(), torch.tensor([5, 6, 7])

    def drawn(seed: int) -> list[int]:
        chance = torch.Generator().manual_seed(seed)
        return list(stream(model, prompt, max_new_tokens=20, temperature=2.0, generator=chance))

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_the_least_temperature_takes_the_likeliest_token(make_model: MakeModel) -> None:
    model, prompt = make_model(), torch.tensor([5, 6, 7])
    cold, coldest = (list(stream(model, prompt, max_new_tokens=20, temperature=t)) for t in (0, 5e-324))
    assert cold == coldest


def test_tokens_are_given_away_as_they_come(make_model: MakeModel) -> None:
    """An endless stream would do: nothing waits for its end."""
    tokens = stream(make_model(), torch.tensor([5]), max_new_tokens=10**12)
    assert len(list(islice(tokens, 30))) == 30


def test_an_empty_prompt_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        next(stream(make_model(), torch.tensor([], dtype=torch.long), max_new_tokens=1))


def test_a_character_of_several_tokens_comes_whole() -> None:
    tokenizer, text = byte_tokenizer(), "aé€😀 b"
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert list(decode_stream(tokens, tokenizer)) == list(text)


def test_a_character_that_never_ends_is_shown_at_last() -> None:
    tokenizer = byte_tokenizer()
    tokens = tokenizer("a😀")["input_ids"][:-1]
    assert "".join(decode_stream(tokens, tokenizer)) == tokenizer.decode(tokens)
