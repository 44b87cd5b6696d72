"""What the commands of `infini-llama` write as JSON; see `docs.generate.bundle_outputs`."""

from __future__ import annotations

from dataclasses import replace

from docs.generate.outputs import Output, described, fields, key

_SUMMARY = "infini_llama/train/run.py:Summary"
_PREPARED = "infini_llama/data/preparation.py:Prepared"
_CONVERSION = "infini_llama/model/convert.py:Conversion"
_STRETCH = "infini_llama/train/perplexity.py:Stretch"

_TRAIN = Output(
    call="infini-llama train --json",
    summary="What a run came to.",
    keys=(
        *fields(
            _SUMMARY,
            units={
                "first_loss": "nats per token",
                "last_loss": "nats per token",
                "steps": "optimizer steps",
                "tokens": "tokens",
                "seconds": "seconds",
                "parameters": "parameters",
                "documents": "documents",
                "bad_records": "records",
                "files_left_out": "files",
                "world_size": "processes",
            },
        ),
        key("isolation", "string", "What holds below Python: `netns`, `seccomp`, `landlock` or `none`."),
        key(
            "network_attempts", "integer or null", "What guards refused; null where none is in force.", "attempts"
        ),
    ),
)
_DATA = (
    described("path", "string", _PREPARED, "source"),
    described("files", "integer", _PREPARED, unit="files"),
    described("files_left_out", "array of strings", _PREPARED, "left_out"),
    described("size_bytes", "integer", _PREPARED),
    described("sha256", "string", _PREPARED),
    key("documents", "integer", "Records with a usable text.", "documents"),
    key("tokens", "integer", "Tokens of all documents.", "tokens"),
    described("bad_records", "integer", _PREPARED, unit="records"),
    described("bad_examples", "array of strings", _PREPARED),
)
# Not of a mixture as a whole.
_TOKENS = (
    described("place", "string", _PREPARED, when="without `data.sources`"),
    described("from_cache", "boolean", _PREPARED, when="without `data.sources`"),
)
_PREPARE = Output(
    call="infini-llama prepare --json",
    summary="What raw data holds, and where its tokens are.",
    keys=(
        *_DATA,
        *_TOKENS,
        key(
            "sources",
            "array of objects",
            "The parts of a mixture, in the order of its configuration.",
            when="with `data.sources`",
        ),
        key("sources[].weight", "number", "Its weight in the configuration."),
        *(replace(each, path=f"sources[].{each.path}", when="") for each in (*_DATA, *_TOKENS)),
    ),
)
_CONVERT = Output(
    call="infini-llama convert --json",
    summary="The model that was made.",
    keys=fields(_CONVERSION, units={"parameters": "parameters", "gates": "parameters"}),
)
_EVAL = Output(
    call="infini-llama eval --json",
    summary="Perplexities by segment, with the memory and without.",
    keys=(
        key("checkpoint", "string", "The model."),
        key("data_sha256", "string", "Over the SHA-256 of the files, in their order."),
        key("documents", "integer", "Documents that were read.", "documents"),
        key("segment_length", "integer", "Length of the model's segments.", "tokens"),
        key("stretches", "array of objects", "Runs of segments, in order; the last one is the whole."),
        *fields(_STRETCH, "stretches[]", units={"tokens": "tokens", "first": "segments", "last": "segments"}),
    ),
)
_RECALL = Output(
    call="infini-llama recall --json",
    summary="One object a line, for each model that was trained.",
    keys=(
        key("variant", "string", "`linear`, `delta`, `gates-shut` or `detached`."),
        key("seed", "integer", "Of weights and rows."),
        key("steps", "integer", "Optimizer steps.", "optimizer steps"),
        key("trained_on_segments", "integer", "Length of the rows in training.", "segments"),
        key("spread", "number", "`memory_write_spread` in training."),
        key("rows", "integer", "Rows behind each figure, of four questions.", "rows"),
        key("chance", "number", "The share of right answers of a model that guesses."),
        key("accuracy", "object", "Segments of a row -> the share of right answers."),
        key("accuracy.*", "number", "From 0 to 1."),
        key("seconds", "number", "Wall-clock time of the model."),
    ),
)
_PASSKEY = Output(
    call="infini-llama recall CHECKPOINT --json",
    summary="One object a line, for each length.",
    keys=(
        key("checkpoint", "string", "The model."),
        key("segments", "integer", "Length of the text.", "segments"),
        key("tokens", "integer", "Length of the text.", "tokens"),
        key("prompts", "integer", "Questions behind each figure.", "questions"),
        key("accuracy", "object", "Where the passkey stood (`start`, `middle`, `end`) -> the share found."),
        key("accuracy.*", "number", "From 0 to 1."),
    ),
)

OUTPUTS = (_TRAIN, _PREPARE, _CONVERT, _EVAL, _RECALL, _PASSKEY)
