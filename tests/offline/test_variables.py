"""bundler.offline.variables and `bundle env`: the variables of an offline launch."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from bundler.home.home import Home
from bundler.offline.variables import (
    SITE_FOLDER,
    Launch,
    WritableOverlay,
    format_verified,
    offline_environment,
    parse_verified,
)
from tests.support.messages import Told
from tests.support.process import run, script

HOME = Path("/data/hf home")


def test_offline_mode_wins_over_what_the_user_has_set() -> None:
    user = {
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "HF_HOME": "/elsewhere",
    }
    environment = offline_environment(HOME).apply(user)
    assert [environment[n] for n in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")] == ["1"] * 3
    assert environment["HF_HOME"] == str(HOME)


def test_proxies_tokens_endpoints_and_moved_caches_are_dropped() -> None:
    user = {
        "https_proxy": "http://proxy.invalid:3128",
        "HTTP_PROXY": "http://proxy.invalid:3128",
        "ALL_PROXY": "socks5://proxy.invalid",
        "HF_TOKEN": "hf_secret",
        "HUGGING_FACE_HUB_TOKEN": "hf_secret",
        "HF_TOKEN_PATH": "/home/me/token",
        "HF_ENDPOINT": "http://mirror.invalid",
        "HF_HUB_CACHE": "/elsewhere",
        "TRANSFORMERS_CACHE": "/elsewhere",
        "KERNELS_CACHE": "/elsewhere",
    }
    environment = offline_environment(HOME).apply(user)
    assert set(user) & set(environment) == {"HF_TOKEN"}
    assert not set(user.values()) & set(environment.values())


def test_other_variables_and_the_users_python_path_stay() -> None:
    user = {"PATH": "/bin", "PYTHONPATH": "/mine:/also-mine", "WANDB_MODE": "disabled"}
    environment = offline_environment(HOME).apply(user)
    assert environment["PATH"] == "/bin"
    assert environment["PYTHONPATH"] == f"{SITE_FOLDER}:/mine:/also-mine"
    assert environment["WANDB_MODE"] == "disabled"


def test_applying_twice_is_the_same_as_once() -> None:
    changes = offline_environment(HOME, launch=Launch(verified={"a": "sha256:00"}))
    once = changes.apply({"PYTHONPATH": "/mine"})
    assert changes.apply(once) == once


def test_stand_ins_take_the_place_of_folders_in_hf_home() -> None:
    overlay = WritableOverlay(modules=Path("/tmp/m"), datasets=Path("/tmp/d"))
    environment = offline_environment(HOME, overlay=overlay).apply({"HF_MODULES_CACHE": "/elsewhere"})
    assert environment["HF_MODULES_CACHE"] == "/tmp/m"
    assert environment["HF_DATASETS_CACHE"] == "/tmp/d"
    assert "HF_MODULES_CACHE" not in offline_environment(HOME).apply({"HF_MODULES_CACHE": "/elsewhere"})


def test_what_was_verified_does_not_outlive_its_launch() -> None:
    outer = offline_environment(HOME, launch=Launch(verified={"a": "sha256:00"})).apply({})
    assert parse_verified(outer["BUNDLE_VERIFIED"]) == {"a": "sha256:00"}
    assert "BUNDLE_VERIFIED" not in offline_environment(HOME).apply(outer)


def test_verified_bundles_survive_their_text_form() -> None:
    verified = {"b": "sha256:11", "a": "sha256:00"}
    assert parse_verified(format_verified(verified)) == verified
    assert parse_verified("nonsense a= =b") == {}


def test_bundle_env_gives_a_shell_the_same_environment(home: Path) -> None:
    words = 'eval "$("$0" env tiny --hf-home "$1")"; exec env -0'
    user = {"https_proxy": "http://proxy.invalid", "PYTHONPATH": "/mine"}
    done = run(["sh", "-c", words, script("bundle"), home], env=user)
    shell = dict(item.split("=", 1) for item in done.stdout.rstrip("\0").split("\0"))
    view = Home(home).bundle("tiny").view
    ours = offline_environment(home, hub=view / "hub").apply({**os.environ, **user})
    assert {n: shell.get(n) for n in ours if n != "_"} == {n: v for n, v in ours.items() if n != "_"}
    assert "https_proxy" not in shell


def test_bundle_env_as_json_names_what_to_set_and_what_to_unset(home: Path) -> None:
    done = run([script("bundle"), "env", "tiny", "--hf-home", home, "--json"])
    changes = json.loads(done.stdout)
    assert changes["set"]["HF_HOME"] == str(home)
    assert changes["prepend"] == {"PYTHONPATH": str(SITE_FOLDER)}
    assert "https_proxy" in changes["unset"]


def test_bundle_env_evaluated_twice_is_the_same_as_once(home: Path) -> None:
    words = 'eval "$("$0" env tiny --hf-home "$1")"; once=$PYTHONPATH; eval "$("$0" env tiny --hf-home "$1")"; '
    done = run(
        ["sh", "-c", words + 'printf "%s\\n" "$once" "$PYTHONPATH"', script("bundle"), home],
        env={"PYTHONPATH": "/mine"},
    )
    assert done.stdout.split() == [f"{SITE_FOLDER}:/mine"] * 2


def test_bundle_env_puts_the_guard_first_again_where_something_was_put_before_it(home: Path) -> None:
    words = 'eval "$("$0" env tiny --hf-home "$1")"; echo "$PYTHONPATH"'
    done = run(["sh", "-c", words, script("bundle"), home], env={"PYTHONPATH": f"/mine:{SITE_FOLDER}"})
    assert done.stdout.startswith(f"{SITE_FOLDER}:/mine")


SHELLS = [shell for shell in ("bash", "dash", "zsh", "ksh", "busybox") if shutil.which(shell)]


def shell_argv(shell: str) -> list[str]:
    return ["busybox", "sh"] if shell == "busybox" else [shell]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("arguments", "code"), [("tinny", 9), ("tiny --no-such-option", 2)], ids=["not installed", "wrong usage"]
)
def test_a_script_that_evaluates_a_bundle_env_which_failed_stops(
    home: Path, tmp_path: Path, shell: str, arguments: str, code: int
) -> None:
    job = tmp_path / "job.sh"
    job.write_text(f'eval "$("$1" env {arguments} --hf-home "$2")"\necho trained\n')
    outer = tmp_path / "outer.sh"
    outer.write_text('. "$0.inner"\necho trained\n')
    (tmp_path / "outer.sh.inner").write_text(job.read_text())
    for path in (job, outer):
        done = run([*shell_argv(shell), path, script("bundle"), home], check=False)
        assert (done.returncode, done.stdout) == (code, ""), path


@pytest.mark.parametrize("shell", SHELLS)
def test_an_interactive_shell_that_evaluates_a_bundle_env_which_failed_stays_open(home: Path, shell: str) -> None:
    words = 'eval "$("$0" env tinny --hf-home "$1")"; echo "status $?"'
    done = run([*shell_argv(shell), "-i", "-c", words, script("bundle"), home], check=False)
    assert done.stdout == "status 9\n"


def test_the_form_of_the_readme_stops_where_there_is_no_bundle_command(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [form] = re.findall(r"^(settings=\$\(bundle env .*\) \|\| exit\neval .*)$", readme, re.MULTILINE)
    done = run(["/bin/sh", "-c", f"{form}\necho trained"], env={"PATH": str(tmp_path)}, check=False)
    assert (done.returncode, done.stdout) == (127, "")


def test_bundle_env_of_a_bundle_that_is_not_installed_prints_no_variables(home: Path, told: Told) -> None:
    done = run([script("bundle"), "env", "tinny", "--hf-home", home], check=False)
    assert (done.returncode, done.stdout) == (9, "case $- in *i*) (exit 9) ;; *) exit 9 ;; esac\n")
    told("launch", "a bundle that is not installed", done.stderr, home=home)
    as_json = run([script("bundle"), "env", "tinny", "--hf-home", home, "--json"], check=False)
    assert (as_json.returncode, json.loads(as_json.stdout)["error"]["exit_code"]) == (9, 9)
