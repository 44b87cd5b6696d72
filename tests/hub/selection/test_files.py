"""Which files an entry takes: tables of real repositories' file lists, and what is taken of them."""

from __future__ import annotations

from typing import Any

import pytest

from bundler.hub.selection.files import Selection, SelectionError, select
from bundler.plan.manifest import Entry


def _words(text: str) -> list[str]:
    return text.split()


GPT2 = _words(
    """
.gitattributes 64-8bits.tflite 64.tflite README.md config.json flax_model.msgpack generation_config.json merges.txt
model.safetensors onnx/config.json onnx/decoder_model.onnx onnx/merges.txt onnx/tokenizer.json onnx/vocab.json
pytorch_model.bin rust_model.ot tf_model.h5 tokenizer.json tokenizer_config.json vocab.json
"""
)

MINILM = _words(
    """
.gitattributes 1_Pooling/config.json README.md config.json config_sentence_transformers.json data_config.json
model.safetensors modules.json onnx/model.onnx onnx/model_O4.onnx openvino/openvino_model.bin
openvino/openvino_model.xml pytorch_model.bin rust_model.ot sentence_bert_config.json special_tokens_map.json
tf_model.h5 tokenizer.json tokenizer_config.json train_script.py vocab.txt
"""
)

LLAMA = _words(
    """
.gitattributes LICENSE.txt README.md USE_POLICY.md config.json generation_config.json
model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json
original/consolidated.00.pth original/params.json original/tokenizer.model special_tokens_map.json tokenizer.json
tokenizer_config.json
"""
)


def chosen(paths: list[str], kind: str = "model", **keys: Any) -> list[str]:
    return list(select(entry(kind, **keys), paths).paths)


def entry(kind: str = "model", **keys: Any) -> Entry:
    return Entry(kind=kind, repo_id="org/name", path=f"{kind}s[0]", **keys)  # type: ignore[arg-type]


def problems(paths: list[str], kind: str = "model", **keys: Any) -> tuple[str, ...]:
    with pytest.raises(SelectionError) as caught:
        select(entry(kind, **keys), paths)
    assert caught.value.exit_code == 3
    return caught.value.problems


def test_a_tokenizer_entry_takes_what_autotokenizer_reads_and_no_weights() -> None:
    assert chosen(GPT2, "tokenizer") == [
        "README.md",
        "config.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
        "source.spm",
        "tiktoken.model",
        "qwen.tiktoken",
        "tekken.json",
        "bpe.codes",
        "entity_vocab.json",
        "vocab-src.json",
        "prophetnet.tokenizer",
        "tokenizer.4.0.0.json",
        "chat_template.jinja",
        "additional_chat_templates/rag.jinja",
    ],
)
def test_a_tokenizer_entry_takes_the_vocabulary_of_any_tokenizer_class(name: str) -> None:
    assert chosen([name, "model.safetensors", "images/vocab.txt"], "tokenizer") == [name]


def test_a_model_entry_takes_each_weight_once() -> None:
    assert chosen(GPT2) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]


