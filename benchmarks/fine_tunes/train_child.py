"""Fine-tune all-MiniLM-L6-v2 a little, on CPython's documentation: ``train_child MODEL STEPS RATE FOLDER``.

The loss is the usual one for embeddings: of a batch of texts, each is to be nearest to the text that follows it. AdamW
with torch's defaults; the learning rate falls to zero on a line, as that of transformers' Trainer does. Weights before
and after are written to FOLDER as fp32 and, rounded, as bf16.
"""

from __future__ import annotations

import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_BATCH = 8
_WORDS = 16
# As sentence-transformers scales cosines.
_SCALE = 20.0


def main(model_folder: str, steps: str, rate: str, out: str) -> None:
    """Train, and write both."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModel.from_pretrained(model_folder, dtype=torch.float32).train()
    _save(model, Path(out), "base")
    optimizer = torch.optim.AdamW(model.parameters(), lr=float(rate))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, int(steps))
    pairs = _list_pairs(int(steps))
    for number in range(int(steps)):
        ours, theirs = zip(*pairs[number * _BATCH : (number + 1) * _BATCH], strict=True)
        scores = _SCALE * _embed(model, tokenizer, ours) @ _embed(model, tokenizer, theirs).T
        torch.nn.functional.cross_entropy(scores, torch.arange(_BATCH)).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    _save(model, Path(out), "tuned")


def _list_pairs(steps: int) -> list[tuple[str, str]]:
    words = " ".join(topics[name] for name in sorted(topics)).split()
    texts = [" ".join(words[start : start + _WORDS]) for start in range(0, len(words), _WORDS)]
    pairs = list(zip(texts[::2], texts[1::2], strict=False))
    return pairs * (-(-steps * _BATCH // len(pairs)))


def _embed(model: Any, tokenizer: Any, texts: tuple[str, ...]) -> torch.Tensor:
    """Return unit vectors (B, D): the means over the tokens."""
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=32, return_tensors="pt")
    mask = batch["attention_mask"][..., None]
    hidden = model(**batch).last_hidden_state
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def _save(model: Any, folder: Path, name: str) -> None:
    for spelling, dtype in DTYPES.items():
        tensors = {
            key: (value.to(dtype) if value.is_floating_point() else value).contiguous().clone()
            for key, value in model.state_dict().items()
        }
        save_file(tensors, folder / f"{name}-{spelling}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
