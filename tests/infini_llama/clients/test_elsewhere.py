"""Programs of others on our checkpoints, where transformers is installed and nothing of ours: `make test-clients`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM
from tests.support.process import run

ENVIRONMENT = Path(__file__).parents[3] / ".venv-clients" / "bin"
if not (ENVIRONMENT / "lm_eval").is_file():
    pytest.skip("`make test-clients` installs the programs", allow_module_level=True)

pytestmark = pytest.mark.slow

ROWS = [
    {
        "question": "The sky is",
        "choices": [" blue", " green"],
        "answer": 0,
        "text": "The sky is blue, and the sea.",
    },
    {"question": "Grass is", "choices": [" blue", " green"], "answer": 1, "text": "Grass is green."},
]
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny model over bytes and its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    vocabulary = {"<end>": 0, **{c: i + 1 for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<end>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = InfiniLlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        segment_length=16,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    InfiniLlamaForCausalLM(config).save_pretrained(folder)
    return folder


def evaluate_elsewhere(code: str, *arguments: str | Path) -> Any:
    """Run code in that environment, and return the JSON that it prints last."""
    program = f"import sys, importlib.util\nassert importlib.util.find_spec('infini_llama') is None\n{code}"
    done = run([ENVIRONMENT / "python", "-I", "-c", program, *arguments], env=OFFLINE)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_line_of_lm_eval(checkpoint: Path, tmp_path: Path) -> None:
    rows, tasks = tmp_path / "rows.jsonl", tmp_path / "tasks"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tasks.mkdir()
    data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {rows}}}}}\ntest_split: test\n"
    choice = 'doc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: "{{answer}}"\n'
    words = 'doc_to_text: ""\ndoc_to_target: "{{text}}"\nmetric_list: [{metric: byte_perplexity}]\n'
    (tasks / "choice.yaml").write_text(
        f"task: choice\noutput_type: multiple_choice\n{data}{choice}metric_list: [{{metric: acc}}]\n"
    )
    (tasks / "words.yaml").write_text(f"task: words\noutput_type: loglikelihood_rolling\n{data}{words}")
    argv = [ENVIRONMENT / "lm_eval", "run", "--model", "hf", "--tasks", "choice,words", "--include_path", tasks]
    argv += ["--model_args", f"pretrained={checkpoint},trust_remote_code=True", "--device", "cpu"]
    run([*argv, "--batch_size", "2", "--output_path", tmp_path / "out"], env=OFFLINE)
    (report,) = (tmp_path / "out").rglob("results*.json")
    results = json.loads(report.read_text())["results"]
    assert results["choice"]["acc,none"] in (0.0, 0.5, 1.0)
    # An untrained model of 257 tokens.
    assert 200 < results["words"]["byte_perplexity,none"] < 350


def test_the_pipeline_of_transformers(checkpoint: Path) -> None:
    code = """
import json
from transformers import pipeline
write = pipeline("text-generation", sys.argv[1], trust_remote_code=True)
print(json.dumps(write(["Grass", "The sky is"], max_new_tokens=20, do_sample=False, batch_size=2)))
"""
    found = evaluate_elsewhere(code, checkpoint)
    model = InfiniLlamaForCausalLM.from_pretrained(checkpoint)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint)
    for text, (answer,) in zip(("Grass", "The sky is"), found, strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids
        expected = model.generate(ids, max_new_tokens=20, do_sample=False)
        assert answer["generated_text"] == tokenizer.decode(expected[0], skip_special_tokens=True)


SFT = """
import json
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

checkpoint, output, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
lora = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], modules_to_save=["gate"], r=4)
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(checkpoint, trust_remote_code=True),
    args=SFTConfig(
        output, max_steps=4, per_device_train_batch_size=2, max_length=64, use_cpu=True, bf16=False, report_to="none",
        logging_steps=1, learning_rate=1e-2, save_strategy="no", **options.get("args", {}),
    ),
    train_dataset=Dataset.from_list([{"text": "Grass is green. " * n} for n in (1, 2, 3, 5) * 4]),
    processing_class=AutoTokenizer.from_pretrained(checkpoint),
    peft_config=lora if options.get("lora") else None,
)
trainer.train()
trainer.save_model()
print(json.dumps([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]))
"""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"args": {"packing": True, "packing_strategy": "wrapped"}},
        {"args": {"packing": True, "padding_free": True}},
        {"args": {"gradient_checkpointing": False}, "lora": True},
    ],
    ids=["plain", "packed", "padding-free", "lora-and-gates"],
)
def test_supervised_fine_tuning_of_trl(checkpoint: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    losses = evaluate_elsewhere(SFT, checkpoint, tmp_path / "out", json.dumps(options))
    assert losses[-1] < losses[0] < 7
    if "lora" not in options:
        trained = InfiniLlamaForCausalLM.from_pretrained(tmp_path / "out")
        assert any(layer.self_attn.gate.bias.ne(0).any() for layer in trained.model.layers)


def test_direct_preference_optimisation_of_trl(checkpoint: Path, tmp_path: Path) -> None:
    code = """
import json
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

rows = [{"prompt": "Grass is", "chosen": " green.", "rejected": " blue and not green at all."}] * 8
model, reference = (AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True) for _ in range(2))
trainer = DPOTrainer(
    model=model,
    ref_model=reference,
    args=DPOConfig(
        sys.argv[2], max_steps=4, per_device_train_batch_size=2, use_cpu=True, bf16=False, report_to="none",
        logging_steps=1, learning_rate=1e-2, save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=AutoTokenizer.from_pretrained(sys.argv[1]),
)
trainer.train()
print(json.dumps([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]))
"""
    losses = evaluate_elsewhere(code, checkpoint, tmp_path / "out")
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < 0.5
