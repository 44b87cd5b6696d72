"""What source code tells of what it loads, and what it does not tell."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.draft.scan.scan import scan
from bundler.errors import UsageError
from bundler.plan.manifest import Entry, Manifest


def entries(folder: Path, code: str) -> dict[str, Entry]:
    """Return the entries that a program needs, by name."""
    path = folder / "program.py"
    path.write_text(code)
    return {entry.repo_id: entry for entry in scan([path]).entries}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('AutoTokenizer.from_pretrained("org/a")', {"org/a": "tokenizer"}),
        ('transformers.AutoModel.from_pretrained("org/a", revision="v1")', {"org/a": "model"}),
        ('AutoConfig.from_pretrained("org/a"); AutoModel.from_pretrained("org/a")', {"org/a": "model"}),
        ('from x import AutoTokenizer as T\nT.from_pretrained("org/a")', {"org/a": "tokenizer"}),
        ('pipeline("text-generation", "org/a", tokenizer="org/b")', {"org/a": "model", "org/b": "tokenizer"}),
        ('SentenceTransformer("org/a")', {"org/a": "model"}),
        ('PeftModel.from_pretrained(base, "org/a")', {"org/a": "model"}),
        ('load_dataset("org/a", "en")', {"org/a": "dataset"}),
        ('snapshot_download(repo_id="org/a", repo_type="dataset")', {"org/a": "dataset"}),
        ('load_dataset("csv", data_files="x.csv")', {}),
        (
            'evaluate.load("accuracy"); evaluate.load("org/own")',
            {"evaluate-metric/accuracy": "space", "org/own": "space"},
        ),
        ('from evaluate import load\nload("accuracy")', {"evaluate-metric/accuracy": "space"}),
        ('evaluate.load("word_length", module_type="measurement")', {"evaluate-measurement/word_length": "space"}),
        ('kernels.get_kernel("org/a", version=1, trust_remote_code=True)', {"org/a": "kernel"}),
        ('AutoModel.from_pretrained("./local"); AutoModel.from_pretrained("/data/model")', {}),
    ],
)
def test_calls_are_known_by_their_names(tmp_path: Path, code: str, expected: dict[str, str]) -> None:
    assert {name: entry.kind for name, entry in entries(tmp_path, code).items()} == expected


@pytest.mark.parametrize(
    "code",
    [
        'NAME = "org/a"\nload(NAME)',
        'ORG = "org"\nload(f"{ORG}/a")',
        'load("org" + "/a")',
        'def f(name="org/a"):\n    load(name)',
        'p.add_argument("--model-name", "-m", default="org/a")\nload(args.model_name)',
        'p.add_argument("--model", dest="base", default="org/a")\nload(args.base)',
        'class A:\n    base: str = field(default="org/a")\nload(a.base)',
        'load(os.environ.get("MODEL", "org/a"))',
        'load(args.model or "org/a")',
        'self.name = "org/a"\nload(self.name)',
        'x, name = 1, "org/a"\nload(name)',
    ],
)
def test_names_are_followed_within_a_file(tmp_path: Path, code: str) -> None:
    assert list(entries(tmp_path, code.replace("load(", "AutoModel.from_pretrained("))) == ["org/a"]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("AutoModel.from_pretrained(sys.argv[1])", 1),
        ("\nfor name in names:\n    load_dataset(name)", 3),
        ('NAME = "org/a"\nNAME = "org/b"\nAutoModel.from_pretrained(NAME)', 3),
        ('AutoModel.from_pretrained("org/a", revision=REVISION)', 1),
        ('pipeline("summarization")', 1),
        ("evaluate.load(METRICS[0])", 1),
        ("x = (", 1),
    ],
)
def test_what_cannot_be_known_is_listed_with_its_line(tmp_path: Path, code: str, line: int) -> None:
    path = tmp_path / "program.py"
    path.write_text(code)
    found = scan([path])
    assert found.entries == ()
    assert [one.where for one in found.unknown] == [f"{path}:{line}"]


def test_what_calls_say_besides_is_in_the_entry(tmp_path: Path) -> None:
    found = entries(
        tmp_path,
        """
