"""The calls by which libraries load files of other hosts, and what each asks for: torch.hub, tiktoken, nltk."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bundler.draft.scan.call import Call, OtherKindError
from bundler.plan.file_entry import FileEntry
from bundler.plan.file_rules import Into, url_problem

# owner/name, or owner/name:ref
_TORCH_REPO = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?::([\w./+-]+))?")
# What has its address from a list of its own, by the name that a call has.
_BY_NAME = frozenset({"tiktoken.get_encoding", "tiktoken.encoding_for_model", "nltk.download"})


def read_file_call(call: Call) -> Iterator[FileEntry]:
    """Yield the file that a call loads, if it is one that loads any.

    Raises:
        UnknownValueError: Its source does not tell which.
        OtherKindError: There is no entry for it, or the library alone knows which file it is.
    """
    last = call.name.rpartition(".")[2]
    if last == "load_state_dict_from_url":
        if call.has("model_dir", 1) and call.get("model_dir", 1) is not None:
            raise OtherKindError("it keeps the file in a folder of its own, where no bundle puts any")
        yield from _file(call.text("url", 0), "torch_hub", call.text("file_name", 5))
    elif call.name.endswith("hub.load"):
        yield from _read_torch_repo(call)
    elif last in ("load_tiktoken_bpe", "read_file_cached"):
        key = "blobpath" if last == "read_file_cached" else "tiktoken_bpe_file"
        yield from _file(call.text(key, 0), "tiktoken")
    elif call.name in _BY_NAME:
        raise OtherKindError(
            "the library alone knows the address: `bundle record` writes it down, or add it to `files`"
        )


def _read_torch_repo(call: Call) -> Iterator[FileEntry]:
    match = _TORCH_REPO.fullmatch(call.text("repo_or_dir", 0) or "")
    if match is None or (call.text("source") or "github") != "github":
        return
    name, ref = match.groups()
    if ref is None:
        raise OtherKindError(f"it asks GitHub for the branch: name it, such as {name}:main")
    yield from _file(f"https://github.com/{name}/zipball/{ref}", "torch_hub")


def _file(url: str | None, into: Into, path: str | None = None) -> Iterator[FileEntry]:
    if url is None or not url.startswith(("http://", "https://")):
        return
    entry = FileEntry(url=url, into=into, path=path)
    if problem := url_problem(url) or next((text for _, text in entry.conflicts()), None):
        raise OtherKindError(f"{url} {problem}")
    yield entry
