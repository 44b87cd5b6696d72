"""What the commands that bring bundles to addresses and from them say as JSON, in the form of `bundle_outputs`."""

from __future__ import annotations

from docs.generate.outputs import Output, described, fields

_PUSHED = "bundler/transfer/push.py:Pushed"
_PULLED = "bundler/transfer/pull.py:Pulled"

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
)
