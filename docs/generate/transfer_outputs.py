"""What the commands for the way of a bundle say as JSON: to addresses, from them, and parity; as `bundle_outputs`."""

from __future__ import annotations

from docs.generate.outputs import Output, described, fields

_PUSHED = "bundler/transfer/push.py:Pushed"
_PULLED = "bundler/transfer/pull.py:Pulled"
_PARITY = "bundler/parity/make.py:ParityMade"
_REPAIRED = "bundler/parity/repair.py:Repaired"

OUTPUTS = (
    Output(
        call="bundle push --json",
        summary="What was pushed, and where it is.",
        keys=(*fields(_PUSHED, apart=("attached",)), described("attached", "array of strings", _PUSHED)),
    ),
    Output(
        call="bundle pull --json",
        summary="The file that was written.",
        keys=(
            described("path", "string", _PULLED),
            *fields(_PULLED, apart=("path", "signature")),
            described("signature", "string or null", _PULLED),
        ),
    ),
    Output(
        call="bundle parity --json",
        summary="What was written.",
        keys=(
            described("files", "array of strings", _PARITY),
            described("size_bytes", "integer", _PARITY),
            described("replaced", "array of strings", _PARITY),
        ),
    ),
    Output(
        call="bundle repair --json",
        summary="What was rebuilt.",
        keys=(
            described("digest", "string", _REPAIRED),
            described("rebuilt", "array of strings", _REPAIRED, "files"),
            described("missing", "array of strings", _REPAIRED),
            described("rebuilt_bytes", "integer", _REPAIRED),
        ),
    ),
)
