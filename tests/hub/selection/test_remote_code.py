"""What configurations say about Python of their own."""

from __future__ import annotations

import json

from bundler.hub.selection.remote_code import (
    CodeReference,
    code_references,
    code_warnings,
    deeper_naming_files,
    module_folders,
    named_classes,
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
    assert "add to models: - {repo_id: org/other, trust_remote_code: true" in warning
    assert code_warnings(CUSTOM, [reference], [CUSTOM, OTHER]) == []


def test_a_part_of_a_model_names_classes_too() -> None:
    config = {"text_config": {"auto_map": {"AutoModel": "org/part--modeling_y.Y"}}}
    assert code_references({"config.json": json.dumps(config).encode()}) == [
        CodeReference("config.json", "org/part", "modeling_y.py")
    ]


def test_sentence_transformers_modules_name_classes_of_the_repository_or_of_another() -> None:
    types = [
        "custom_st.Module",
        "org/other--st.Module",
        "sentence_transformers.models.Pooling",
        "pylate.models.Dense",
        3,
    ]
    modules = json.dumps([{"path": "", "type": name} for name in types]).encode()
    router = json.dumps({"types": {"query_0": "routed.Module", "document_0": "package.Class"}}).encode()
    found = code_references(
        {"modules.json": modules, "router_config.json": router}, {"custom_st.py", "routed.py", "README.md"}
    )
    assert found == [
        CodeReference("modules.json", None, "custom_st.py"),
        CodeReference("modules.json", "org/other", "st.py"),
        CodeReference("router_config.json", None, "routed.py"),
    ]
    assert named_classes("modules.json", modules) == ["custom_st.Module", "org/other--st.Module"]


def test_the_parts_of_a_pipeline_and_generation_code_are_python_too() -> None:
    index = {
        "_class_name": ["pipeline", "Own"],
        "unet": ["my_unet", "UNet"],
        "vae": ["diffusers", "VAE"],
        "x": [1],
    }
    paths = ["custom_generate/generate.py", "pipeline.py", "unet/my_unet.py", "vae/config.json"]
    assert [one.module for one in code_references({"model_index.json": json.dumps(index).encode()}, paths)] == [
        "custom_generate/generate.py",
        "pipeline.py",
        "unet/my_unet.py",
    ]


def test_files_that_name_python_are_looked_for_in_the_folders_of_modules() -> None:
    modules = json.dumps([{"path": "0_Router", "type": "sentence_transformers.models.Router"}, {"path": "../x"}])
    router = json.dumps({"types": {"query_0_T": "sentence_transformers.models.Transformer", "../y": "x.Y"}})
    paths = {"0_Router/router_config.json", "0_Router/query_0_T/config.json", "../x/config.json"}
    configs = {"modules.json": modules.encode()}
    assert deeper_naming_files(configs, paths) == ["0_Router/router_config.json"]
    configs["0_Router/router_config.json"] = router.encode()
    assert deeper_naming_files(configs, paths) == ["0_Router/query_0_T/config.json"]


def test_the_folders_of_sentence_transformer_modules_are_read() -> None:
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Normalize"}, {"path": 3}, {"path": "../../x"}, "x"]
    assert module_folders(json.dumps(modules).encode()) == ["1_Pooling", "2_Normalize"]
    assert module_folders(b"{") == []
