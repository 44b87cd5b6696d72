"""`bundle run`: verify, launch, report; what the command sees and what the caller gets back."""

from __future__ import annotations

import errno
import os
import re
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.home.installation.install import install
from tests.offline.conftest import COUNTING, KINDS, OUTSIDE, PYTHON, BundleRun, needs_netns
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle
from tests.support.messages import Told

CONNECT = f"import socket; socket.socket().connect(('{OUTSIDE}', 80))"
LOAD = "from transformers import AutoTokenizer as A; print(A.from_pretrained('short')('hello world').input_ids)"
BROKEN = {
    "HF_HUB_OFFLINE": "0",
    "https_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HUB_CACHE": "/nowhere",
    "HF_TOKEN_PATH": "/nowhere",
}


@pytest.mark.slow
def test_a_tokenizer_loads_by_alias_with_no_attempt_whatever_the_users_environment_and_code_insist_on(
    bundle_run: BundleRun,
) -> None:
    insisting = [LOAD.replace("'short'", f"'short', {said}") for said in ("token=True", "local_files_only=False")]
    ran = bundle_run(PYTHON, "-c", "\n".join([LOAD, *insisting]), options=("--strict",), env=BROKEN)
    assert (ran.code, ran.out) == (0, "[0, 1]\n" * 3), ran.err
    assert ran.attempts == (0, 0 if KINDS[0] in COUNTING else None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_found_by_alias_with_no_attempt_under_every_kind(bundle_run: BundleRun, kind: str) -> None:
    find = "from huggingface_hub import hf_hub_download as f; print(open(f('short', 'tokenizer.json')).read(1))"
    ran = bundle_run(PYTHON, "-c", find, options=("--isolate", kind, "--strict"), env=BROKEN)
    assert (ran.code, ran.out) == (0, "{\n"), ran.err
    assert ran.attempts == (0, 0 if kind in COUNTING else None)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_strace_sees_no_internet_socket_used(bundle_run: BundleRun, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", trace, PYTHON, "-c", LOAD]
    ran = bundle_run(*words, options=("--isolate", "none"), env=BROKEN)
    if "ptrace" in ran.err:
        pytest.skip("this machine lets nobody trace")
    assert ran.out == "[0, 1]\n"
    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line] == []


def test_attempts_are_reported_with_count_target_and_code_line(bundle_run: BundleRun, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import socket\nfor _ in range(3):\n    try:\n        socket.create_connection(('{OUTSIDE}', 80))\n"
        "    except RuntimeError:\n        pass\n"
    )
    ran = bundle_run(PYTHON, program)
    assert ran.code == 0
    assert ran.attempts[0] == 3
    line = f"3 x {OUTSIDE}:80, by {program}:4 `socket.create_connection(('{OUTSIDE}', 80))`"
    assert line in ran.err


def test_strict_turns_a_swallowed_attempt_into_exit_11(bundle_run: BundleRun) -> None:
    words = [PYTHON, "-c", f"try:\n    {CONNECT.replace('; ', chr(10) + '    ')}\nexcept RuntimeError: pass"]
    assert bundle_run(*words).code == 0
    assert bundle_run(*words, options=("--strict",)).code == 11


@needs_netns
def test_an_attempt_of_compiled_code_counts_under_strict(bundle_run: BundleRun) -> None:
    from tests.offline.kernel.test_isolation import RAW_CONNECT

    ran = bundle_run(PYTHON, "-c", RAW_CONNECT, options=("--strict",))
    assert (ran.code, ran.attempts) == (11, (0, 1))


def test_a_report_that_cannot_be_written_is_refused_before_the_command_starts(
    bundle_run: BundleRun, tmp_path: Path, told: Told
) -> None:
    # Nobody can write there, not even root.
    ran = bundle_run("touch", tmp_path / "started", options=("--report", "/proc/report.json"))
    assert ran.code == 2
    told("launch", "a report that cannot be written", ran.err.replace(os.strerror(errno.ENOENT), "{reason}"))
    assert not (tmp_path / "started").exists()


def test_without_a_namespace_the_report_says_what_it_cannot_know(bundle_run: BundleRun, told: Told) -> None:
    ran = bundle_run("true", options=("--isolate", "none"))
    assert ran.attempts == (0, None)
    (line,) = [line for line in ran.err.splitlines() if line.startswith("  attempts")]
    told("launch", "the report of a launch that the kernel does not count", line)


def test_the_report_names_bundle_digest_and_isolation(bundle_run: BundleRun) -> None:
    ran = bundle_run("true", options=("--isolate", "none"))
    (bundle,) = ran.report["bundles"]  # type: ignore[misc]
    assert bundle["name"] == "tiny"
    assert re.fullmatch("sha256:[0-9a-f]{64}", bundle["digest"])
    assert (bundle["files"], bundle["quick"]) == (3, False)
    assert ran.report["isolation"]["kind"] == "none"  # type: ignore[index]
    assert (ran.report["command"], ran.report["exit_code"]) == (["true"], 0)
    assert f"verified tiny {bundle['digest']}" in ran.err


def test_nothing_of_ours_goes_to_the_commands_stdout(bundle_run: BundleRun) -> None:
    assert bundle_run("echo", "data").out == "data\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "subject", "section"),
    [
        ("from transformers import AutoTokenizer as A; A.from_pretrained('org/gone')", "model org/gone", "models"),
        ("from huggingface_hub import snapshot_download as d; d('org/gone')", "model org/gone", "models"),
        ("from datasets import load_dataset as d; d('org/gone')", "dataset org/gone", "datasets"),
    ],
)
def test_what_is_missing_is_named_with_the_manifest_line_that_brings_it(
    bundle_run: BundleRun, home: Path, code: str, subject: str, section: str
) -> None:
    """The libraries' own words speak of an internet connection."""
    ran = bundle_run(PYTHON, "-c", code)
    assert (ran.code, ran.attempts[0]) == (1, 0)
    assert f"{subject} is not in {home}\n" in ran.err
    assert re.search(f"`- repo_id: .*` under {section}", ran.err)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "from transformers import AutoModel as A; A.from_pretrained('short')",
        "from transformers import AutoTokenizer as A; A.from_pretrained('short', revision='v2')",
        "from huggingface_hub import hf_hub_download as d; d('org/tiny-model', 'model.safetensors')",
    ],
)
def test_of_a_repo_that_is_there_in_part_the_missing_part_is_named(
    bundle_run: BundleRun, home: Path, tmp_path: Path, code: str, told: Told
) -> None:
    files = {"config.json": b"{}"}
    repos = (
        replace(locked_repo("org/tiny-dataset", files, kind="dataset"), configs=("default",)),
        locked_repo("org/tiny-model", files),
    )
    install(tiny_bundle(tmp_path / "more", *repos, name="more", contents=files.values()), home)
    ran = bundle_run(PYTHON, "-c", code)
    assert (ran.code, ran.attempts[0]) == (1, 0)
    [note] = re.findall(r"^offline: .* is not in .*\n  hint: .*", ran.err, re.MULTILINE)
    told("missing", code, note, home=home, commit=COMMIT[:12])


