"""What the commands that write manifests say as JSON, in the form of `bundle_outputs`."""

from __future__ import annotations

from docs.generate.outputs import Key, Output, described, fields, key

_RECORDED = "bundler/draft/record/record.py:Recorded"
_REPO = "bundler/draft/record/record.py:RecordedRepo"
_URL = "bundler/draft/record/notes.py:UrlUse"
_HOST = "bundler/draft/record/notes.py:HostUse"

_RECORD = Output(
    call="bundle record --report FILE",
    summary="What a command loaded, written to FILE at its end; stdout is the command's.",
    keys=(
        described("exit_code", "integer", _RECORDED),
        described("manifest", "string or null", _RECORDED),
        described("lock", "string or null", _RECORDED),
        described("repos", "array of objects", _RECORDED),
        *fields(_REPO, "repos[]", words=("status",)),
        described("hosts", "array of objects", _RECORDED),
        *fields(_HOST, "hosts[]", apart=("address", "argv")),
        described("urls", "array of objects", _RECORDED),
        *fields(_URL, "urls[]"),
        described("warnings", "array of strings", _RECORDED),
        described("unseen", "array of strings", _RECORDED),
    ),
)
_CHANGE = "bundler/draft/write.py:Change"
_WRITTEN = "bundler/draft/write.py:Written"
_FOUND = "bundler/draft/scan/calls.py:Found"
_UNKNOWN = "bundler/draft/scan/calls.py:Unknown"
_SCANNED = "bundler/draft/scan/scan.py:Scanned"
_ENTRY = "bundler/plan/entry.py:Entry"


def _written(under: str = "") -> tuple[Key, ...]:
    return (
        described(f"{under}manifest", "string", _WRITTEN),
        described(f"{under}created", "boolean", _WRITTEN),
        described(f"{under}changes", "array of objects", _WRITTEN),
        *fields(_CHANGE, f"{under}changes[]", words=("status",)),
    )


_SCAN = Output(
    call="bundle scan --json",
    summary="What source code loads from the Hub and other hosts, as far as it tells.",
    keys=(
        described("files", "integer", _SCANNED, unit="files"),
        described("repos", "array of objects", _SCANNED, "entries"),
        key("repos[].kind", "string", "tokenizer, model or dataset."),
        described("repos[].repo_id", "string", _ENTRY),
        described("repos[].revision", "string", _ENTRY),
        described("web_files", "array of objects", _SCANNED),
        key("web_files[].url", "string", "Its address."),
        key("web_files[].into", "string", "Who looks for it, as in a manifest."),
        described("found", "array of objects", _SCANNED),
        key("found[].repo_id", "string", "The repo; of a file its address."),
        *fields(_FOUND, "found[]", apart=("entry",)),
        described("unknown", "array of objects", _SCANNED),
        *fields(_UNKNOWN, "unknown[]"),
        key("written", "object or null", "What became of the manifest of `-o`; null without it."),
        *_written("written."),
    ),
)
_INIT = Output(
    call="bundle init --json",
    summary="The manifest that was begun.",
    keys=(key("manifest", "string", "Its path."), key("name", "string", "Name of the bundle.")),
)
_ADD = Output(call="bundle add --json", summary="What became of each entry.", keys=_written())

OUTPUTS = (_RECORD, _SCAN, _INIT, _ADD)
