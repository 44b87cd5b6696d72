"""What a user's program loads, by the calls that it makes: ``python -m tests.matrix.loads``.

Each case is a function, so that many share one process, which takes seconds to import torch. The outcome is printed as
a JSON object: case to None, or to what went wrong. `tests.matrix.test_matrix` makes a test of each.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable

TEXT = "the quick fox"
CASES: dict[str, Callable[[], None]] = {}


def case(function: Callable[[], None]) -> Callable[[], None]:
    """Register a load."""
    CASES[function.__name__] = function
    return function


def same_weights(one: object, other: object) -> bool:
    from torch import equal, nn

    assert isinstance(one, nn.Module) and isinstance(other, nn.Module)
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and equal(x, y) for (a, x), (b, y) in pairs)


@case
def a_fast_tokenizer() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("org/tiny")
    assert tokenizer.is_fast
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT


@case
def a_tokenizer_with_extra_chat_templates() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("org/tiny")
    messages = [{"role": "user", "content": "quick"}]
    assert sorted(tokenizer.chat_template) == ["default", "shout"]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "quick "
    assert tokenizer.apply_chat_template(messages, chat_template="shout", tokenize=False) == "QUICK "


@case
def a_sentencepiece_tokenizer() -> None:
    from transformers import AutoTokenizer

    for options in ({}, {"use_fast": False}):
        tokenizer = AutoTokenizer.from_pretrained("org/sentencepiece", **options)
        assert tokenizer.decode(tokenizer(TEXT)["input_ids"], skip_special_tokens=True).strip() == TEXT


@case
def a_tokenizer_from_a_vocabulary_alone() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("org/wordpiece")
    assert tokenizer.tokenize("The quick fox") == TEXT.split()


@case
def a_slow_tokenizer() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("org/characters", use_fast=False)
    assert not tokenizer.is_fast
    assert tokenizer("CAB")["input_ids"] == [7, 5, 6]


@case
def a_config() -> None:
    from transformers import AutoConfig

    assert AutoConfig.from_pretrained("org/sharded").hidden_size == 8


@case
def a_generation_config() -> None:
    from transformers import GenerationConfig

    assert GenerationConfig.from_pretrained("org/tiny").max_new_tokens == 3


@case
def a_model_by_its_name_alias_and_old_name() -> None:
    from transformers import AutoModelForCausalLM

    models = [AutoModelForCausalLM.from_pretrained(name) for name in ("org/tiny", "tiny", "old-tiny")]
    assert same_weights(models[0], models[1]) and same_weights(models[0], models[2])


@case
def a_model_by_tag_and_commit() -> None:
    from huggingface_hub import snapshot_download
    from transformers import AutoModelForCausalLM

    main = AutoModelForCausalLM.from_pretrained("org/tiny", revision="main")
    tagged = AutoModelForCausalLM.from_pretrained("org/tiny", revision="v1.0")
    commit = os.path.basename(snapshot_download("org/tiny", revision="v1.0"))  # noqa: PTH119
    assert len(commit) == 40
    assert same_weights(AutoModelForCausalLM.from_pretrained("org/tiny", revision=commit), tagged)
    assert not same_weights(main, tagged)


@case
def a_model_in_shards_and_as_pickle() -> None:
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained("org/tiny")
    assert same_weights(AutoModelForCausalLM.from_pretrained("org/sharded"), whole)
    assert same_weights(AutoModelForCausalLM.from_pretrained("org/pickled"), whole)


@case
def a_pipeline() -> None:
    from transformers import pipeline

    generate = pipeline("text-generation", model="org/tiny", device="cpu")
    assert generate(TEXT, max_new_tokens=2)[0]["generated_text"].startswith(TEXT)


@case
def a_processor_of_sound() -> None:
    import numpy as np
    from transformers import AutoFeatureExtractor, AutoProcessor

    processor = AutoProcessor.from_pretrained("org/sound")
    assert processor(np.zeros(16), sampling_rate=16000)["input_values"][0].shape == (16,)
    assert AutoFeatureExtractor.from_pretrained("org/sound").sampling_rate == 16000


@case
def a_processor_of_pictures_and_its_model() -> None:
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel, AutoProcessor

    processor = AutoProcessor.from_pretrained("org/pictures")
    inputs = processor(text=[TEXT], images=Image.new("RGB", (8, 8)), return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 8, 8)
    assert AutoImageProcessor.from_pretrained("org/pictures").size["height"] == 8
    with torch.no_grad():
        inputs.pop("token_type_ids", None)
        AutoModel.from_pretrained("org/pictures")(**inputs)


@case
def an_adapter_with_its_base_model() -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM

    AutoPeftModelForCausalLM.from_pretrained("org/adapter")
    base = AutoModelForCausalLM.from_pretrained("org/tiny")
    adapted = PeftModel.from_pretrained(base, "org/adapter")
    AutoModelForCausalLM.from_pretrained("org/adapter")
    with tempfile.TemporaryDirectory() as folder:
        adapted.save_pretrained(folder)


@case
def a_sentence_transformer() -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer("org/embedder", device="cpu")
    assert model.encode(TEXT).shape == (8,)


@case
def a_model_with_code_of_its_own() -> None:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained("org/custom", trust_remote_code=True)
    assert torch.equal(model(torch.ones(4)), torch.ones(4))


@case
def a_model_with_code_in_another_repo() -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    assert AutoConfig.from_pretrained("org/custom-elsewhere", trust_remote_code=True).width == 4
    model = AutoModel.from_pretrained("org/custom-elsewhere", trust_remote_code=True)
    assert torch.equal(model(torch.ones(4)), torch.ones(4))


@case
def a_dataset_by_its_name() -> None:
    from datasets import load_dataset

    assert load_dataset("org/Lines", split="train")["text"][:] == ["one", "two", "three"]


@case
def a_dataset_by_configuration() -> None:
    from datasets import load_dataset

    assert {name: len(rows) for name, rows in load_dataset("org/corpus", "en").items()} == {"train": 3, "test": 1}
    assert load_dataset("org/corpus", "de", split="train")[1] == {"id": 1, "of": "de-train"}


@case
def a_dataset_as_a_stream() -> None:
    from datasets import load_dataset

    assert [row["text"] for row in load_dataset("org/Lines", split="train", streaming=True)][-1] == "three"
    assert len(list(load_dataset("org/corpus", "de", split="train", streaming=True))) == 2


@case
def a_dataset_by_data_files() -> None:
    from datasets import load_dataset

    assert len(load_dataset("org/corpus", data_files="extra.jsonl", split="train")) == 4
    files = {"train": ["en-train.jsonl", "de-train.jsonl"], "test": "extra.jsonl"}
    chosen = load_dataset("org/corpus", data_files=files)
    assert {name: len(rows) for name, rows in chosen.items()} == {"train": 5, "test": 4}
    streamed = load_dataset("org/corpus", data_files="extra.jsonl", split="train", streaming=True)
    assert len(list(streamed)) == 4


@case
def a_dataset_that_is_mapped() -> None:
    from datasets import load_dataset

    rows = load_dataset("org/Lines", split="train").map(lambda row: {"length": len(row["text"])})
    assert rows["length"][:] == [3, 3, 5]


def main() -> None:
    """Run every case, and print what came of it."""
    outcomes: dict[str, str | None] = {}
    with contextlib.redirect_stdout(sys.stderr):
        for name, function in CASES.items():
            try:
                function()
            except Exception:
                outcomes[name] = traceback.format_exc()
            else:
                outcomes[name] = None
    print(json.dumps(outcomes))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
