"""What "it loads" means for a tokenizer, a processor, a config and a model; runs in the proof's child process only.

Everything goes through the calls that a user's program makes, `Auto….from_pretrained(name)`, by the canonical name
and by each alias. A check that cannot be made is a note, never a pass: a quantised model, remote code, an
architecture that this transformers does not know.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from bundler.hub.selection.companions import ADAPTER_CONFIG, base_model
from bundler.hub.selection.remote_code import CONFIG_FILES, class_names
from bundler.make.proof.entries import (
    ContradictionFault,
    LoadedEntry,
    LoadingFault,
    Outcome,
    tried,
)
from bundler.make.proof.weights import prove_weights
from bundler.text.wording import counted

# Words, figures, an accent, a script without spaces, and a symbol beyond the basic plane.
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
    """Load a tokenizer or model entry in every way that its files promise.

    Raises:
        LoadingFault: Something that should load does not.
        ImportError: A package that the entry needs is not installed.
    """
    if _is_code_alone(entry):
        outcome.proven.append(
            f"holds Python for other entries ({counted(len(entry.paths), 'file')}); these load it"
        )
        return
    config = entry.json("config.json")
    is_model = entry.repo.kind == "model"
    if config.get("model_type"):
        _prove_config(entry, outcome)
    elif config:
        outcome.notes.append("config.json names no model_type, so it is not a transformers config; not loaded")
    _prove_code(entry, outcome)
    _prove_processor(entry, outcome)
    # A feature extractor without a tokenizer is a whole entry, as for sound and pictures alone.
    if entry.paths & _TOKENIZER_FILES or not (is_model or entry.paths & _PROCESSOR_FILES):
        _prove_tokenizer(entry, outcome)
    if is_model:
        _prove_modules(entry, outcome)
        _prove_adapter(entry, outcome)
        prove_weights(entry, config, outcome)


def _is_code_alone(entry: LoadedEntry) -> bool:
    """Tell whether an entry is there for its Python, which configurations in other repositories name."""
    suffixes = {PurePosixPath(path).suffix for path in entry.paths}
    return entry.repo.trust_remote_code and ".py" in suffixes and suffixes <= {".py", ".md", "", ".txt"}


def _prove_code(entry: LoadedEntry, outcome: Outcome) -> None:
    """Import every class that the entry's configurations name, from this repository or another."""
    if not entry.repo.trust_remote_code:
        return
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    classes = sorted({name for path in CONFIG_FILES for name in class_names(entry.json(path))})
    loaded = 0
    for reference in classes:
        try:
            tried(
                f"importing {reference}",
                get_class_from_dynamic_module,
                reference,
                entry.repo.repo_id,
                revision=entry.repo.revision,
            )
        except ImportError as error:
            # Such as a package for GPUs that this machine has no use for.
            outcome.notes.append(f"{reference} not imported: {' '.join(str(error).split())[:200]}")
        else:
            loaded += 1
    if loaded:
        outcome.proven.append(f"its own Python is imported ({loaded} of {len(classes)} classes)")


def _prove_processor(entry: LoadedEntry, outcome: Outcome) -> None:
    if not entry.paths & _PROCESSOR_FILES:
        return
    from transformers import AutoProcessor

    for name in entry.names:
        try:
            tried(f"AutoProcessor.from_pretrained({name!r})", AutoProcessor.from_pretrained, name, **entry.options)
        except ImportError as error:
            # Pillow, torchvision, librosa: what the training machine has is not what this one has.
            outcome.notes.append(f"processor not loaded: {' '.join(str(error).split())[:200]}")
            return
    outcome.proven.append(f"processor loads as {' and '.join(entry.names)}")


def _prove_adapter(entry: LoadedEntry, outcome: Outcome) -> None:
    """Look for the base model of an adapter, which may also be in another bundle."""
    if ADAPTER_CONFIG not in entry.paths:
        return
    base = base_model((entry.snapshot / ADAPTER_CONFIG).read_bytes())
    if base is None:
        return
    from transformers import AutoConfig

    try:
        tried(f"AutoConfig.from_pretrained({base!r})", AutoConfig.from_pretrained, base)
    except LoadingFault:
        outcome.notes.append(f"its base model {base} is not in this bundle; the adapter needs it to load")
    else:
        outcome.proven.append(f"its base model {base} is in the bundle")


def _prove_config(entry: LoadedEntry, outcome: Outcome) -> None:
    from transformers import AutoConfig, GenerationConfig

    for name in entry.names:
        tried(f"AutoConfig.from_pretrained({name!r})", AutoConfig.from_pretrained, name, **entry.options)
        if "generation_config.json" in entry.paths:
            call = f"GenerationConfig.from_pretrained({name!r})"
            tried(call, GenerationConfig.from_pretrained, name, revision=entry.repo.revision)
    outcome.proven.append(f"config loads as {' and '.join(entry.names)}")


def _prove_tokenizer(entry: LoadedEntry, outcome: Outcome) -> None:
    from transformers import AutoTokenizer

    encoded: dict[str, list[int]] = {}
    for name in entry.names:
        call = f"AutoTokenizer.from_pretrained({name!r})"
        tokenizer = tried(call, AutoTokenizer.from_pretrained, name, **entry.options)
        encoded[name] = tried(f"{call}, then encoding and decoding", _round_trip, tokenizer)
    first, *others = encoded.values()
    if any(ids != first for ids in others):
        raise ContradictionFault(
            f"the names {' and '.join(encoded)} load tokenizers that disagree about {SAMPLE!r}"
        )
    outcome.proven.append(f"tokenizer encodes and decodes ({len(first)} tokens) as {' and '.join(entry.names)}")


def _round_trip(tokenizer: Any) -> list[int]:
    """Encode and decode; return the ids of the sample."""
    # A tokenizer whose vocabulary file is missing may load all the same, with its special tokens alone.
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
        # A vocabulary of amino acids knows no foxes; it does know itself.
        if content and any(token != unknown for token in content) and tokenizer.decode(content).strip():
            return ids
    raise LoadingFault(f"{type(tokenizer).__name__} finds no token of its {len(tokenizer)} in a text")


def _prove_modules(entry: LoadedEntry, outcome: Outcome) -> None:
    """Check that what a sentence-transformers `modules.json` lists is there."""
    if "modules.json" not in entry.paths:
        return
    try:
        modules = json.loads((entry.snapshot / "modules.json").read_bytes())
        folders = [(str(module["path"]), str(module["type"])) for module in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise ContradictionFault(
            f"modules.json is not a list of sentence-transformers modules: {error!r}"
        ) from error
    for folder, kind in folders:
        # Normalize has no settings and, often, no folder; the module at the root is the transformers model.
        if folder and not kind.endswith(".Normalize") and f"{folder}/config.json" not in entry.paths:
            raise LoadingFault(f"modules.json names {folder} ({kind}), and {folder}/config.json is not there")
    outcome.proven.append(f"sentence-transformers modules are there ({len(folders)})")
