"""The wheel and the sdist are whole: what is installed from them works where there is no clone and no network."""

from __future__ import annotations

import email
import fnmatch
import platform
import re
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bundler import __version__
from scripts.wheels import EXTENSION
from setup import make_links_absolute
from tests.golden import make
from tests.support.process import run

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def source_files() -> set[str]:
    """The files of this repository, by their paths: all below its folder that .gitignore does not name."""
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()} | {".git"}

    def is_source(path: Path) -> bool:
        name = path.relative_to(ROOT).as_posix()
        return not any(
            fnmatch.fnmatch(part, pattern) or fnmatch.fnmatch(name, f"{pattern}/*")
            for part in Path(name).parts
            for pattern in ignored
        )

    return {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file() and is_source(path)}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it, of a copy: a build writes beside its sources."""
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("packages")
    for name in source_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
        (copy / name).chmod((ROOT / name).stat().st_mode)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy])
    return out


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    (wheel,) = packages.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds the wheel and nothing else; what it requires is found where it is installed."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder])
    python = folder / "bin/python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel])
    (purelib,) = (folder / "lib").glob("python*/site-packages")
    # Folders in a .pth file are searched after the environment's own, and .pth files in them are not read: an editable
    # installation of this repository beside the requirements stays out of sight.
    installed = {*site.getsitepackages(), *(path for path in sys.path if path.endswith("-packages"))}
    (purelib / "requirements.pth").write_text("".join(f"{path}\n" for path in sorted(installed)))
    return folder


def test_the_sdist_is_the_whole_repository(packages: Path) -> None:
    with tarfile.open(packages / f"infini_llama-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
        modes = {member.name.partition("/")[2]: member.mode for member in archive}
    made_by_the_build = {name for name in names if name.startswith("infini_llama.egg-info/")} | {"PKG-INFO"}
    assert names - made_by_the_build == source_files()
    assert modes["flexible_training_workflow.sh"] & 0o111


def test_the_wheel_is_both_packages_with_their_data_and_the_documents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    documents = {name.partition("/share/doc/infini-llama/")[2] for name in names if ".data/" in name}
    assert {"OFFLINE_MODE.md", "bundler/FORMAT.md", "manifests/README.md", "manifests/schema.json"} <= documents
    modules = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    expected = {
        name
        for name in source_files()
        if name.startswith(("bundler/", "infini_llama/"))
        and Path(name).suffix in {".py", ".pyi", ".typed", ".md", ".json"}
    }
    assert modules - {EXTENSION} == expected


def test_the_wheel_is_for_all_pythons_from_the_oldest_one_on(wheel: Path) -> None:
    assert wheel.name == f"infini_llama-{__version__}-cp311-abi3-linux_{platform.machine()}.whl"


def test_the_metadata_has_what_a_registry_shows(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"infini_llama-{__version__}.dist-info/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {metadata["Author"], metadata["Keywords"], metadata["Home-page"]}.isdisjoint({None, ""})
    page = str(metadata.get_payload())
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert f"(https://github.com/infini-llama/infini-llama/blob/v{__version__}/OFFLINE_MODE.md)" in page


@pytest.mark.parametrize(
    ("link", "absolute"),
    [
        ("[a](docs/a.md#b)", "[a](https://github.com/infini-llama/infini-llama/blob/v1/docs/a.md#b)"),
        ("![a](x/p.svg)", "![a](https://raw.githubusercontent.com/infini-llama/infini-llama/v1/x/p.svg)"),
        ('<img src="p.png">', '<img src="https://raw.githubusercontent.com/infini-llama/infini-llama/v1/p.png">'),
        ("[a](https://b.c/d.md)", "[a](https://b.c/d.md)"),
        ("[a](#here)", "[a](#here)"),
        ("[a](mailto:b@c.d)", "[a](mailto:b@c.d)"),
    ],
)
def test_links_of_the_front_page_lead_to_the_release(link: str, absolute: str) -> None:
    assert make_links_absolute(link, "v1") == absolute


def test_commands_of_the_wheel_work_without_a_clone(environment: Path, tmp_path: Path) -> None:
    home, bundle = tmp_path / "home", environment / "bin/bundle"

    def typed(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return run(words, cwd=tmp_path, env={"PATH": f"{environment / 'bin'}:/usr/bin:/bin", "PYTHONPATH": ""})

    text = typed(bundle, "--help").stdout
    (document,) = re.findall(r"share/doc/\S+", text)
    assert "## Exit codes" in (environment / document).read_text()
    assert typed(bundle, "--version").stdout == f"bundle, version {__version__}\n"
    assert "train" in typed(environment / "bin/infini-llama", "--help").stdout

    typed(bundle, "install", make.golden_path("auto"), "--hf-home", home)
    code = (
        "import bundler, os, huggingface_hub, sys; print(bundler.__file__); "
        "print(os.environ['HF_HUB_OFFLINE'], huggingface_hub.hf_hub_download('org/model', 'config.json'))"
    )
    done = typed(bundle, "run", "--hf-home", home, "--bundle", "golden", "--", "python", "-c", code)
    module, said = done.stdout.splitlines()
    assert Path(module).is_relative_to(environment)
    offline, config = said.split(" ", 1)
    assert (offline, Path(config).read_bytes()) == ("1", make.FILES["config.json"])
    refused = [
        *(bundle, "run", "--hf-home", home, "--bundle", "golden", "--", "python", "-c"),
        "import socket; socket.create_connection(('192.0.2.1', 80), 5)",
    ]
    with pytest.raises(AssertionError, match="NetworkRefusedError"):
        typed(*refused)
