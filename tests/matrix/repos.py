"""A folder of tiny repos, one of each thing that people load: ``python -m tests.matrix.repos DIR``.

Random weights and vocabularies of a few dozen words, written by the libraries themselves, as a repo's author would.
A process of its own, since torch and transformers take seconds to import.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

TEXT = "the quick brown fox jumps over the lazy dog"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", *sorted(set(TEXT.split()))]

CONFIGURATION = """
from transformers import PretrainedConfig


class CustomConfig(PretrainedConfig):
    model_type = "custom-of-org"

    def __init__(self, width=4, **options):
        self.width = width
        super().__init__(**options)
"""
MODELING = """
import torch
from transformers import PreTrainedModel

from .configuration_custom import CustomConfig


class CustomModel(PreTrainedModel):
    config_class = CustomConfig

    def __init__(self, config):
        super().__init__(config)
        self.linear = torch.nn.Linear(config.width, config.width)
        self.post_init()

    def forward(self, x):
        return self.linear(x)
"""


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer that knows `TEXT`."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", bos_token="<s>", eos_token="</s>"
    )


def llama() -> LlamaForCausalLM:
    """A tiny model with random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=WORDS.index("<s>"),
            eos_token_id=WORDS.index("</s>"),
            pad_token_id=0,
        )
    )


def causal_models(root: Path) -> None:
    """`org/tiny` with everything beside it, its shards, its pickle, and an adapter of it."""
    model, tokenizer = llama(), word_tokenizer()
    model.generation_config = GenerationConfig(max_new_tokens=3, bos_token_id=5, eos_token_id=6, pad_token_id=0)
    model.save_pretrained(root / "org/tiny")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(root / "org/tiny")
    extra = root / "org/tiny/additional_chat_templates"
    extra.mkdir()
    (extra / "shout.jinja").write_text("{% for m in messages %}{{ m['content'] | upper }} {% endfor %}")

    model.save_pretrained(root / "org/sharded", max_shard_size="2KB")
    tokenizer.save_pretrained(root / "org/sharded")

    model.save_pretrained(root / "org/pickled")
    (root / "org/pickled/model.safetensors").unlink()
    torch.save(model.state_dict(), root / "org/pickled/pytorch_model.bin")

    shutil.copytree(root / "org/tiny", root / "_branches/tiny-dev")
    (root / "_branches/tiny-dev/model.safetensors").unlink()
    llama().save_pretrained(root / "_branches/tiny-dev")

    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = "org/tiny"
    # Otherwise peft asks the Hub whether the base model's vocabulary has been changed.
    adapted.save_pretrained(root / "org/adapter", save_embedding_layers=False)


def tokenizers(root: Path) -> None:
    """A sentencepiece model alone, a word piece vocabulary alone, each as older repos have them."""
    folder = root / "org/sentencepiece"
    folder.mkdir(parents=True)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, "a second sentence for the trainer"] * 20),
        model_writer=written,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": False})
    write_json(folder / "config.json", {"model_type": "llama"})

    folder = root / "org/wordpiece"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    write_json(folder / "config.json", {"model_type": "bert"})

    folder = root / "org/characters"
    folder.mkdir()
    characters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABC"]
    write_json(folder / "vocab.json", {character: number for number, character in enumerate(characters)})
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    write_json(folder / "config.json", {"model_type": "wav2vec2"})


def processors(root: Path) -> None:
    """One for sound, without weights; one for pictures, with a model."""
    characters = Wav2Vec2CTCTokenizer(str(root / "org/characters/vocab.json"))
    sound = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), characters)
    sound.save_pretrained(root / "org/sound")
    write_json(root / "org/sound/config.json", {"model_type": "wav2vec2"})

    folder = root / "org/pictures"
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    CLIPModel(
        CLIPConfig(
            text_config={**tower, "vocab_size": len(WORDS)},
            vision_config={**tower, "image_size": 8, "patch_size": 4},
            projection_dim=4,
        )
    ).save_pretrained(folder)
    size = {"height": 8, "width": 8}
    CLIPProcessor(
        CLIPImageProcessor(do_resize=False, do_center_crop=False, size=size, crop_size=size), word_tokenizer()
    ).save_pretrained(folder)


def embedder(root: Path) -> None:
    """A sentence-transformers model: a transformer, a pooling, a normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    plain = root / "_parts/bert"
    BertModel(
        BertConfig(
            vocab_size=len(WORDS), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
    ).save_pretrained(plain)
    (plain / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer.from_pretrained(plain).save_pretrained(plain)
    transformer = modules.Transformer(str(plain))
    parts = [transformer, modules.Pooling(8), modules.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(root / "org/embedder"))


def remote_code(root: Path) -> None:
    """Weights with their own Python, weights whose Python is in another repo, and that repo."""
    for repo, prefix in (("custom", ""), ("custom-elsewhere", "org/code--")):
        folder = root / "org" / repo
        folder.mkdir()
        write_json(
            folder / "config.json",
            {
                "model_type": "custom-of-org",
                "architectures": ["CustomModel"],
                "width": 4,
                "auto_map": {
                    "AutoConfig": f"{prefix}configuration_custom.CustomConfig",
                    "AutoModel": f"{prefix}modeling_custom.CustomModel",
                },
            },
        )
        from safetensors.torch import save_file

        weights = {"linear.weight": torch.eye(4), "linear.bias": torch.zeros(4)}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for repo in ("custom", "code"):
        folder = root / "org" / repo
        folder.mkdir(exist_ok=True)
        (folder / "configuration_custom.py").write_text(CONFIGURATION)
        (folder / "modeling_custom.py").write_text(MODELING)


def datasets(root: Path) -> None:
    """Plain files, files with configurations in the card, and files that are chosen by `data_files`."""
    lines = root / "datasets/org/Lines"
    lines.mkdir(parents=True)
    (lines / "train.txt").write_text("one\ntwo\nthree\n")
    corpus = root / "datasets/org/corpus"
    corpus.mkdir()
    for name, rows in {"en-train": 3, "en-test": 1, "de-train": 2, "extra": 4}.items():
        (corpus / f"{name}.jsonl").write_text("".join(f'{{"id": {n}, "of": "{name}"}}\n' for n in range(rows)))
    (corpus / "README.md").write_text(
        """---
configs:
- config_name: en
  default: true
  data_files: [{split: train, path: en-train.jsonl}, {split: test, path: en-test.jsonl}]
- config_name: de
  data_files: [{split: train, path: de-train.jsonl}]
---
"""
    )


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def build(root: Path) -> None:
    """Write all repos below `root`."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    (root / "org").mkdir(parents=True)
    for part in (causal_models, tokenizers, processors, embedder, remote_code, datasets):
        part(root)
    (root / "hub.yaml").write_text(
        """version: 1
renames: {old-tiny: org/tiny}
branches:
  org/tiny: {dev: _branches/tiny-dev}
tags:
  org/tiny: {v1.0: dev}
"""
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]))
