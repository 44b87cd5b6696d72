"""Programs of others, whole ones, under `bundle run --strict`.

`make test-launches` installs them, in an environment without this package. What they load comes from a bundle; what
they start, servers and workers, talks over loopback. `PROGRAMS` has what one is known to try, which its users give to
`--expect`.
"""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from bundler.home.installation.install import install
from tests.offline.conftest import BundleRun
from tests.support.bundles import locked_repo, tiny_bundle

PYTHON = os.environ.get("LAUNCHED_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="`make test-launches` runs it, in an environment of its own"),
]

# A cluster of one node; it looks for the machine's address by asking for a route to a name server of the outside, and
# whether it is in one of three clouds by their addresses for that.
RAY = """
import ray
ray.init(num_cpus=2, include_dashboard=False)
size = ray.remote(lambda number: abs(number))
print(sum(ray.get([size.remote(-number) for number in range(4)])))
"""
DASK = """
from dask.distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        print(sum(client.gather(client.map(abs, [0, -1, -2, -3]))))
"""
# Its server, and a program that logs there.
MLFLOW = """
import os, socket, subprocess, sys, time
import mlflow
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = subprocess.Popen(
    [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--backend-store-uri", "sqlite:///runs.db"],
    stdout=2, start_new_session=True,
)
try:
    for _ in range(1200):
        with socket.socket() as waiting:
            if waiting.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
    with mlflow.start_run() as run:
        mlflow.log_metric("sum", 6)
    print(int(mlflow.get_run(run.info.run_id).data.metrics["sum"]))
finally:
    os.killpg(server.pid, 9)
    server.wait()
"""
SPACY = """
import spacy
from huggingface_hub import snapshot_download
pipeline = spacy.load(snapshot_download("org/program"))
print(len(list(pipeline("One. Two. Three. Four. Five. Six.").sents)))
"""
MAKE_SPACY = """
import spacy, sys
pipeline = spacy.blank("en")
pipeline.add_pipe("sentencizer")
pipeline.to_disk(sys.argv[1])
"""
LM_EVAL = """
import lm_eval, pathlib
from lm_eval.tasks import TaskManager
pathlib.Path("answers.json").write_text('{"question": "hello", "answer": "world"}\\n' * 6)
pathlib.Path("own.yaml").write_text('''
task: own
dataset_path: json
dataset_kwargs: {data_files: {test: answers.json}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: " {{answer}}"
metric_list: [{metric: perplexity}]
''')
tasks = TaskManager(include_path=".", include_defaults=False)
words = "pretrained=org/program,dtype=float32"
found = lm_eval.simple_evaluate(model="hf", model_args=words, tasks=["own"], task_manager=tasks, device="cpu")
print(len(found["samples"]["own"]))
"""
MAKE_LM_EVAL = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
GPT2LMHeadModel(GPT2Config(vocab_size=4, n_positions=64, n_embd=8, n_layer=1, n_head=2)).save_pretrained(sys.argv[1])
tokenizer = Tokenizer(models.WordLevel({"hello": 0, "world": 1, "[UNK]": 2, "[EOS]": 3}, "[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[EOS]").save_pretrained(sys.argv[1])
"""
OPEN_CLIP = """
import open_clip, torch
model, _, _ = open_clip.create_model_and_transforms("hf-hub:org/program")
words = open_clip.get_tokenizer("hf-hub:org/program")(["one", "two", "three"])
with torch.inference_mode():
    print(len(model.encode_text(words)) + len(model.encode_image(torch.zeros(3, 3, 32, 32))))
"""
MAKE_OPEN_CLIP = """
import json, open_clip, pathlib, sys
from safetensors.torch import save_file
sizes = {"width": 64, "layers": 1}
config = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "patch_size": 16, **sizes},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "heads": 1, **sizes},
}
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"size": 32}}))
model = open_clip.CLIP(**config)
weights = {name: value.contiguous() for name, value in model.state_dict().items()}
save_file(weights, folder / "open_clip_model.safetensors")
"""
# name -> the program, which prints 6; what makes the repo that it loads; what it is known to try.
PROGRAMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ray": (
        RAY,
        "",
        ("169.254.169.254:80", "metadata.google.internal:80", "8.8.8.8:53", "[2001:4860:4860::8888]:53"),
    ),
    "dask": (DASK, "", ()),
    "mlflow": (MLFLOW, "", ()),
    "spacy": (SPACY, MAKE_SPACY, ()),
    "lm_eval": (LM_EVAL, MAKE_LM_EVAL, ()),
    "open_clip": (OPEN_CLIP, MAKE_OPEN_CLIP, ()),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs_and_nothing_is_refused_but_what_is_expected(
    bundle_run: BundleRun, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program, make, expected = PROGRAMS[name]
    if make:
        folder = tmp_path / "made"
        subprocess.run([PYTHON, "-c", make, folder], check=True, capture_output=True)
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        repo = locked_repo("org/program", files)
        install(tiny_bundle(tmp_path / "more", repo, contents=files.values(), name="program"), home)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    options = ["--strict", *(word for target in expected for word in ("--expect", target))]
    ran = bundle_run(PYTHON, tmp_path / "program.py", options=tuple(options))
    assert (ran.code, ran.out.split()[-1:]) == (0, ["6"]), ran.err