AutoModel.from_pretrained("org/code", trust_remote_code=True)
hf_hub_download("org/file", "a.gguf", subfolder="q4")
hf_hub_download("org/file", "b.gguf")
load_dataset("org/data", "en")
load_dataset("org/data", data_files={"train": "x.csv", "test": ["y.csv"]})
load_dataset("org/both", "en")
load_dataset("org/both")
load_dataset("org/folder", data_dir="ada")
get_kernel("org/kernel", version=2)
""",
    )
    assert found["org/code"].trust_remote_code
    assert found["org/file"].allow_patterns == ("q4/a.gguf", "b.gguf")
    assert found["org/data"].configs == ("en",)
    assert found["org/data"].data_files == ('{"train": "x.csv", "test": ["y.csv"]}',)
    assert found["org/both"].configs == ()
    assert found["org/folder"].data_dirs == ("ada",)
    assert found["org/kernel"].revision == "v2"


WEIGHTS = "https://example.org/m/weights.pth"
VOCABULARY = "https://example.org/v.tiktoken"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f'torch.hub.load_state_dict_from_url("{WEIGHTS}")', (WEIGHTS, "torch_hub", None)),
        (
            f'from torch.hub import load_state_dict_from_url as l\nl(url="{WEIGHTS}", file_name="own.pth")',
            (WEIGHTS, "torch_hub", "own.pth"),
        ),
        (
            'torch.hub.load("pytorch/vision:v0.10.0", "resnet18")',
            ("https://github.com/pytorch/vision/zipball/v0.10.0", "torch_hub", None),
        ),
        (
            f'from tiktoken.load import load_tiktoken_bpe\nload_tiktoken_bpe("{VOCABULARY}")',
            (VOCABULARY, "tiktoken", None),
        ),
        (f'URL = "{VOCABULARY}"\nread_file_cached(URL, expected_hash=None)', (VOCABULARY, "tiktoken", None)),
    ],
)
def test_calls_for_files_of_other_hosts_are_known(
    tmp_path: Path, code: str, expected: tuple[str, str, str | None]
) -> None:
    path = tmp_path / "program.py"
    path.write_text(code)
    found = scan([path])
    assert [(entry.url, entry.into, entry.path) for entry in found.web_files] == [expected]
    assert (found.entries, found.unknown) == ((), ())


@pytest.mark.parametrize(
    "code",
    [
        'torch.hub.load("pytorch/vision", "resnet18")',
        f'load_state_dict_from_url("{WEIGHTS}", model_dir="weights")',
        'load_state_dict_from_url("http://example.org/weights.pth")',
        "load_state_dict_from_url(urls[name])",
        'tiktoken.get_encoding("cl100k_base")',
        'from tiktoken import encoding_for_model as e\ne("gpt-4")',
        'nltk.download("punkt_tab")',
    ],
)
def test_files_of_which_only_the_library_knows_the_address_are_listed(tmp_path: Path, code: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(code)
    found = scan([path])
    assert (found.entries, found.web_files, len(found.unknown)) == ((), (), 1)


@pytest.mark.parametrize(
    "code",
    [
        'torch.hub.load("./repo", "m", source="local")',
        'hub.load("https://tfhub.dev/x/1")',
        "load_state_dict_from_url(None)",
    ],
)
def test_what_is_on_this_machine_or_of_another_library_is_no_file(tmp_path: Path, code: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(code)
    assert (scan([path]).web_files, scan([path]).unknown) == ((), ())


def test_folders_and_notebooks_are_read_and_environments_are_not(tmp_path: Path) -> None:
    load = 'AutoModel.from_pretrained("org/{}")\n'
    for path in ("a.py", "sub/b.py", ".hidden/c.py", "env/lib/d.py", "sub/node_modules/e.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(load.format(Path(path).stem))
    (tmp_path / "env" / "pyvenv.cfg").touch()
    cells = [
        {"cell_type": "markdown", "source": ["AutoModel.from_pretrained('org/text')"]},
        {"cell_type": "code", "source": ["%pip install x\n", "!ls\n", load.format("n")]},
        {"cell_type": "code", "source": ["%%bash\n", "echo"]},
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    found = scan([tmp_path])
    assert [entry.repo_id for entry in found.entries] == ["org/a", "org/n", "org/b"]
    assert found.unknown == ()
    with pytest.raises(UsageError):
        scan([tmp_path / "absent.py"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError):
        scan([tmp_path / "empty"])


def test_nothing_is_imported_or_run(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text('import torch, os\nos.abort()\nAutoModel.from_pretrained("org/a")')
    before = set(sys.modules)
    assert [entry.repo_id for entry in scan([path]).entries] == ["org/a"]
    assert "torch" in before or "torch" not in sys.modules


def test_the_command_prints_a_manifest_or_adds_to_one(tmp_path: Path) -> None:
    path, manifest = tmp_path / "program.py", tmp_path / "mine.yaml"
    path.write_text('AutoTokenizer.from_pretrained("org/a")\nAutoModel.from_pretrained(sys.argv[1])\n')
    printed = CliRunner().invoke(main, ["scan", str(path)])
    assert printed.exit_code == 0
    assert [entry.repo_id for entry in Manifest.parse(printed.stdout).entries] == ["org/a"]
    assert f"{path}:2" in printed.stderr
    manifest.write_text("# ours\nversion: 1\nname: mine\n")
    added = CliRunner().invoke(main, ["scan", str(path), "-o", str(manifest)])
    assert added.exit_code == 0, added.output
    assert manifest.read_text() == "# ours\nversion: 1\nname: mine\n\ntokenizers:\n  - repo_id: org/a\n"


def test_files_are_written_beside_repos_once(tmp_path: Path) -> None:
    path, manifest = tmp_path / "program.py", tmp_path / "mine.yaml"
    path.write_text(f'AutoTokenizer.from_pretrained("org/a")\ntorch.hub.load_state_dict_from_url("{WEIGHTS}")\n')
    printed = CliRunner().invoke(main, ["scan", str(path)])
    assert [entry.url for entry in Manifest.parse(printed.stdout).files] == [WEIGHTS]
    for expected in ("added", "unchanged"):
        added = CliRunner().invoke(main, ["scan", str(path), "-o", str(manifest), "--json"])
        assert added.exit_code == 0, added.output
        said = json.loads(added.stdout)
        assert said["web_files"] == [{"url": WEIGHTS, "into": "torch_hub"}]
        changes = said["written"]["changes"]
        assert [(one["status"], one["kind"], one["repo_id"]) for one in changes] == [
            (expected, "tokenizer", "org/a"),
            (expected, "file", WEIGHTS),
        ]
    assert [(entry.url, entry.into) for entry in Manifest.load(manifest).files] == [(WEIGHTS, "torch_hub")]
