"""The model of the demo that finds passkeys: it is left so that it can be asked."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.train.passkey import short
from benchmarks.train.passkey.training import Stage
from infini_llama import InfiniLlamaForCausalLM
from infini_llama.tasks.passkey import PasskeyTask, passkey_accuracy


def test_a_model_is_left_that_can_be_asked(tmp_path: Path) -> None:
    short.train(tmp_path / "model", (Stage(length=128, rows=2, steps=2, introduced=False),))
    model = InfiniLlamaForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert passkey_accuracy(model, PasskeyTask(tokenizer=tokenizer), segments=5, depth=0.0, prompts=1) == 0.0
