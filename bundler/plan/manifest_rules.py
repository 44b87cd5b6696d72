"""Checks of single values of a manifest, and what to write instead of a wrong one.

Each check returns what is wrong with a value, in words for the person who typed it, or None. The types below combine
a check with the part of it that a JSON Schema can express. `bundler.plan.manifest` knows where in the file each value
belongs, and which values exclude each other.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Annotated

from bundler.plan.names import is_bundle_name, is_commit, is_repo_id, is_revision
from bundler.text import strict_json
from bundler.text.rules import Rule
from bundler.text.strict_json import StrictJsonError
from bundler.text.wording import has_control_character, quoted

_NAME_CHARACTERS = 80
_MOST_COMMAND_CHARACTERS = 1000
# Words of a shell program that starts nothing: joints and brackets, assignments, and the commands that do nothing.
_RUNS_NOTHING = re.compile(r"[;&|(){}!]+|[A-Za-z_]\w*=.*|:|true")
_URL = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)


def bundle_name_problem(text: str) -> str | None:
    """Check the name of a bundle."""
    if is_bundle_name(text):
        return None
    suggestion = re.sub(r"[^a-z0-9._-]+", "-", text[:_NAME_CHARACTERS].lower()).strip("-._")
    suggestion = re.sub(r"\.{2,}", ".", suggestion)
    tail = f"; for instance {suggestion}" if is_bundle_name(suggestion) else ""
    expected = "expected lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit"
    return f"{expected}; found {quoted(text)}{tail}"


def repo_id_problem(text: str) -> str | None:
    """Check the name of a repository on the Hub."""
    if is_repo_id(text) and not text.endswith((".git", ".", "-")):
        return None
    expected = f"expected namespace/name as on the Hub, found {quoted(text)}"
    address = _URL.sub("", text.strip()).strip("/")
    bare = re.sub(r"^(?:datasets|models|kernels|spaces)/", "", address)
    bare = re.sub(r"/(?:tree|blob|resolve)/.*$", "", bare).removesuffix(".git")
    match = re.match(r"(datasets|kernels|spaces)/", address)
    section = f", under {match[1]}:" if match else ""
    if match := re.fullmatch(r"([^@:]+)[@:]([^@:]+)", bare):
        if is_repo_id(match[1]):
            return f"{expected}; write repo_id: {match[1]} and revision: {match[2]}{section}"
    elif bare != text and is_repo_id(bare):
        return f"{expected}; write {bare}{section}"
    return f"{expected}; letters, digits, '-', '_' and '.', at most one '/', no '--' or '..', up to 96 characters"


def revision_problem(text: str) -> str | None:
    """Check a branch, tag or full commit."""
    if is_commit(text):
        return None
    if is_commit(text.lower()):
        return f"a commit is written in lower case: {text.lower()}"
    # Letters a-f and digits mixed: `git log --oneline` prints such names, and branches almost never have them.
    if re.fullmatch(r"(?=.*[0-9])(?=.*[a-f])[0-9a-f]{7,39}", text):
        return f"{text} looks like a shortened commit, which does not load offline; write all 40 digits"
    if is_revision(text):
        return None
    return f"expected a branch, a tag or a full commit, found {quoted(text)}"


def pattern_problem(text: str) -> str | None:
    """Check a file pattern, as `fnmatch` takes them."""
    if not text.strip():
        return "expected a pattern such as *.json, found an empty one"
    if text.startswith("!"):
        return f"{quoted(text)}: '!' is not supported; put {quoted(text[1:])} into ignore_patterns"
    if has_control_character(text):
        return f"{quoted(text)} has a control character, which no path in a repository has"
    if "\\" in text:
        return f"{quoted(text)} has a backslash; separate folders with '/'"
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        return f"{quoted(text)} is absolute; patterns are relative to the repository: {quoted(text.lstrip('/'))}"
    if any(part in (".", "..") for part in text.split("/")):
        return f"{quoted(text)} has a '.' or '..' folder; patterns match the paths that the repository lists"
    return None


def config_problem(text: str) -> str | None:
    """Check the name of a dataset configuration, which becomes the name of a folder."""
    is_name = re.fullmatch(r"[^<>:/\\|?*]+", text) and not has_control_character(text) and text.strip() == text
    # A folder of that name gets a few characters more.
    if is_name and len(text.encode(errors="replace")) <= 200:
        return None
    return f"expected the name of a dataset configuration, such as default, found {quoted(text)}"


def data_dir_problem(text: str) -> str | None:
    """Check a folder of a dataset's repository, as `load_dataset(data_dir=...)` takes it."""
    if "*" in text or "?" in text:
        return f"expected a folder, found the pattern {quoted(text)}; data_files takes patterns"
    return pattern_problem(text)


def data_files_problem(text: str) -> str | None:
    """Check a choice of a dataset's files in its form in a lock: JSON, with the shape of `DataFiles`."""
    try:
        choice = strict_json.read(text)
    except StrictJsonError as error:
        return f"expected a choice of files in JSON: {error}"
    choices = list(choice.values()) if isinstance(choice, dict) else [choice]
    for patterns in choices:
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            if not isinstance(pattern, str):
                return f"expected a pattern, a list of them, or either by split, found {quoted(text)}"
            if problem := pattern_problem(pattern):
                return problem
    return None


def torch_problem(text: str) -> str | None:
    """Check a version of torch: major and minor."""
    if re.fullmatch(r"[1-9]\.[0-9]{1,3}", text):
        return None
    return f'expected major and minor version, quoted, such as "2.13"; found {quoted(text)}'


