"""Choose the files of a repository for an entry, from their paths only.

Rule book:

* a *tokenizer* entry takes what AutoTokenizer and AutoConfig read; a *model* entry adds weights as safetensors
  with their index, and every small text file that configures a part of the model, in any folder;
  a *dataset* entry takes everything that can be data, a *space* entry all but git's own files, a *kernel* entry the
  builds for the machines that it names (`variants`);
* the same weights in a second form are left out: other frameworks, other runtimes, half-precision variants,
  consolidated originals. A second form is taken only when there is no first one, and what is left out is named;
* model card and licence are taken too (`README.md`, `LICENSE*`, `NOTICE*`): they are small, a dataset's card names
  its configurations, and many licences must be passed on. `ignore_patterns` can drop them;
* `allow_patterns` replaces the default choice, `ignore_patterns` subtracts from it; both match as in
  huggingface_hub: with `fnmatch`, whose ``*`` matches across folders; a trailing ``/`` means everything below. A
  pattern that matches nothing is an error: it is misspelt, or the repository has changed;
* Python and pickle are code. They are taken only with `trust_remote_code` and `allow_pickle`, even if a pattern
  matches them. Kernels and spaces are listed for their code.

`Selection.absent` lists the optional files that the libraries ask for and the commit lacks. The names were read
off a server's log, with transformers 5.23, sentence-transformers 6.2 and datasets 5.2 loading from it, and from
the `vocab_files_names` of the tokenizer classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from bundler.errors import ManifestError
from bundler.hub.selection.kernels import kernel_files
from bundler.hub.selection.pickle_names import is_pickle
from bundler.hub.selection.weights import left_out, model_files
from bundler.plan.manifest import Entry
from bundler.plan.names import CODE_KINDS
from bundler.text.wording import close_matches, counted, name_some, printable, shortened

# AutoTokenizer reads these from the root of a repo, each for some tokenizer class.
_TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "*vocab*.json",
    "*vocab*.txt",
    "vocab.bpe",
    "merges.txt",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "tekken.json",
    "bpe.codes",
    "dict.txt",
    "normalizer.json",
    "emoji.json",
    "byte_maps.json",
    "word_shape.json",
    "word_pronunciation.json",
    "*.tokenizer",
    "chat_template.json",
    "chat_template*.jinja",
    "additional_chat_templates/*.jinja",
    # A processor contains a tokenizer, and is often wanted without weights too.
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
_SHOWN_PATTERN = 60
_LEGAL_FILES = re.compile(r"(?:README\.md|(?:LICEN[CS]E|COPYING|NOTICE|USE_POLICY)[^/]*)", re.IGNORECASE)

_PROBED_TOKENIZER = (
    "added_tokens.json",
    "audio_tokenizer_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
)
_PROBED: dict[str, tuple[str, ...]] = {
    "tokenizer": _PROBED_TOKENIZER,
    "model": (
        *_PROBED_TOKENIZER,
        "adapter_config.json",
        "config_sentence_transformers.json",
        "custom_generate/generate.py",
        "generation_config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "modules.json",
        "sentence_bert_config.json",
        "README.md",
    ),
    "dataset": (".huggingface.yaml", "README.md", "dataset_infos.json"),
    "kernel": (),
    "space": (),
}


class SelectionError(ManifestError):
    """The patterns and permissions of an entry do not fit the files of the repository.

    Attributes:
        problems: One text per problem; each begins with its key path.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Selection:
    """The files that an entry takes from a commit.

    Attributes:
        paths: Files to take, sorted.
        absent: Optional files that the libraries ask for and the commit does not have, sorted.
        warnings: What was left out and may be needed, for people.
        notes: What was left out because there is a better form of it, for people.
        partial: Whether patterns left out files of a dataset.
    """

    paths: tuple[str, ...]
    absent: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    partial: bool = False


def select(entry: Entry, paths: Sequence[str], *, probed: Iterable[str] = ()) -> Selection:
    """Choose the files of `entry` among those of a commit.

    Args:
        entry: The entry.
        paths: All files of the commit.
        probed: Further optional files that the libraries ask for because of this repo's configuration.

    Raises:
        SelectionError: A pattern matches no file, no file is left, or the entry cannot be loaded without a permission
            that is missing.
    """
    problems = _find_unused_patterns(entry, paths)
    warnings: list[str] = []
    if entry.allow_patterns is not None:
        chosen = {path for path in paths if matches(path, entry.allow_patterns)}
        chosen -= _find_forbidden(entry, chosen, warnings)
    elif entry.kind in ("dataset", "space"):
        chosen = {path for path in paths if not _is_overhead(path, entry)}
    elif entry.kind == "kernel":
        chosen = kernel_files(entry, paths, problems, warnings)
    elif entry.kind == "tokenizer":
        chosen = {path for path in paths if _is_tokenizer_file(path)}
        if not chosen:
            problems.append(
                f"{entry.label}: no tokenizer files among the {counted(len(paths), 'file')} of this commit"
            )
        chosen |= {path for path in paths if path == "config.json"} | _find_python(entry, paths)
    else:
        chosen = model_files(entry, paths, problems, warnings) | _find_python(entry, paths)
    if not chosen and not problems:
        problems.append(f"{entry.label}: nothing to take; {'; '.join(warnings) or 'the commit has no files'}")
    chosen |= {path for path in paths if _LEGAL_FILES.fullmatch(path)}
    chosen = {path for path in chosen if not matches(path, entry.ignore_patterns)}
    if not chosen and not problems:
        problems.append(f"{entry.path or entry.repo_id}.ignore_patterns: leaves no file of {entry.repo_id}")
    if problems:
        raise SelectionError(problems)
    if entry.kind == "dataset":
        warnings.extend(_script_warning(entry, paths))
    absent = {*_PROBED[entry.kind], *probed} - set(paths)
    notes = _name_left_out(entry, paths, chosen)
    partial = entry.kind == "dataset" and any(
        path not in chosen and not _is_overhead(path, entry) for path in paths
    )
    return Selection(tuple(sorted(chosen)), tuple(sorted(absent)), tuple(warnings), tuple(notes), partial)


