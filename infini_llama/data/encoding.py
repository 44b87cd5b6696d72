"""Texts to tokens, in this process or in others.

It imports the tokenizers library and numpy only, so that a process for it starts in a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Semaphore
from typing import Any

import numpy as np
import tokenizers


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How to encode.

    Attributes:
        core: The tokenizer as `tokenizers` writes it; empty where it is written in Python.
        split_special_tokens: Whether the spelling of a special token in a text is text like any other.
        python: A tokenizer that is written in Python.
        ending: Token to put after each text that closes; None for none.
    """

    core: str
    split_special_tokens: bool
    python: Any
    ending: int | None

    @classmethod
    def of(cls, tokenizer: Any, *, ending: int | None) -> Encoding:
        """Return that of a tokenizer of transformers; special tokens that it would add are left out."""
        core = getattr(tokenizer, "backend_tokenizer", None)
        return cls(
            core=core.to_str() if core is not None else "",
            split_special_tokens=bool(tokenizer.split_special_tokens),
            python=None if core is not None else tokenizer,
            ending=ending,
        )


class Encoder:
    """Encodes texts.

    Args:
        encoding: How.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._encoding, self._core = encoding, None
        if encoding.core:
            core = tokenizers.Tokenizer.from_str(encoding.core)
            core.no_truncation()
            core.no_padding()
            core.encode_special_tokens = encoding.split_special_tokens
            self._core = core

    def encode(self, texts: Sequence[str], closes: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of all texts one after another, int32, and how many each text has.

        Args:
            texts: The texts.
            closes: Which of them the ending comes after.
        """
        if self._core is not None:
            # Not `encode_batch`, which also finds out where in the text each token is.
            ids = [found.ids for found in self._core.encode_batch_fast(texts, add_special_tokens=False)]
        else:
            # No `verbose` warning: a document may be longer than the context of the tokenizer's original model.
            options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
            ids = self._encoding.python(list(texts), **options)["input_ids"]
        if self._encoding.ending is not None:
            for found, ends in zip(ids, closes, strict=True):
                if ends:
                    found.append(self._encoding.ending)
        parts = [np.array(found, np.int32) for found in ids]
        lengths = np.array([len(part) for part in parts], np.int64)
        return np.concatenate(parts) if parts else np.zeros(0, np.int32), lengths


_encoder: Encoder | None = None


def begin(encoding: Encoding, may_begin: Semaphore) -> None:
    """Make a process ready for `encode`. It uses one core: there is a process for each.

    Args:
        encoding: How texts become tokens.
        may_begin: Released for each process once all are started; until then no task is taken.
    """
    global _encoder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _encoder = Encoder(encoding)
    may_begin.acquire()


def _end_with_parent() -> None:
    """End this process once its parent has: one that is killed cannot tell it, and it would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def encode(texts: Sequence[str], closes: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Encode in a process that has begun."""
    assert _encoder is not None
    return _encoder.encode(texts, closes)
