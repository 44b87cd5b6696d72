"""Record, fetch and run programs of others, with no line by hand: ``python -m tests.programs.run --write [NAME]...``.

Each is run online once by `bundle record`, as it is; `bundle fetch` makes the bundle of what that wrote; and it
runs again under `bundle run --strict` in a network namespace, with a home that holds nothing but the bundle. What it
needed goes into a table of docs/record.md, beside the programs that the suite runs in the same three steps.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.marks import Marks
from bundler.plan.manifest import Entry, Manifest
from tests.support.hub import RunningHub
from tests.support.process import run, script

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / ".venv-programs/bin"
DOCUMENT = ROOT / "docs/record.md"
MARKS = Marks("test-programs")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that is run here.

    Attributes:
        what: What it is, for the table.
        argv: Command and arguments; the first word is looked for in the programs' environment.
    """

    what: str
    argv: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A program that the suite records, fetches and runs.

    Attributes:
        what: What it is.
        needed: What that is, as its test asserts.
        test: Where.
    """

    what: str
    needed: str
    test: str


PROGRAMS = {
    "trainer": Program(
        what="the Trainer of transformers, on a model by its old name", argv=("python", str(HERE / "trainer.py"))
    ),
    "trl": Program(
        what="`trl sft --use_peft`: TRL and PEFT",
        argv=(
            *("trl", "sft", "--model_name_or_path", "org/tiny", "--dataset_name", "org/texts", "--use_peft"),
            *("--max_steps", "2", "--per_device_train_batch_size", "2", "--max_length", "16", "--use_cpu"),
            *(
                "--report_to",
                "none",
                "--output_dir",
                "trained",
                "--bf16",
                "false",
            ),
        ),
    ),
    "embedder": Program(
        what="sentence-transformers trains a model with a module of its own",
        argv=("python", str(HERE / "embedder.py")),
    ),
    "diffusers": Program(what="a diffusers pipeline draws", argv=("python", str(HERE / "diffusion.py"))),
    "lm-eval": Program(
        what="`lm_eval` on a task with its dataset",
        argv=(
            *("lm_eval", "run", "--model", "hf", "--model_args", "pretrained=org/tiny", "--tasks", "words"),
            *("--include_path", str(HERE / "tasks"), "--device", "cpu"),
        ),
    ),
    "gguf": Program(what="a GGUF file in transformers", argv=("python", str(HERE / "gguf_file.py"))),
    "pictures": Program(what="a processor with pictures of a dataset", argv=("python", str(HERE / "pictures.py"))),
}
SUITE = (
    Tested(
        what="everything that the matrix loads: an adapter of PEFT, remote code, pickles, shards, tags",
        needed="10 models, one by an old name, one pickled, three with their own Python; 4 tokenizers; 2 datasets",
        test="tests/matrix/test_recorded.py",
    ),
    Tested(
        what="`datasets` with `data_dir`, and with two configurations",
        needed="datasets with `data_dirs`, `configs`, `data_files`",
        test="tests/draft/record/test_datasets.py",
    ),
    Tested(what="`evaluate` with two metrics", needed="2 spaces", test="tests/draft/record/test_kinds.py"),
    Tested(
        what="the `kernels` library",
        needed="2 kernels, by their versions",
        test="tests/draft/record/test_kinds.py",
    ),
    Tested(
        what="a vocabulary of tiktoken",
        needed="a file of another host",
        test="tests/draft/record/test_web_files.py",
    ),
    Tested(
        what="torch.hub: a checkpoint, and Python of a repository",
        needed="files of other hosts",
        test="tests/draft/record/test_web_files.py",
    ),
)


def main() -> int:
    """Run the programs that are named, or all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="Write the table into docs/record.md.")
    parser.add_argument("names", nargs="*", help="Programs; default all.")
    options = parser.parse_args()
    if not ENVIRONMENT.is_dir():
        parser.error(f"there is no {ENVIRONMENT}: run `make test-programs`, which makes it")
    needed: dict[str, Manifest] = {}
    with tempfile.TemporaryDirectory() as folder:
        repos = Path(folder) / "repos"
        python = ENVIRONMENT / "python"
        run([python, "-m", "tests.programs.repos", repos], env={"HF_HUB_OFFLINE": "1"}, cwd=ROOT)
        for name in options.names or PROGRAMS:
            needed[name] = record_fetch_and_run(PROGRAMS[name], repos, Path(folder) / name)
            print(f"{name}: 0 attempts; {describe(needed[name])}", flush=True)
    if options.write and needed.keys() == PROGRAMS.keys():
        MARKS.write(DOCUMENT, table(needed))
    return 0


def record_fetch_and_run(program: Program, repos: Path, folder: Path) -> Manifest:
    """Do the three steps; return the manifest that was recorded.

    Raises:
        AssertionError: A step failed; the message shows what it wrote.
    """
    manifest, bundle = folder / "program.yaml", folder / "program.tar.zst"
    for name in ("online", "offline", "home"):
        (folder / name).mkdir(parents=True)
    found = shutil.which(program.argv[0], path=str(ENVIRONMENT))
    assert found, f"{program.argv[0]} is not in {ENVIRONMENT}: run `make test-programs`"
    argv = [found, *program.argv[1:]]
    with RunningHub(repos) as hub:
        environment = {
            **hub.environment(folder / "hf"),
            "BUNDLE_CACHE": str(folder / "cache"),
            "HOME": str(folder / "home"),
        }
        run([script("bundle"), "record", "-o", manifest, "--", *argv], env=environment, cwd=folder / "online")
        run([script("bundle"), "fetch", manifest, "-o", bundle], env=environment, cwd=folder)
    home = folder / "empty"
    run([script("bundle"), "install", bundle, "--hf-home", home / "hf"])
    words = [script("bundle"), "run", "--hf-home", home / "hf", "--isolate", "netns", "--strict", "--", *argv]
    (home / "user").mkdir()
    done = run(words, env={"HOME": str(home / "user")}, cwd=folder / "offline")
    assert "attempts   0" in done.stderr, done.stderr
    return Manifest.load(manifest)


def describe(manifest: Manifest) -> str:
    """Return what a manifest asks for, in the words of the table."""
    return "; ".join(
        [_describe_entry(entry) for entry in manifest.entries] + [f"file {file.url}" for file in manifest.files]
    )


def _describe_entry(entry: Entry) -> str:
    more = {
        "aliases": ", ".join(entry.aliases),
        "files": ", ".join(entry.allow_patterns or ()),
        "configurations": ", ".join(entry.configs),
        "data_files": ", ".join(entry.data_files),
        "data_dirs": ", ".join(entry.data_dirs),
        "trusted": "its Python" if entry.trust_remote_code else "",
    }
    told = ", ".join(f"{name}: {value}" for name, value in more.items() if value)
    return f"{entry.kind} `{entry.repo_id}`" + (f" ({told})" if told else "")


def table(needed: dict[str, Manifest]) -> str:
    """Return the table of docs/record.md."""
    rows = [(PROGRAMS[name].what, describe(manifest), "`make test-programs`") for name, manifest in needed.items()]
    rows += [(tested.what, tested.needed, f"`{tested.test}`") for tested in SUITE]
    lines = ["| program | what was recorded, and no line by hand | run by |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


if __name__ == "__main__":
    sys.exit(main())