def test_a_sharded_model_comes_with_its_index_and_licence_and_without_the_original() -> None:
    assert chosen(LLAMA) == [
        "LICENSE.txt",
        "README.md",
        "USE_POLICY.md",
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_the_modules_of_a_sentence_transformer_come_along() -> None:
    taken = chosen(MINILM)
    assert {"1_Pooling/config.json", "modules.json", "config_sentence_transformers.json"} <= set(taken)
    assert not [path for path in taken if path.startswith(("onnx", "openvino")) or path.endswith((".py", ".bin"))]


def test_half_precision_variants_are_left_out_beside_the_plain_weights() -> None:
    paths = [
        "a/model.fp16.safetensors",
        "a/model.safetensors",
        "b/model-00001-of-00002.safetensors",
        "b/model-00002-of-00002.safetensors",
        "b/model.fp16-00001-of-00001.safetensors",
        "b/model.safetensors.index.fp16.json",
        "b/model.safetensors.index.json",
    ]
    assert chosen(paths) == [
        "a/model.safetensors",
        "b/model-00001-of-00002.safetensors",
        "b/model-00002-of-00002.safetensors",
        "b/model.safetensors.index.json",
    ]


def test_a_variant_that_is_the_only_form_is_taken_with_its_index() -> None:
    paths = [
        "config.json",
        "model.fp16-00001-of-00002.safetensors",
        "model.fp16-00002-of-00002.safetensors",
        "model.safetensors.index.fp16.json",
    ]
    selection = select(entry(), paths)
    assert list(selection.paths) == paths
    assert selection.warnings == (
        "models[0] (org/name): has weights only as variant fp16; they load with variant='fp16'",
    )


def test_a_file_with_a_name_like_a_variant_s_is_taken_unless_it_is_one() -> None:
    loras = ["lora.safetensors", "lora.v2.safetensors", "vae/ae.safetensors", "vae/ae.scaled.safetensors"]
    assert chosen(loras) == loras
    assert chosen(["lora.v2.safetensors"]) == ["lora.v2.safetensors"]
    assert chosen(["flux.fp16.safetensors", "flux.safetensors"]) == ["flux.safetensors"]
    assert chosen(["model.safetensors", "model.v2.safetensors"]) == ["model.safetensors"]


def test_an_only_file_with_a_name_like_a_variant_s_is_not_said_to_load_as_one() -> None:
    assert select(entry(), ["lora.v2.safetensors"]).warnings == ()


def test_what_a_model_entry_leaves_out_is_named_and_not_what_is_for_people() -> None:
    paths = [*GPT2, "figures/loss.png", "handler.py", "embeddings.npy"]
    assert select(entry(), paths).notes == (
        "models[0] (org/name): left out embeddings.npy, 64-8bits.tflite, 64.tflite, flax_model.msgpack, "
        "onnx/decoder_model.onnx and 3 more: other forms of its weights, or files that are no part of a model; "
        "allow_patterns takes any file",
    )
    assert select(entry("tokenizer"), paths).notes == ()


def test_what_a_manifest_leaves_out_itself_is_not_named() -> None:
    files = ["config.json", "model.safetensors", "model.onnx"]
    assert select(entry(ignore_patterns=("*.onnx",)), files).notes == ()
    assert select(entry(allow_patterns=("*.json", "*.safetensors")), files).notes == ()


def test_consolidated_weights_are_left_out_beside_others_and_taken_alone() -> None:
    assert chosen(["consolidated.safetensors", "model.safetensors"]) == ["model.safetensors"]
    assert chosen(["consolidated.safetensors", "params.json"]) == ["consolidated.safetensors", "params.json"]


def test_a_diffusers_pipeline_comes_in_parts_and_not_as_a_single_file() -> None:
    paths = [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "v1-5-pruned.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert chosen(paths) == [paths[0], paths[1], paths[3], paths[5]]


def test_an_adapter_is_a_model() -> None:
    assert chosen(["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "optimizer.pt"]) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


PICKLED = ["config.json", "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json", "training_args.bin"]


def test_pickle_alone_is_refused_with_the_key_that_allows_it() -> None:
    (problem,) = problems(PICKLED)
    assert problem.startswith("models[0].allow_pickle: org/name has pytorch_model-00001-of-00001.bin")
    assert "allow_pickle: true" in problem


def test_pickle_alone_is_taken_with_its_index_where_it_is_allowed() -> None:
    assert chosen(PICKLED, allow_pickle=True) == PICKLED[:3]


def test_pickle_is_not_taken_beside_safetensors_even_where_it_is_allowed() -> None:
    assert "pytorch_model.bin" not in chosen(GPT2, allow_pickle=True)


def test_each_folder_is_judged_by_itself() -> None:
    paths = ["model.safetensors", "2_Dense/config.json", "2_Dense/pytorch_model.bin"]
    (problem,) = problems(paths)
    assert "2_Dense/pytorch_model.bin as pickle only" in problem
    assert chosen(paths, allow_pickle=True) == sorted(paths)


def test_python_is_taken_only_where_it_is_trusted() -> None:
    paths = ["config.json", "model.safetensors", "modeling_x.py", "sub/layers.py"]
    assert chosen(paths) == paths[:2]
    assert chosen(paths, trust_remote_code=True) == paths
    assert chosen(["config.json", "tokenizer.json", "tokenization_x.py"], "tokenizer", trust_remote_code=True) == [
        "config.json",
        "tokenization_x.py",
        "tokenizer.json",
    ]


def test_weights_in_other_formats_only_are_named_in_the_error() -> None:
    assert problems(["config.json", "model.Q4.gguf", "README.md"]) == (
        "models[0] (org/name): expected weights as safetensors, found weights as .gguf; "
        "choose them with allow_patterns",
    )


def test_a_repository_without_a_tokenizer_cannot_be_a_tokenizer_entry() -> None:
    (problem,) = problems(["config.json", "model.safetensors"], "tokenizer")
    assert "no tokenizer files" in problem


def test_a_dataset_entry_takes_everything_but_gits_own_and_the_loading_script() -> None:
    selection = select(
        entry("dataset"), [".gitattributes", "README.md", "data/a.parquet", "data/x.bin", "name.py"]
    )
    assert selection.paths == ("README.md", "data/a.parquet", "data/x.bin")
    assert "refs/convert/parquet" in selection.warnings[0]


def test_allow_patterns_replace_the_default_choice_but_card_and_licence_stay() -> None:
    assert chosen(LLAMA, allow_patterns=("*.safetensors", "original/")) == [
        "LICENSE.txt",
        "README.md",
        "USE_POLICY.md",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "original/params.json",
        "original/tokenizer.model",
    ]


def test_ignore_patterns_subtract_from_whatever_was_chosen() -> None:
    assert chosen(GPT2, "tokenizer", ignore_patterns=("README.md", "tokenizer*")) == [
        "config.json",
        "merges.txt",
        "vocab.json",
    ]


def test_patterns_match_as_in_huggingface_hub() -> None:
    from huggingface_hub.utils import filter_repo_objects

    paths = ["a.json", "b/a.json", "b/c/d.txt", "b.txt", "B/x.json", "[x].json", "e?f"]
    for patterns in (("*.json",), ("b/",), ("b*",), ("?.json",), ("[ab]*",), ("B/*", "e?f"), ("*",)):
        expected = list(filter_repo_objects(paths, allow_patterns=list(patterns)))
        assert chosen(paths, "dataset", allow_patterns=patterns) == sorted(expected)


def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_file() -> None:
    assert problems(GPT2, allow_patterns=("*.json", "model.safetensor"), ignore_patterns=("nope/",)) == (
        "models[0].allow_patterns[1]: 'model.safetensor' matches no file of org/name; "
        "the nearest is model.safetensors",
        "models[0].ignore_patterns[0]: 'nope/' matches no file of org/name",
    )


def test_a_pattern_does_not_lift_a_permission() -> None:
    selection = select(entry(allow_patterns=("*.bin", "*.json")), GPT2)
    assert "pytorch_model.bin" not in selection.paths
    assert selection.warnings == (
        "models[0] (org/name): left out pytorch_model.bin; to take them set allow_pickle: true",
    )
    assert "pytorch_model.bin" in chosen(GPT2, allow_patterns=("*.bin",), allow_pickle=True)


def test_a_choice_of_nothing_but_refused_files_is_an_error() -> None:
    (problem,) = problems(GPT2, allow_patterns=("pytorch_model.bin",))
    assert "allow_pickle: true" in problem


def test_ignoring_everything_is_an_error() -> None:
    assert problems(["a.csv"], "dataset", ignore_patterns=("*",)) == (
        "datasets[0].ignore_patterns: leaves no file of org/name",
    )


def test_absent_lists_probed_names_that_the_commit_lacks_even_when_other_files_are_left_out() -> None:
    selection = select(entry("tokenizer", ignore_patterns=("vocab.json",)), GPT2, probed=["x/config.json"])
    assert selection == Selection(
        paths=("README.md", "config.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"),
        absent=(
            "added_tokens.json",
            "audio_tokenizer_config.json",
            "chat_template.jinja",
            "chat_template.json",
            "preprocessor_config.json",
            "processor_config.json",
            "sentencepiece.bpe.model",
            "special_tokens_map.json",
            "spiece.model",
            "tokenizer.model",
            "video_preprocessor_config.json",
            "vocab.txt",
            "x/config.json",
        ),
    )
