"""Turn raw data into tokenized documents: find it, compute its fingerprint, and tokenize it unless the cache has it."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from bundler.files.digest import sha256_bytes
from bundler.files.parallel import available_cores
from bundler.text.wording import and_more, counted
from infini_llama.data.documents import Documents
from infini_llama.data.files import DatasetName, RawFile, find_files, parse_dataset_name
from infini_llama.data.records import Records, load_dataset, read_dataset, read_file
from infini_llama.data.token_cache import CacheEntry, TokenCache
from infini_llama.data.tokenizing import (
    BadRecords,
    how_to_encode,
    load,
    load_on_demand,
    token_type,
    tokenize,
)
from infini_llama.data.tokens_on_demand import Texts
from infini_llama.errors import TrainingDataError
from infini_llama.progress import say
from infini_llama.settings.sections import DataSettings

# Part of every fingerprint. Increase it when the same input gives other tokens or other files.
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Documents, and what a checkpoint's provenance says about them.

    Attributes:
        documents: The tokens.
        source: The path or dataset that was given.
        files: Number of files that were read.
        left_out: Files in the folder whose suffix is not known.
        size_bytes: Size of all files that were read.
        sha256: SHA-256 over the SHA-256 of each file, in order.
        bad_records: Number of records without usable text.
        bad_examples: The first of them.
        place: Folder of the tokens in the cache.
        from_cache: Whether an earlier run made them.
    """

    documents: Documents
    source: str
    files: int
    left_out: list[str]
    size_bytes: int
    sha256: str
    bad_records: int
    bad_examples: list[str]
    place: Path
    from_cache: bool

    def record(self) -> dict[str, Any]:
        """Return the description of the data for the provenance."""
        return {
            "path": self.source,
            "files": self.files,
            "files_left_out": self.left_out,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "documents": len(self.documents),
            "tokens": self.documents.tokens,
            "bad_records": self.bad_records,
            "bad_examples": self.bad_examples,
        }


@dataclass(frozen=True, kw_only=True)
class _RawText:
    """Raw data that was found and hashed, but not read yet."""

    name: str
    files: list[RawFile]
    left_out: list[Path]
    dataset: tuple[DatasetName, Any] | None
    kinds: list[str]
    digests: list[tuple[str, int]]

    @property
    def sha256(self) -> str:
        return sha256_bytes("".join(sha256 for sha256, _ in self.digests).encode())

    def records(self, text_key: str) -> Records:
        if self.dataset is not None:
            return read_dataset(*self.dataset, text_key)
        files = enumerate(self.files)
        return itertools.chain.from_iterable(read_file(file, text_key, number) for number, file in files)

    def texts(self, text_key: str) -> Texts:
        return Texts(self.files, None if self.dataset is None else self.dataset[1], text_key)


def prepare_documents(
    raw_data: str | Path, tokenizer: PreTrainedTokenizerBase, settings: DataSettings, cache_dir: Path
) -> Prepared:
    """Return the documents at `raw_data` as tokens; tokenize them unless the cache has them.

    Args:
        raw_data: File, folder, or `dataset:org/name[:config[:split]]`.
        tokenizer: The run's tokenizer.
        settings: The key of the text, what to do about bad records, and more.
        cache_dir: Folder for the tokens, if the settings name none.

    Raises:
        TrainingDataError: There is no usable text; or a record is bad, and the settings do not say to skip bad records.
        NotInstalledError: The dataset is not installed.
        AccessError: Nothing can be written to the cache.
    """
    if settings.end_of_document and tokenizer.eos_token_id is None:
        raise TrainingDataError(
            "the tokenizer has no end-of-text token to close documents with",
            hint="set data.end_of_document: false",
        )
    cache = TokenCache(Path(settings.cache_dir).expanduser() if settings.cache_dir else cache_dir)
    source = _find_source(str(raw_data), cache)
    for line in _list_left_out(source.left_out):
        say(line)
    # Refuses files that cannot be read again, before they are read once.
    texts = None if settings.keep_tokens else source.texts(settings.text_key)
    fingerprint = _fingerprint(source, tokenizer, settings)
    entry = cache.find(fingerprint)
    from_cache = entry is not None
    if entry is None:
        with cache.make_entry() as folder:
            # Another process may have made the entry while this one waited.
            entry = cache.find(fingerprint)
            from_cache = entry is not None
            if entry is None:
                entry = _tokenize_source(source, tokenizer, settings, fingerprint, folder)
                cache.publish(folder, entry)
    if settings.on_bad_record == "error":
        _refuse(source.name, BadRecords(count=entry.bad_records, first=entry.bad_examples), entry.documents)
    elif entry.bad_records:
        say(f"{source.name}: {entry.bad_records:,} bad records are left out")
        for example in and_more(entry.bad_examples, total=entry.bad_records):
            say(f"  {example}")
    place = cache.place(fingerprint)
    amount = f"{counted(entry.documents, 'document')}, {counted(entry.tokens, 'token')}"
    say(f"{amount} {'found in' if from_cache else 'kept in' if settings.keep_tokens else 'counted in'} {place}")
    return Prepared(
        documents=_load(entry, place, tokenizer, settings, texts),
        source=source.name,
        files=len(source.digests),
        left_out=[str(path) for path in source.left_out],
        size_bytes=sum(size for _, size in source.digests),
        sha256=source.sha256,
        bad_records=entry.bad_records,
        bad_examples=entry.bad_examples,
        place=place,
        from_cache=from_cache,
    )