@pytest.mark.slow
def test_what_a_thread_did_not_find_is_named_too(bundle_run: BundleRun, home: Path) -> None:
    code = """
        import threading
        from transformers import AutoTokenizer
        threading.Thread(target=AutoTokenizer.from_pretrained, args=("org/gone",)).start()
    """
    ran = bundle_run(PYTHON, "-c", textwrap.dedent(code))
    assert ran.err.count(f"\noffline: file config.json of model org/gone is not in {home}\n") == 1


# Refusals


def test_a_network_that_is_none_is_an_error_of_the_command_line(
    bundle_run: BundleRun, tmp_path: Path, told: Told
) -> None:
    ran = bundle_run("touch", tmp_path / "started", options=("--allow-net", "nodes.example"))
    assert ran.code == 2
    told("launch", "a network that is none", ran.err)
    assert not (tmp_path / "started").exists()


def test_the_whole_internet_in_reach_is_warned_of(bundle_run: BundleRun, told: Told) -> None:
    for given in (["0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"]):
        options = [word for network in given for word in ("--allow-net", network)]
        ran = bundle_run("true", options=(*options, "--isolate", "none"))
        (line,) = [line for line in ran.err.splitlines() if line.startswith("warning: --allow-net")]
        told("launch", "the whole internet is in reach", line)


def test_a_changed_blob_stops_the_launch_and_is_named(bundle_run: BundleRun, home: Path, tmp_path: Path) -> None:
    (blob,) = [p for p in (home / "hub").glob("*/snapshots/*/tokenizer.json") if "tiny-tokenizer" in str(p)]
    content = bytearray(blob.read_bytes())
    content[10] ^= 1
    blob.resolve().write_bytes(content)
    ran = bundle_run("touch", tmp_path / "started")
    assert ran.code == 6
    assert "tokenizer.json" in ran.err
    assert not (tmp_path / "started").exists()
    assert ran.report == {}


def test_a_missing_blob_stops_even_a_quick_launch(bundle_run: BundleRun, home: Path) -> None:
    next((home / "hub").glob("*/snapshots/*/config.json")).resolve().unlink()
    assert bundle_run("true", options=("--quick",)).code == 6


def test_an_unknown_bundle_is_refused_with_close_names(bundle_run: BundleRun, home: Path, told: Told) -> None:
    ran = bundle_run("true", options=("--bundle", "tinny"))
    assert ran.code == 9
    told("launch", "a bundle that is not installed", ran.err, home=home)


def test_an_empty_cache_is_refused_with_the_next_step(bundle_run: BundleRun, tmp_path: Path, told: Told) -> None:
    ran = bundle_run("true", options=("--hf-home", str(tmp_path / "empty")))
    assert ran.code == 9
    told("launch", "a cache without bundles", ran.err, home=tmp_path / "empty")