def _name_left_out(entry: Entry, paths: Sequence[str], chosen: set[str]) -> list[str]:
    if entry.kind != "model" or entry.allow_patterns is not None:
        return []
    found = [path for path in left_out(paths, chosen) if not matches(path, entry.ignore_patterns)]
    if not found:
        return []
    what = "other forms of its weights, or files that are no part of a model"
    shown = name_some([shortened(printable(path)) for path in found], shown=5)
    return [f"{entry.label}: left out {shown}: {what}; allow_patterns takes any file"]


def unholdable(entry: Entry, path: str, problem: str) -> str:
    """Return the fault of an entry that takes a file whose name no bundle can hold, with the pattern to add."""
    pattern = re.sub(r"[^\w./ -]", "?", path)
    if len(pattern) > _SHOWN_PATTERN:
        pattern = f"{pattern[:_SHOWN_PATTERN]}*"
    return f"{entry.label}: {problem}; to go without that file write ignore_patterns: [{pattern!r}]"


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether `path` matches one of `patterns`, by huggingface_hub's rules."""
    return any(fnmatchcase(path, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in patterns)


def _find_unused_patterns(entry: Entry, paths: Sequence[str]) -> list[str]:
    problems = []
    for key, patterns in (
        ("allow_patterns", entry.allow_patterns or ()),
        ("ignore_patterns", entry.ignore_patterns),
    ):
        for index, pattern in enumerate(patterns):
            if not any(matches(path, [pattern]) for path in paths):
                close = close_matches(pattern, paths, at_most=1, cutoff=0.5)
                tail = f"; the nearest is {close[0]}" if close else ""
                place = f"{entry.path}." if entry.path else ""
                problems.append(f"{place}{key}[{index}]: {pattern!r} matches no file of {entry.repo_id}{tail}")
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    for index, folder in enumerate(entry.data_dirs):
        if folder not in folders:
            close = close_matches(folder, sorted(folders - {"."}), at_most=1, cutoff=0.5)
            tail = f"; the nearest is {close[0]}" if close else ""
            place = f"{entry.path}." if entry.path else ""
            problems.append(f"{place}data_dirs[{index}]: {entry.repo_id} has no folder {folder!r}{tail}")
    return problems


def _find_forbidden(entry: Entry, chosen: set[str], warnings: list[str]) -> set[str]:
    """Return the chosen files that are code and not permitted; the files of a dataset count as data."""
    refused: set[str] = set()
    if entry.kind == "dataset" or entry.kind in CODE_KINDS:
        return refused
    groups = {
        "trust_remote_code": {p for p in chosen if p.endswith(".py")} if not entry.trust_remote_code else set(),
        "allow_pickle": {p for p in chosen if is_pickle(p)} if not entry.allow_pickle else set(),
    }
    for key, group in groups.items():
        if group:
            warnings.append(f"{entry.label}: left out {name_some(sorted(group))}; to take them set {key}: true")
            refused |= group
    return refused


def _find_python(entry: Entry, paths: Sequence[str]) -> set[str]:
    return {path for path in paths if path.endswith(".py")} if entry.trust_remote_code else set()


def _is_overhead(path: str, entry: Entry) -> bool:
    # Git's own files are of no use. The library no longer runs a loading script, and refuses a dataset that has one.
    name = PurePosixPath(path).name
    is_script = entry.kind == "dataset" and path == _script_name(entry)
    return name in (".gitattributes", ".gitignore") or is_script


def _script_name(entry: Entry) -> str:
    return f"{entry.repo_id.split('/')[-1]}.py"


def _script_warning(entry: Entry, paths: Sequence[str]) -> list[str]:
    if _script_name(entry) not in paths:
        return []
    return [
        f"{entry.label}: has a loading script, which the datasets library no longer runs; "
        "its Parquet form may load: revision: refs/convert/parquet"
    ]


def _is_tokenizer_file(path: str) -> bool:
    # In fnmatch * matches across folders; here a pattern without a folder means the root.
    return any(
        fnmatchcase(path, pattern) and path.count("/") == pattern.count("/") for pattern in _TOKENIZER_FILES
    )
