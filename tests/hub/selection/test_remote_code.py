"""What configurations say about Python of their own."""

from __future__ import annotations

import json

from bundler.hub.selection.remote_code import (
    CodeReference,
    code_references,
    code_warnings,
    module_folders,
)
from bundler.plan.manifest import Entry

CUSTOM = Entry(kind="model", repo_id="org/custom", path="models[0]")
OTHER = Entry(kind="model", repo_id="org/other", trust_remote_code=True, path="models[1]")


def test_classes_are_found_in_every_form_that_transformers_reads() -> None:
    config = {
        "auto_map": {"AutoModel": "modeling_x.XModel", "AutoConfig": "org/other--configuration_x.XConfig"},
        "custom_pipelines": {"x-task": {"impl": "pipeline_x.XPipeline", "pt": ["AutoModel"]}},
    }
    tokenizer = {"auto_map": {"AutoTokenizer": ["tokenization_x.XTokenizer", None]}}
    assert code_references(
        {"config.json": json.dumps(config).encode(), "t.json": json.dumps(tokenizer).encode()}
    ) == [
        CodeReference("config.json", None, "modeling_x.py"),
        CodeReference("config.json", None, "pipeline_x.py"),
        CodeReference("config.json", "org/other", "configuration_x.py"),
        CodeReference("t.json", None, "tokenization_x.py"),
    ]


def test_configurations_that_are_no_such_thing_name_no_code() -> None:
    broken = [b"", b"[]", b"\xff", b"[" * 100_000, b'{"auto_map": 3}', b'{"custom_pipelines": {"a": 1, "b": {}}}']
    assert code_references({f"{index}.json": content for index, content in enumerate(broken)}) == []


def test_code_of_another_repository_is_no_worry_once_that_is_in_the_manifest_and_trusted() -> None:
    reference = CodeReference("config.json", "org/other", "modeling_x.py")
    (warning,) = code_warnings(CUSTOM, [reference], [CUSTOM])
    assert "add org/other to models with trust_remote_code: true" in warning
    assert code_warnings(CUSTOM, [reference], [CUSTOM, OTHER]) == []


def test_the_folders_of_sentence_transformer_modules_are_read() -> None:
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Normalize"}, {"path": 3}, {"path": "../../x"}, "x"]
    assert module_folders(json.dumps(modules).encode()) == ["1_Pooling", "2_Normalize"]
    assert module_folders(b"{") == []
