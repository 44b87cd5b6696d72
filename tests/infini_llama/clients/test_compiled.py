"""A training with `training.compile`, with the code that Inductor makes: minutes, so in `make test-clients`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from infini_llama.run_folder.metrics import read_metrics
from infini_llama.settings.sections import parse
from infini_llama.train.run import train
from tests.infini_llama.train.test_run import CONFIG
from tests.support.process import run_python

if not (Path(__file__).parents[3] / ".clients").is_dir():
    pytest.skip("part of `make test-clients`", allow_module_level=True)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    """Forget what other trainings compiled: each is a process of its own, and has lengths of its own."""
    torch._dynamo.reset()


@pytest.mark.parametrize("override", ["training.backprop_segments=2", "data.share_segments=true"])
def test_a_compiled_run_has_the_losses_of_one_that_is_not(tmp_path: Path, override: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat, and the dog sat by the door. " * 40)
    config = CONFIG.replace("tokenizer: gpt2", "tokenizer: bytes\ntokenizer_fallback: byte")
    losses = []
    for compiled in ("false", "true"):
        settings = parse(config, overrides=[override, f"training.compile={compiled}"])
        train(settings, None, raw_data=text, output_dir=tmp_path / compiled)
        losses.append([line["loss"] for line in read_metrics(tmp_path / compiled)])
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert len(losses[0]) == 6


def test_two_compiled_processes_with_shared_out_weights_have_the_losses_of_one_that_is_not(tmp_path: Path) -> None:
    code = """
    import json, sys
    from pathlib import Path
    from tests.infini_llama.parallel.sharded_runs import Runs

    runs = Runs(Path(sys.argv[1]))
    losses = [runs.alone("alone"), runs.sharded("compiled", 2, "training.compile=true")]
    print(json.dumps(losses))
    """
    alone, compiled = json.loads(run_python(code, tmp_path).stdout.splitlines()[-1])
    assert compiled == pytest.approx(alone, abs=1e-5)
    assert len(alone) == 4