def backend_problem(text: str) -> str | None:
    """Check what a kernel runs on."""
    if match := re.fullmatch(r"(?:cuda|cu)[ -]?([0-9]+)\.([0-9])(?:\.[0-9]+)?", text):
        return f"write cu{match[1]}{match[2]}"
    if text in ("cuda", "cu", "rocm", "xpu", "cann"):
        return f"expected {text} with its version, such as cu128 for CUDA 12.8; found {quoted(text)}"
    if re.fullmatch(r"cu[0-9]{2,4}|rocm[0-9]{2,4}|xpu[0-9]{5,6}|cann[0-9]{2,3}|cpu|metal|neuron|tpu", text):
        return None
    return f"expected a backend such as cu128, rocm64, xpu20252, metal or cpu; found {quoted(text)}"


def platform_problem(text: str) -> str | None:
    """Check a processor and system."""
    if re.fullmatch(r"(?:x86_64|aarch64)-(?:linux|darwin|windows)", text):
        return None
    return f"expected a platform such as x86_64-linux or aarch64-linux; found {quoted(text)}"


def command_problem(text: str) -> str | None:
    """Check a command for a shell, in one line."""
    if not text.strip():
        return "expected a command such as python train.py, found an empty one"
    if has_control_character(text):
        return (
            f"expected a command in one line, found {quoted(text)}; write several as a list, or join them with &&"
        )
    if len(text) > _MOST_COMMAND_CHARACTERS:
        return f"expected a command of up to {_MOST_COMMAND_CHARACTERS} characters; put it into a script"
    return None


def proof_problem(text: str) -> str | None:
    """Check a command that is to prove something: it must run at least one program."""
    if problem := command_problem(text):
        return problem
    # Without comments.
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return None  # The shell will say so.
    if all(_RUNS_NOTHING.fullmatch(word) for word in words):
        return f"expected a command that runs a program, such as python train.py; {quoted(text)} runs none"
    return None


def entry_hint(text: str) -> str:
    """Return what to write instead of an entry without keys, such as plain text."""
    return f"write - repo_id: {text if is_repo_id(text) else 'namespace/name'}"


BundleName = Annotated[
    str,
    Rule(check=bundle_name_problem, schema={"pattern": r"^[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,79}$"}),
]
RepoId = Annotated[
    str,
    Rule(
        check=repo_id_problem,
        name="repo_id",
        schema={
            "maxLength": 96,
            "pattern": (
                r"^(?!.*(?:--|\.\.))(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?"
                r"[A-Za-z0-9][A-Za-z0-9._-]*(?<![.-])(?<!\.git)$"
            ),
        },
    ),
]
Revision = Annotated[
    str,
    Rule(
        check=revision_problem,
        name="revision",
        schema={
            "anyOf": [
                {"pattern": "^[0-9a-f]{40}$"},
                {
                    "pattern": r"^(?!.*(?:^|/)\.{1,2}(?:/|$))(?!.*//)(?!.*/$)[A-Za-z0-9][A-Za-z0-9._/+-]*$",
                    "not": {
                        "anyOf": [
                            {"pattern": "^(?=.*[0-9])(?=.*[a-f])[0-9a-f]{7,39}$"},
                            {"pattern": "^[0-9a-fA-F]{40}$"},
                        ]
                    },
                },
            ]
        },
    ),
]
FilePattern = Annotated[
    str,
    Rule(
        check=pattern_problem,
        name="pattern",
        schema={
            "pattern": r"^(?!\s*$)(?![!/]|[A-Za-z]:)(?!(?:.*/)?\.{1,2}(?:/|$))[^\\\u0000-\u001f\u007f]+$",
        },
    ),
]
DataDir = Annotated[
    str,
    Rule(
        check=data_dir_problem,
        name="data_dir",
        schema={
            "pattern": r"^(?!\s*$)(?![!/]|[A-Za-z]:)(?!(?:.*/)?\.{1,2}(?:/|$))[^\\*?\u0000-\u001f\u007f]+$",
        },
    ),
]
ConfigName = Annotated[
    str,
    Rule(
        check=config_problem,
        name="config",
        schema={
            "pattern": r"^(?!\s)[^<>:/\\|?*\u0000-\u001f\u007f]+(?<!\s)$",
        },
    ),
]
TorchVersion = Annotated[
    str, Rule(check=torch_problem, name="torch_version", schema={"pattern": r"^[1-9]\.[0-9]{1,3}$"})
]
Backend = Annotated[
    str,
    Rule(
        check=backend_problem,
        name="backend",
        schema={
            "pattern": "^(?:cu[0-9]{2,4}|rocm[0-9]{2,4}|xpu[0-9]{5,6}|cann[0-9]{2,3}|cpu|metal|neuron|tpu)$",
        },
    ),
]
Platform = Annotated[
    str,
    Rule(
        check=platform_problem,
        name="platform",
        schema={"pattern": "^(?:x86_64|aarch64)-(?:linux|darwin|windows)$"},
    ),
]
FileChoice = Annotated[FilePattern | tuple[FilePattern, ...], Rule(name="file_choice")]
# What a program passes to `load_dataset` as `data_files`.
DataFiles = FileChoice | Mapping[str, FileChoice]
Command = Annotated[
    str,
    Rule(
        check=proof_problem,
        name="command",
        schema={"maxLength": _MOST_COMMAND_CHARACTERS, "pattern": r"^(?!\s*(#|$))[^\u0000-\u001f\u007f]+$"},
    ),
]
# One command, or several that run one after another.
Commands = Command | tuple[Command, ...]