def _load(
    entry: CacheEntry,
    place: Path,
    tokenizer: PreTrainedTokenizerBase,
    settings: DataSettings,
    texts: Texts | None,
) -> Documents:
    """Return the documents of an entry; their tokens are made from `texts` where those are not kept."""
    kind = np.dtype(entry.token_type)
    if texts is None:
        return load(place, kind)
    return load_on_demand(place, kind, texts, how_to_encode(tokenizer, end_of_document=settings.end_of_document))


def _find_source(raw_data: str, cache: TokenCache) -> _RawText:
    name = parse_dataset_name(raw_data)
    if name is None:
        files, left_out = find_files(Path(raw_data))
        digests, kinds = (
            cache.digests([file.path for file in files]),
            [file.kind + file.compression for file in files],
        )
        return _RawText(name=raw_data, files=files, left_out=left_out, dataset=None, kinds=kinds, digests=digests)
    dataset = load_dataset(name)
    paths = [Path(file["filename"]) for file in dataset.cache_files]
    return _RawText(
        name=str(name),
        files=[],
        left_out=[],
        dataset=(name, dataset),
        # The split is part of the digest: it may use only some of the files.
        kinds=[f"dataset {name.split}"],
        digests=cache.digests(paths),
    )


def _tokenize_source(
    source: _RawText, tokenizer: PreTrainedTokenizerBase, settings: DataSettings, fingerprint: str, folder: Path
) -> CacheEntry:
    processes = settings.num_proc or available_cores()
    # Not `say`, which prints only in rank 0: any rank may be the one that tokenizes.
    sys.stderr.write(f"rank {os.environ.get('RANK', '0')} tokenizes {source.name}\n")
    done = tokenize(
        source.records(settings.text_key),
        tokenizer,
        end_of_document=settings.end_of_document,
        processes=processes,
        folder=folder,
        stop_at_bad=settings.on_bad_record == "error",
        keep_tokens=settings.keep_tokens,
    )
    bad = done.bad
    if settings.on_bad_record == "error":
        _refuse(source.name, bad, done.good)
    if not done.good:
        problem = f"none of {counted(bad.count, 'record')} can be used" if bad.count else "holds no record"
        raise TrainingDataError(f"{source.name}: {problem}, and nothing is left to train on")
    return CacheEntry(
        fingerprint=fingerprint,
        documents=done.good,
        tokens=done.tokens,
        bad_records=bad.count,
        bad_examples=bad.first,
        token_type=token_type(tokenizer).name,
        files={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    )


def _refuse(name: str, bad: BadRecords, good: int) -> None:
    if bad.count:
        lines = "".join(f"\n  {line}" for line in and_more(bad.first, total=bad.count))
        raise TrainingDataError(
            f"{name}: {bad.count:,} of {counted(bad.count + good, 'record')} cannot be used{lines}",
            hint="correct them, or leave them out: data.on_bad_record: skip",
        )


def _list_left_out(left_out: list[Path]) -> Iterable[str]:
    if left_out:
        yield f"not read: {counted(len(left_out), 'file')} whose suffix is not known"
        yield from (f"  {line}" for line in and_more([str(path) for path in left_out], shown=10))


def _fingerprint(source: _RawText, tokenizer: PreTrainedTokenizerBase, settings: DataSettings) -> str:
    content: dict[str, Any] = {
        "format": _FORMAT,
        "kinds": source.kinds,
        "files": [sha256 for sha256, _ in source.digests],
        "tokenizer": tokenizer_digest(tokenizer),
        "text_key": settings.text_key,
        "end": tokenizer.eos_token_id if settings.end_of_document else None,
    }
    if not settings.keep_tokens:
        content["kept"] = False
    return sha256_bytes(json.dumps(content).encode())


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of all that decides a tokenizer's output: vocabulary, merges, normalisation, special tokens."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None:
        return sha256_bytes(json.dumps([core.to_str(), tokenizer.split_special_tokens]).encode())
    # A tokenizer written in Python has no `to_str`: use the files that it saves.
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return sha256_bytes("".join(f"{path.name} {sha256_bytes(path.read_bytes())}\n" for path in files).encode())
