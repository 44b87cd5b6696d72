"""What the commands that write manifests say as JSON, in the form of `bundle_outputs`."""

from __future__ import annotations

from docs.generate.outputs import Output, described, fields

_RECORDED = "bundler/draft/record/record.py:Recorded"
_REPO = "bundler/draft/record/record.py:RecordedRepo"
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
        described("warnings", "array of strings", _RECORDED),
        described("unseen", "array of strings", _RECORDED),
    ),
)

OUTPUTS = (_RECORD,)
