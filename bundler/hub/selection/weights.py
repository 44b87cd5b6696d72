"""Which files of a model repository hold its weights and their configuration, each weight once.

A repository often holds the same weights several times: for other frameworks and runtimes, in half precision, as
the authors' original. The first form is safetensors under the plain name; the rules here recognise the others by
folder and file name, folder by folder, since a repository can have parts that come in different forms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

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
# Folders that hold the same weights for another runtime, the authors' original of them, or traces of training.
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
_BASE = re.compile(rf"(?P<base>[^/.]+?){_SHARD}\.safetensors")
_PICKLE_WEIGHTS = re.compile(r"(?:pytorch_model|adapter_model|diffusion_pytorch_model)(?:-\d+-of-\d+)?\.bin")
_PICKLE_INDEX = re.compile(r"(?:pytorch_model|adapter_model|diffusion_pytorch_model)\.bin\.index\.json")
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"}
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
    *_PICKLE_SUFFIXES,
}


def is_pickle(path: str) -> bool:
    """Tell whether loading this file may run code: pickle, or a suffix that usually means pickle."""
    name = PurePosixPath(path)
    # OpenVINO's weights share the suffix and are plain numbers.
    return name.suffix.lower() in _PICKLE_SUFFIXES and not name.name.startswith("openvino")


def model_files(entry: Entry, paths: Sequence[str], problems: list[str], warnings: list[str]) -> set[str]:
    """Return the weights and configuration of a model.

    What keeps it from loading is added to `problems`, what takes care in loading to `warnings`.
    """
    # A diffusers pipeline keeps each part in a folder; weights beside its index are the same in a single file.
    in_folders = "model_index.json" in paths
    primary = [path for path in paths if not any(_SECOND_FORM_FOLDERS.fullmatch(f) for f in path.split("/")[:-1])]
    configs = {
        path
        for path in primary
        if PurePosixPath(path).suffix in _CONFIG_SUFFIXES
        and not _OTHER_INDEX.fullmatch(PurePosixPath(path).name)
        and not _VARIANT_INDEX.fullmatch(PurePosixPath(path).name)
    }
    safetensors = _first_forms(
        [path for path in primary if path.endswith(".safetensors") and ("/" in path or not in_folders)]
    )
    if variants := _only_variants(safetensors):
        warnings.append(
            f"{entry.label}: has weights only as variant {', '.join(variants)}; they load with variant={variants[0]!r}"
        )
    variant_indexes = {path for path in primary if _is_index_of(path, safetensors)}
    pickles = _pickles_without_safetensors(primary, safetensors)
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
    """Tell whether `path` is the index of a variant that was kept for want of another form."""
    folder, _, name = path.rpartition("/")
    match = _VARIANT_INDEX.fullmatch(name)
    prefix = f"{folder}/" if folder else ""
    return bool(match) and any(
        kept.startswith(f"{prefix}{match['base']}.{match['variant']}-") for kept in safetensors if match
    )


def _only_variants(safetensors: list[str]) -> list[str]:
    """Return the variants that stand in for the plain weights of the root folder."""
    matched = [(path, _VARIANT.fullmatch(path)) for path in safetensors if "/" not in path]
    if not matched or any(match is None for _, match in matched):
        return []
    return sorted({match["variant"] for _, match in matched if match})


def _first_forms(safetensors: list[str]) -> list[str]:
    """Leave out variants and consolidated copies that stand beside another form of the same weights."""
    bases: dict[str, set[str]] = {}
    for path in safetensors:
        folder, _, name = path.rpartition("/")
        if match := _BASE.fullmatch(name):
            bases.setdefault(folder, set()).add(match["base"])
    kept = []
    for path in safetensors:
        folder, _, name = path.rpartition("/")
        here = bases.get(folder, set())
        variant = _VARIANT.fullmatch(name)
        if variant and variant["base"] in here:
            continue
        if name.startswith("consolidated") and any(not base.startswith("consolidated") for base in here):
            continue
        kept.append(path)
    return kept


def _pickles_without_safetensors(primary: list[str], safetensors: list[str]) -> set[str]:
    """Return the pickle weights, with their index, of the folders that have no safetensors."""
    covered = {path.rpartition("/")[0] for path in safetensors}
    return {
        path
        for path in primary
        if (_PICKLE_WEIGHTS.fullmatch(name := path.rpartition("/")[2]) or _PICKLE_INDEX.fullmatch(name))
        and path.rpartition("/")[0] not in covered
    }
