"""The folder that brings `bundle` to a machine that has Python and nothing else."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from bundler.files.digest import sha256_bytes
from scripts.wheelhouse import installing_commands, list_platforms, main, uv_platform, write_requirements
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.process import run

ROOT = Path(__file__).parents[2]


def test_a_platform_takes_the_wheels_of_older_ones_by_all_their_names() -> None:
    assert list_platforms("manylinux_2_17_x86_64")[:4] == [
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
        "manylinux_2_16_x86_64",
        "manylinux_2_15_x86_64",
    ]
    tags = list_platforms("manylinux_2_28_aarch64")
    assert tags[0] == "manylinux_2_28_aarch64" and tags[-1] == "linux_aarch64"
    assert {"manylinux1_aarch64", "manylinux2010_aarch64", "manylinux2014_aarch64"} <= set(tags)


@pytest.mark.parametrize("name", ["macosx_14_0_arm64", "linux_x86_64", "manylinux2014_x86_64", "win_amd64"])
def test_another_platform_is_refused_with_what_it_should_look_like(name: str) -> None:
    with pytest.raises(click.BadParameter, match=r"expected manylinux_2_N_x86_64 or manylinux_2_N_aarch64"):
        list_platforms(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("manylinux_2_17_x86_64", "x86_64-manylinux_2_17"),
        ("manylinux_2_28_aarch64", "aarch64-manylinux_2_28"),
        ("manylinux_2_29_x86_64", "x86_64-manylinux_2_28"),
        ("manylinux_2_34_x86_64", "x86_64-manylinux_2_34"),
        ("manylinux_2_99_x86_64", "x86_64-manylinux_2_40"),
    ],
)
def test_what_is_resolved_for_is_no_newer_than_the_platform(name: str, expected: str) -> None:
    assert uv_platform(name) == expected


def test_requirements_name_each_wheel_with_its_hash(tmp_path: Path) -> None:
    (tmp_path / "some_name-1.2-py3-none-any.whl").write_bytes(b"wheel")
    lines = write_requirements(tmp_path)
    assert lines == [f"some-name==1.2 --hash=sha256:{sha256_bytes(b'wheel')}"]
    assert (tmp_path / "requirements.txt").read_text() == f"{lines[0]}\n"


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    arguments = ["--python", "3.12", "--platform", "manylinux_2_28_x86_64", "--output", str(tmp_path)]
    with pytest.raises(click.ClickException, match="is there already"):
        main(arguments, standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_the_document_says_the_same_as_the_program() -> None:
    page = (ROOT / "OFFLINE_MODE.md").read_text().replace(" \\\n    ", " ")
    assert "\n".join(installing_commands("wheelhouse")) in page


def _without_network(*words: str | Path, home: Path) -> list[str | Path]:
    """Return a command in an empty environment, where no network is."""
    alone = ["unshare", "--user", "--map-root-user", "--net", "env", "-i", f"HOME={home}", "PATH=/usr/bin:/bin"]
    return [*alone, *words]


def _write_local_wheel(folder: Path, name: str) -> Path:
    """Write an empty wheel of the version in constraints.txt, with a local label."""
    [version] = re.findall(rf"^{name}==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    wheel = folder / f"{name}-{version}+near-py3-none-any.whl"
    info = f"{name}-{version}+near.dist-info"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}+near\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    return wheel


@pytest.mark.slow
def test_it_installs_where_there_is_no_network_and_no_environment_and_bundle_works_there(tmp_path: Path) -> None:
    """Takes 40 MB from a package index: `make test-wheelhouse`."""
    pytest.importorskip("uv")
    if subprocess.run(_without_network("true", home=tmp_path), capture_output=True, check=False).returncode:
        pytest.skip("this kernel gives no network namespace")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    target = f"manylinux_2_{platform.libc_ver()[1].split('.')[1]}_{platform.machine()}"
    house, near = tmp_path / "wheelhouse", tmp_path / "near"
    # One with a local version goes before the index, as the wheels of torch without CUDA do.
    local = _write_local_wheel(near, "pycparser")
    words = ("--python", python, "--platform", target, "--find-links", near, "-o", house)
    run([sys.executable, "-m", "scripts.wheelhouse", *words], cwd=ROOT)
    assert [path.name for path in house.glob("pycparser-*.whl")] == [local.name]

    def alone(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(_without_network(*words, home=tmp_path), cwd=tmp_path, check=check)

    make, install = installing_commands("wheelhouse")
    # Not the Python of this environment, whose packages it would have.
    alone("sh", "-c", make.replace("python3", os.path.realpath(sys.executable), 1))
    alone("sh", "-c", install)
    files = {"config.json": b"{}"}
    bundle = tiny_bundle(tmp_path / "made", locked_repo("org/m", files), contents=files.values())
    assert ": ok" in alone("env/bin/bundle", "verify", bundle).stderr
    alone("env/bin/bundle", "install", bundle, "--hf-home", tmp_path / "hf")
    code = "import huggingface_hub as h; print(h.snapshot_download('org/m'))"
    launched = ("env/bin/bundle", "run", "--hf-home", tmp_path / "hf", "--", "env/bin/python", "-c", code)
    assert (Path(alone(*launched).stdout.strip()) / "config.json").read_bytes() == b"{}"

    # What was changed on the way is not installed.
    [other] = house.glob("click-*.whl")
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("added.py", "")
    refused = alone("sh", "-c", f"{install} --force-reinstall", check=False)
    assert refused.returncode != 0 and "THESE PACKAGES DO NOT MATCH THE HASHES" in refused.stderr
