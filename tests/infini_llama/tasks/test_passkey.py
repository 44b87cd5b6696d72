from __future__ import annotations

import pytest
import torch

from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.tasks.passkey import PasskeyTask, passkey_accuracy
from tests.infini_llama.conftest import MakeModel

TASK = PasskeyTask(tokenizer=byte_tokenizer(), digits=4)


@pytest.mark.parametrize("length", [300, 1000, 5000])
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_prompt_fills_its_length_with_whole_sentences_around_the_passkey(length: int, depth: float) -> None:
    ((prompt, key),) = TASK.prompts(1, length, depth)
    text = TASK.tokenizer.decode(prompt)
    sentence = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
    assert length - len(sentence) < len(prompt) <= length
    before, _, after = text.partition(f"The pass key is {key}. Remember it. {key} is the pass key.\n")
    times = text.count(sentence)
    assert (before.count(sentence), after.count(sentence)) == (round(times * depth), times - round(times * depth))
    assert after.endswith("What is the pass key? The pass key is")


def test_the_same_seed_hides_the_same_passkeys() -> None:
    def keys(seed: int) -> list[str]:
        return [key for _, key in TASK.prompts(5, 400, 0.5, seed)]

    assert keys(0) == keys(0)
    assert keys(0) != keys(1)


def test_a_length_without_room_for_the_question_is_refused() -> None:
    with pytest.raises(ValueError, match="found room for 40"):
        next(TASK.prompts(1, 40, 0.5))


def test_an_answer_counts_when_all_its_digits_are_right(make_model: MakeModel) -> None:
    """A model that says 7 whatever it is asked is right where the passkey is 7."""
    task = PasskeyTask(tokenizer=byte_tokenizer(), digits=1)
    (seven,) = task.tokenizer("7")["input_ids"]
    model = make_model(vocab_size=len(task.tokenizer), segment_length=64)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight.zero_()[seven] = 1.0
    keys = [key for _, key in task.prompts(40, 5 * 64, 0.5)]
    assert 0 < keys.count("7") < 40
    assert passkey_accuracy(model, task, segments=5, depth=0.5, prompts=40) == keys.count("7") / 40
