"""`bundle run` keeps secrets of services from the command, and passes on those that are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundler.offline.secrets import find_secrets
from tests.offline.conftest import PYTHON, BundleRun, needs_netns, needs_seccomp

SHOW = """
import json, os, sys
from pathlib import Path
texts = {}
for path in sys.argv[1:]:
    texts[path] = Path(path).read_text()
print(json.dumps({"environment": dict(os.environ), "texts": texts}))
"""
SECRET = {
    "AWS_SECRET_ACCESS_KEY": "s1",
    "AZURE_CLIENT_SECRET": "s2",
    "GITHUB_TOKEN": "s3",
    "GOOGLE_APPLICATION_CREDENTIALS": "/s4",
    "HF_TOKEN": "s5",
    "PGPASSWORD": "s6",
    "WANDB_API_KEY": "s7",
}
PLAIN = {
    "AWS_REGION": "eu",
    "CI": "true",
    "EOS_TOKEN": "</s>",
    "GITHUB_REPOSITORY": "org/name",
    "TOKENIZERS_PARALLELISM": "true",
    "WANDB_PROJECT": "p",
}


def test_names_of_services_secrets_are_told_from_a_programs_own() -> None:
    assert find_secrets([*SECRET, *PLAIN]) == tuple(sorted(SECRET))
    assert find_secrets(SECRET, {"HF_TOKEN", "PGPASSWORD"}) == tuple(
        sorted(SECRET.keys() - {"HF_TOKEN", "PGPASSWORD"})
    )


def test_secrets_are_hidden_and_listed_and_a_named_one_is_passed(bundle_run: BundleRun) -> None:
    ran = bundle_run(
        PYTHON,
        "-c",
        SHOW,
        options=("--pass-env", "WANDB_API_KEY", "--pass-env", "HF_HUB_OFFLINE"),
        env=SECRET | PLAIN,
    )
    seen = json.loads(ran.out)["environment"]
    assert {name: seen.get(name) for name in PLAIN} == PLAIN
    assert {name for name in SECRET if name in seen} == {"HF_TOKEN", "WANDB_API_KEY"}
    assert (seen["HF_TOKEN"], seen["WANDB_API_KEY"]) == ("no-token-offline", "s7")
    assert (seen["HF_TOKEN_PATH"], seen["HF_HUB_OFFLINE"], seen["WANDB_MODE"]) == ("/dev/null", "1", "offline")
    assert ran.report["hidden"] == sorted(SECRET.keys() - {"WANDB_API_KEY"})
    assert "note: --pass-env HF_HUB_OFFLINE" in ran.err and "hidden     AWS_SECRET_ACCESS_KEY" in ran.err
    assert "s1" not in ran.err


@pytest.mark.parametrize(
    "kind", [pytest.param("netns", marks=needs_netns), pytest.param("seccomp", marks=needs_seccomp)]
)
def test_the_token_files_of_a_home_are_empty_inside_unless_the_token_is_passed(
    bundle_run: BundleRun, isolated_environment: Path, kind: str
) -> None:
    usual = isolated_environment / ".cache" / "huggingface"
    usual.mkdir(parents=True)
    files = [usual / "token", usual / "stored_tokens"]
    for path in files:
        path.write_text("hf_secret")
    hidden = bundle_run(PYTHON, "-c", SHOW, *map(str, files), options=("--isolate", kind))
    assert set(json.loads(hidden.out)["texts"].values()) == {""}
    options = ("--isolate", kind, "--pass-env", "HF_TOKEN")
    passed = bundle_run(PYTHON, "-c", SHOW, *map(str, files), options=options, env={"HF_TOKEN": "hf_secret"})
    seen = json.loads(passed.out)
    assert set(seen["texts"].values()) == {"hf_secret"} and seen["environment"]["HF_TOKEN"] == "hf_secret"
    assert [path.read_text() for path in files] == ["hf_secret", "hf_secret"]
