"""Checkpoints carry their code: where this package is not, `trust_remote_code=True` loads the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, dynamic_module_utils
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM
from infini_llama.model import standalone
from infini_llama.model.standalone import AUTO_MAP, MODELING_FILE, modeling_source
from tests.infini_llama.conftest import MakeModel
from tests.support.hub import RunningHub
from tests.support.process import run, run_python, script

# First lines of a program on a machine that has transformers and nothing of ours.
ELSEWHERE = "import sys; sys.modules |= {'infini_llama': None, 'bundler': None}\n"
LOAD_AND_RUN = f"""{ELSEWHERE}
import json
import torch
from transformers import AutoModel, AutoModelForCausalLM

name = sys.argv[1]
model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True)
tokens = torch.tensor([json.loads(sys.argv[2])])
assert AutoModel.from_pretrained(name, trust_remote_code=True).config.segment_length == 8
generated = model.generate(tokens, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
print(json.dumps(dict(generated=generated.tolist(), logits=model(tokens).logits.tolist())))
"""
SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "segment_length": 8,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
}


@pytest.fixture
def model() -> InfiniLlamaForCausalLM:
    torch.manual_seed(0)
    model: InfiniLlamaForCausalLM = InfiniLlamaForCausalLM(InfiniLlamaConfig(**SMALL)).eval()  # type: ignore[no-untyped-call]
    return model


def answers(model: InfiniLlamaForCausalLM, tokens: torch.Tensor) -> dict[str, Any]:
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return {"generated": model.generate(tokens, **options).tolist(), "logits": model(tokens).logits.tolist()}


@pytest.mark.parametrize("update", ["linear", "delta"])
def test_the_class_in_the_file_computes_to_the_bit_what_the_packages_does(
    make_model: MakeModel, tokens: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: str
) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    ours = make_model(memory_update=update)
    ours.save_pretrained(tmp_path / "saved")
    remote = get_class_from_dynamic_module(AUTO_MAP["AutoModelForCausalLM"], str(tmp_path / "saved"))
    assert remote is not InfiniLlamaForCausalLM
    theirs = remote.from_pretrained(tmp_path / "saved", dtype=torch.float64)
    mask = torch.ones_like(tokens)
    mask[0, :5] = 0
    documents = torch.stack((torch.arange(29) // 11, torch.arange(29) // 18))
    for options in ({}, {"attention_mask": mask}, {"document_ids": documents}):
        gradients = []
        for model in (ours, theirs):
            model.zero_grad()
            result = model(tokens, labels=tokens, **options)
            result.loss.backward()
            gradients.append([result.loss, result.logits, *(p.grad for p in model.parameters())])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_every_saved_model_and_configuration_names_the_file_and_has_it(
    model: InfiniLlamaForCausalLM, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    model.model.save_pretrained(tmp_path / "base")
    model.config.save_pretrained(tmp_path / "config")
    for folder in ("model", "base", "config"):
        assert json.loads((tmp_path / folder / "config.json").read_text())["auto_map"] == AUTO_MAP
        assert (tmp_path / folder / MODELING_FILE).read_text() == modeling_source()


def test_without_this_package_the_model_loads_generates_and_is_saved_with_its_code_again(
    model: InfiniLlamaForCausalLM, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "first")
    code = f"""{ELSEWHERE}
import shutil
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained(sys.argv[3], trust_remote_code=True).save_pretrained(sys.argv[1])
shutil.rmtree(sys.argv[3])
{LOAD_AND_RUN}"""
    row = tokens[:1]
    arguments = (tmp_path / "second", json.dumps(row[0].tolist()), tmp_path / "first")
    found = json.loads(run_python(code, *arguments).stdout)
    expected = answers(model, row)
    assert found["generated"] == expected["generated"]
    torch.testing.assert_close(torch.tensor(found["logits"]), torch.tensor(expected["logits"]), rtol=0, atol=1e-5)


def test_where_the_package_is_imported_its_own_class_loads_the_folder_and_the_file_is_not_run(
    model: InfiniLlamaForCausalLM, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / MODELING_FILE).write_text("raise SystemExit('the file was run')\n")
    for options in ({}, {"trust_remote_code": True}):
        assert type(AutoModelForCausalLM.from_pretrained(tmp_path, **options)) is InfiniLlamaForCausalLM


@pytest.mark.slow
def test_a_folder_is_served_fetched_proven_packed_installed_and_run_like_any_repo(
    model: InfiniLlamaForCausalLM, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "repos" / "org" / "infini")
    entry = "{repo_id: org/infini, trust_remote_code: true}"
    (tmp_path / "tiny.yaml").write_text(f"version: 1\nname: tiny\nmodels: [{entry}]\n")
    with RunningHub(tmp_path / "repos") as hub:
        environment = {**hub.environment(tmp_path / "online"), "BUNDLE_CACHE": str(tmp_path / "cache")}
        fetched = run([script("bundle"), "fetch", "tiny.yaml"], env=environment, cwd=tmp_path)
    assert "its own Python is imported (3 of 3 classes)" in fetched.stderr
    home, program = tmp_path / "hf", tmp_path / "program.py"
    run([script("bundle"), "install", tmp_path / "tiny.tar.zst", "--hf-home", home])
    program.write_text(LOAD_AND_RUN)
    argv = [script("bundle"), "run", "--bundle", "tiny", "--hf-home", home, "--strict", "--", script("python")]
    done = run([*argv, program, "org/infini", json.dumps(tokens[0].tolist())])
    assert json.loads(done.stdout)["generated"] == answers(model, tokens[:1])["generated"]
    assert "attempts   0" in done.stderr


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ({"modeling": "from infini_llama.model import memory\n"}, "expected imports from infini_llama.model.*"),
        ({"modeling": "from bundler.errors import ConfigError\n"}, "expected imports from infini_llama.model.*"),
        ({"modeling": "from infini_llama.model.b import x as y\n", "b": "x = 1\n"}, "found another name for x"),
        ({"modeling": "from infini_llama.model.b import x\ny = 2\n", "b": "x = y = 1\n"}, "found y, as in b.py"),
    ],
)
def test_modules_that_cannot_be_joined_are_refused(
    monkeypatch: pytest.MonkeyPatch, sources: dict[str, str], fault: str
) -> None:
    monkeypatch.setattr(standalone, "_source", sources.__getitem__)
    with pytest.raises(ValueError, match=fault.replace("*", r"\*")):
        modeling_source.__wrapped__()


def test_what_only_the_package_needs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module = '''
"""A module."""
import math
import os
from infini_llama.model.standalone import package_only


class Thing:
    @package_only
    def save(self) -> None:
        os.remove("x")

    # Why it is so.
    def area(self) -> float:
        return math.pi


print("registered")
'''
    monkeypatch.setattr(standalone, "_source", {"modeling": module.lstrip()}.__getitem__)
    text = modeling_source.__wrapped__()
    assert text.split("# infini_llama.model.modeling\n")[1] == (
        "# A module.\n\n\nclass Thing:\n\n    # Why it is so.\n    def area(self) -> float:\n        return math.pi\n"
    )
    assert [line for line in text.splitlines() if line.startswith("import")] == ["import math"]
