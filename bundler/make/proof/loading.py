"""Prove that tokenizers, processors, configs and models load; runs only in the proof's child process.

The checks make the same calls as a user's program, `Auto….from_pretrained(name)`, with the canonical name and with each
alias. If a check cannot be made, a note says so: for a quantised model, remote code, or an architecture that this
transformers does not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bundler.make.proof.code import prove_code
from bundler.make.proof.entries import (
    ContradictionFault,
    LoadedEntry,
    LoadingFault,
    Outcome,
    try_call,
)
from bundler.make.proof.parts.adapters import prove_adapter
from bundler.make.proof.parts.modules import prove_modules
from bundler.make.proof.parts.pipelines import prove_parts, prove_pipeline
from bundler.make.proof.weights import prove_weights
from bundler.plan.names import DEFAULT_REVISION
from bundler.text.wording import counted

# Words, digits, an accent, a script without spaces, and a character beyond U+FFFF.
SAMPLE = "The 3 quick brown foxes' café: 東京 🦊\n"

_TOKENIZER_FILES = frozenset(
    {
        "merges.txt",
        "sentencepiece.bpe.model",
        "special_tokens_map.json",
        "spiece.model",
        "tekken.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)


_PROCESSOR_FILES = frozenset({"preprocessor_config.json", "processor_config.json"})


def prove(entry: LoadedEntry, outcome: Outcome) -> None:
    """Load everything that the files of a tokenizer or model entry are for.

    Raises:
        LoadingFault: Something that should load does not.
        ImportError: A package that the entry needs is not installed.
    """
    if entry.repo.has_only_code:
        outcome.proven.append(
            f"has only Python code for other entries ({counted(len(entry.paths), 'file')}), which load it"
        )
        return
    _prove_pin(entry, outcome)
    config = entry.json("config.json")
    is_model = entry.repo.kind == "model"
    if config.get("model_type"):
        _prove_config(entry, outcome)
    elif config:
        outcome.notes.append("config.json names no model_type, so it is not a transformers config; not loaded")
    prove_code(entry, outcome)
    _prove_processor(entry, outcome)
    # An entry for sound or images may have a feature extractor and no tokenizer.
    if entry.paths & _TOKENIZER_FILES:
        _prove_tokenizer(entry, outcome)
    elif not (is_model or entry.paths & _PROCESSOR_FILES):
        _try_tokenizer(entry, outcome)
    if is_model:
        # These may know better than a library why weights do not load.
        prove_adapter(entry, outcome)
        prove_parts(entry, outcome)
        prove_weights(entry, config, outcome)
        prove_modules(entry, outcome)
        prove_pipeline(entry, config, outcome)


def _prove_pin(entry: LoadedEntry, outcome: Outcome) -> None:
    """Check that code which names no revision finds an entry that is pinned by commit."""
    if DEFAULT_REVISION not in entry.repo.refs:
        return
    from huggingface_hub import snapshot_download

    for name in entry.names:
        call = f"snapshot_download({name!r})"
        found = Path(try_call(call, snapshot_download, name, local_files_only=True))
        if not found.samefile(entry.snapshot):
            raise LoadingFault(f"{call} finds commit {found.name}, not {entry.repo.commit}")
    outcome.proven.append(f"code that names no revision finds commit {entry.repo.commit[:12]}")


def _prove_processor(entry: LoadedEntry, outcome: Outcome) -> None:
    if not entry.paths & _PROCESSOR_FILES:
        return
    from transformers import AutoProcessor

    for name in entry.names:
        try:
            try_call(
                f"AutoProcessor.from_pretrained({name!r})", AutoProcessor.from_pretrained, name, **entry.options
            )
        except ImportError as error:
            # Pillow, torchvision, librosa: this machine need not have all packages of the training machine.
            outcome.notes.append(f"processor not loaded: {' '.join(str(error).split())[:200]}")
            return
    outcome.proven.append(f"processor loads as {' and '.join(entry.names)}")


def _prove_config(entry: LoadedEntry, outcome: Outcome) -> None:
    from transformers import AutoConfig, GenerationConfig

    for name in entry.names:
        try_call(f"AutoConfig.from_pretrained({name!r})", AutoConfig.from_pretrained, name, **entry.options)
        if "generation_config.json" in entry.paths:
            call = f"GenerationConfig.from_pretrained({name!r})"
            try_call(call, GenerationConfig.from_pretrained, name, revision=entry.repo.revision)
    outcome.proven.append(f"config loads as {' and '.join(entry.names)}")


def _try_tokenizer(entry: LoadedEntry, outcome: Outcome) -> None:
    """Load a tokenizer where no file is one's: some need none, and patterns may ask for a config alone.

    Without patterns the choice of files has refused such a repo.
    """
    try:
        _prove_tokenizer(entry, outcome)
    except (LoadingFault, ImportError):
        outcome.notes.append(
            f"it has no file of a tokenizer, and none loads: {counted(len(entry.paths), 'file')} carried"
        )


def _prove_tokenizer(entry: LoadedEntry, outcome: Outcome) -> None:
    from transformers import AutoTokenizer

    encoded: dict[str, list[int]] = {}
    for name in entry.names:
        call = f"AutoTokenizer.from_pretrained({name!r})"
        tokenizer = try_call(call, AutoTokenizer.from_pretrained, name, **entry.options)
        encoded[name] = try_call(f"{call}, then encoding and decoding", _encode_and_decode, tokenizer)
    first, *others = encoded.values()
    if any(ids != first for ids in others):
        raise ContradictionFault(
            f"the names {' and '.join(encoded)} load tokenizers that encode {SAMPLE!r} differently"
        )
    outcome.proven.append(f"tokenizer encodes and decodes ({len(first)} tokens) as {' and '.join(entry.names)}")


def _encode_and_decode(tokenizer: Any) -> list[int]:
    """Encode and decode a text; return its token ids."""
    # A tokenizer may load without its vocabulary file, with special tokens only.
    ordinary = len(tokenizer) - len(set(tokenizer.all_special_ids))
    if ordinary <= 0:
        raise LoadingFault(
            f"{type(tokenizer).__name__} loads with {len(tokenizer)} special tokens and no vocabulary"
        )
    unknown = tokenizer.unk_token_id
    for text in (
        SAMPLE,
        tokenizer.decode(range(len(tokenizer) // 2, min(len(tokenizer) // 2 + 20, len(tokenizer)))),
    ):
        ids = list(tokenizer(text)["input_ids"])
        content = [token for token in ids if token not in tokenizer.all_special_ids]
        # A special vocabulary, such as amino acids, has no token for SAMPLE, but has tokens for its own entries.
        if content and any(token != unknown for token in content) and tokenizer.decode(content).strip():
            return ids
    raise LoadingFault(
        f"{type(tokenizer).__name__} has {len(tokenizer)} tokens, and encodes a text with none of them"
    )
