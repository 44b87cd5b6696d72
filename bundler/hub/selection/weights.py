"""Choose the files of a model repository that hold its weights, each once, and their configuration.

A repository often has the same weights several times: for other frameworks and runtimes, in half precision, as the
authors' original. The preferred form is safetensors under the plain name. The rules here recognise other forms by
folder and file name, separately for each folder, because parts of a model may come in different forms.

A file is a variant of another only where a library loads it with `variant=`, or where its name says that it has the
same weights in another precision. `lora.v2.safetensors` beside `lora.safetensors` is neither, and is taken. What is
left out is named, because a rule about names can be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from bundler.hub.selection.pickle_names import PICKLE_SUFFIXES
from bundler.plan.manifest import Entry
from bundler.text.wording import name_some

# Small text beside the weights: configs of the model, its processors, adapters, sub-modules; vocabularies.
_CONFIG_SUFFIXES = {
    ".json",
    ".txt",
    ".jinja",
    ".model",
    ".spm",
    ".tiktoken",
    ".bpe",
    ".codes",
    ".tokenizer",
    ".yaml",
}
# Folders with the same weights for another runtime, with the authors' original, or with files from training.
_SECOND_FORM_FOLDERS = re.compile(
    r"onnx|openvino|coreml|tflite|gguf|ggml|mlx|metal|original|flax|tf|tensorrt|torchscript|runs|logs|wandb"
    r"|checkpoint-\d+|global_step\d+",
    re.IGNORECASE,
)
_OTHER_INDEX = re.compile(
    r"(?:pytorch_model|tf_model|flax_model|diffusion_pytorch_model|adapter_model)\.\w+\.index(?:\.\w+)?\.json"
)
_SHARD = r"(?:-\d{5}-of-\d{5})?"
_VARIANT = re.compile(rf"(?P<base>[^/.]+)\.(?P<variant>[A-Za-z]\w*){_SHARD}\.safetensors")
_VARIANT_INDEX = re.compile(r"(?P<base>[^/.]+)\.safetensors\.index\.(?P<variant>\w+)\.json")
# What transformers and diffusers load with `variant=`; the weights of other libraries have no variants.
_BASES_WITH_VARIANTS = frozenset({"model", "diffusion_pytorch_model"})
# The same weights, whatever the file is called.
_SAME_WEIGHTS = re.compile(r"fp16|bf16|fp32|float16|bfloat16|float32|non_ema", re.IGNORECASE)
_BASE = re.compile(rf"(?P<base>[^/.]+?){_SHARD}\.safetensors")
_PICKLE_WEIGHTS = re.compile(r"(?:pytorch_model|adapter_model|diffusion_pytorch_model)(?:-\d+-of-\d+)?\.bin")
_PICKLE_INDEX = re.compile(r"(?:pytorch_model|adapter_model|diffusion_pytorch_model)\.bin\.index\.json")
_OTHER_WEIGHTS = {
    ".gguf",
    ".onnx",
    ".h5",
    ".msgpack",
    ".ot",
    ".tflite",
    ".mlmodel",
    ".nemo",
    ".npz",
    *PICKLE_SUFFIXES,
}
WEIGHT_SUFFIXES = frozenset({".safetensors", *_OTHER_WEIGHTS})
# What no library loads as a part of a model: for people, git and training; Python has rules of its own.
_NO_PART = re.compile(
    r".*\.(?:md|rst|pdf|html|png|jpe?g|gif|webp|svg|mp4|wav|mp3|flac|ogg|py|ipynb|sh|log)|\.git\w*|.*/\.git\w*"
    r"|events\.out\..*|.*/events\.out\..*|LICEN[CS]E|NOTICE|\.DS_Store",
    re.IGNORECASE,
)


def left_out(paths: Sequence[str], chosen: set[str]) -> list[str]:
    """Return the files that a library could load and `chosen` does not have; first those that are known least."""
    found = [
        path
        for path in paths
        if path not in chosen
        and PurePosixPath(path).suffix not in _CONFIG_SUFFIXES
        and not _NO_PART.fullmatch(path)
    ]
    return sorted(found, key=lambda path: (PurePosixPath(path).suffix in _OTHER_WEIGHTS, path))


def model_files(entry: Entry, paths: Sequence[str], problems: list[str], warnings: list[str]) -> set[str]:
    """Return the paths of a model's weights and configuration.

    Faults that prevent loading are added to `problems`, advice for loading to `warnings`.
    """
    # A diffusers pipeline has each part in a folder; weights beside its index are all of them again in one file.
    in_folders = "model_index.json" in paths
    primary = [path for path in paths if not any(_SECOND_FORM_FOLDERS.fullmatch(f) for f in path.split("/")[:-1])]
    configs = {
        path
        for path in primary
        if PurePosixPath(path).suffix in _CONFIG_SUFFIXES
        and not _OTHER_INDEX.fullmatch(PurePosixPath(path).name)
        and not _VARIANT_INDEX.fullmatch(PurePosixPath(path).name)
    }
    safetensors = _choose_first_forms(
        [path for path in primary if path.endswith(".safetensors") and ("/" in path or not in_folders)]
    )
    if variants := _find_only_variants(safetensors):
        warnings.append(
            f"{entry.label}: has weights only as variant {', '.join(variants)}; they load with variant={variants[0]!r}"
        )
    variant_indexes = {path for path in primary if _is_index_of(path, safetensors)}
    pickles = _choose_pickles(primary, safetensors)
    if pickles and not entry.allow_pickle:
        place = f"{entry.path}.allow_pickle" if entry.path else "allow_pickle"
        problems.append(
            f"{place}: {entry.repo_id} has {name_some(sorted(pickles))} as pickle only, which can run code when "
            "loaded; if you trust its authors set allow_pickle: true, or choose a revision with safetensors"
        )
    elif not safetensors and not pickles:
        others = sorted({PurePosixPath(p).suffix for p in paths if PurePosixPath(p).suffix in _OTHER_WEIGHTS})
        found = (
            f"found weights as {', '.join(others)}; choose them with allow_patterns" if others else "found none"
        )
        problems.append(f"{entry.label}: expected weights as safetensors, {found}")
    return configs | set(safetensors) | variant_indexes | pickles


def _is_index_of(path: str, safetensors: list[str]) -> bool:
    """Return whether `path` is the index of a variant that was kept because there is no other form."""
    folder, _, name = path.rpartition("/")
    match = _VARIANT_INDEX.fullmatch(name)
    prefix = f"{folder}/" if folder else ""
    return bool(match) and any(
        kept.startswith(f"{prefix}{match['base']}.{match['variant']}-") for kept in safetensors if match
    )


def _variant(name: str) -> re.Match[str] | None:
    """Match the name of a variant of other weights; None if it is not one, though it may look like one."""
    match = _VARIANT.fullmatch(name)
    is_one = match and (match["base"] in _BASES_WITH_VARIANTS or _SAME_WEIGHTS.fullmatch(match["variant"]))
    return match if is_one else None


def _find_only_variants(safetensors: list[str]) -> list[str]:
    """Return the variants in the root folder, if it has no plain weights."""
    matched = [(path, _variant(path)) for path in safetensors if "/" not in path]
    if not matched or any(match is None for _, match in matched):
        return []
    return sorted({match["variant"] for _, match in matched if match})


def _choose_first_forms(safetensors: list[str]) -> list[str]:
    """Return the files without variants and consolidated copies of weights that are there in another form."""
    bases: dict[str, set[str]] = {}
    for path in safetensors:
        folder, _, name = path.rpartition("/")
        if match := _BASE.fullmatch(name):
            bases.setdefault(folder, set()).add(match["base"])
    kept = []
    for path in safetensors:
        folder, _, name = path.rpartition("/")
        here = bases.get(folder, set())
        variant = _variant(name)
        if variant and variant["base"] in here:
            continue
        if name.startswith("consolidated") and any(not base.startswith("consolidated") for base in here):
            continue
        kept.append(path)
    return kept


def _choose_pickles(primary: list[str], safetensors: list[str]) -> set[str]:
    """Return the pickle weights, with their index, in folders that have no safetensors."""
    covered = {path.rpartition("/")[0] for path in safetensors}
    return {
        path
        for path in primary
        if (_PICKLE_WEIGHTS.fullmatch(name := path.rpartition("/")[2]) or _PICKLE_INDEX.fullmatch(name))
        and path.rpartition("/")[0] not in covered
    }
