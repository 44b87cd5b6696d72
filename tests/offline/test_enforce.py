"""bundler.enforce_offline: the same from inside a program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bundler import enforce_offline
from bundler.home.home import Home
from tests.offline.conftest import OUTSIDE, PYTHON, BundleRun, needs_landlock
from tests.offline.kernel.test_isolation import RAW_CONNECT
from tests.support.messages import Told
from tests.support.process import run, run_python


@pytest.mark.slow
def test_a_program_that_begins_with_it_loads_offline_and_is_guarded(home: Path) -> None:
    done = run_python(
        f"""
        import sys
        import bundler
        (bundle,) = bundler.enforce_offline("tiny", hf_home=sys.argv[1])
        from transformers import AutoTokenizer
        print(bundle.name, AutoTokenizer.from_pretrained("short")("hello").input_ids)
        import socket
        try:
            socket.socket().connect(("{OUTSIDE}", 80))
        except bundler.errors.OfflineError as error:
            print("refused", error.exit_code)
        """,
        home,
        env={"HF_HUB_OFFLINE": "0", "https_proxy": "http://127.0.0.1:9"},
    )
    assert done.stdout == "tiny [0]\nrefused 11\n"


def test_its_children_are_guarded_and_their_attempts_noted(home: Path) -> None:
    done = run_python(
        f"""
        import subprocess, sys
        import bundler
        from bundler.offline.guard.attempts import read_attempts
        from bundler.offline.enforce import attempts_folder
        bundler.enforce_offline(hf_home=sys.argv[1])
        code = "import socket; socket.socket().connect(('{OUTSIDE}', 80))"
        child = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        print(child.returncode, [a.target for a in read_attempts(attempts_folder())])
        print(attempts_folder())
        """,
        home,
    )
    counted, folder = done.stdout.splitlines()
    assert counted == f"1 ['{OUTSIDE}:80']"
    assert not Path(folder).exists()


EARLY = """
import sys, os
import datasets
import bundler
print(os.getpid())
bundler.enforce_offline("tiny", hf_home=sys.argv[1])
print(datasets.config.HF_HUB_OFFLINE, datasets.config.HF_CACHE_HOME == sys.argv[1], sys.argv[2:])
"""


@pytest.mark.slow
def test_after_an_early_import_the_program_is_started_again_with_its_arguments(home: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(EARLY)
    done = run([PYTHON, program, home, "a b", "--flag"])
    first, again, settings = done.stdout.splitlines()
    assert first == again
    assert settings == "True True ['a b', '--flag']"
    assert "starting this program again" in done.stderr and "datasets" in done.stderr


@pytest.mark.slow
def test_it_is_never_started_a_third_time(home: Path) -> None:
    """A program that undoes the environment before its imports would go round for ever."""
    done = run_python(
        f"""
        import os
        os.environ["HF_HUB_OFFLINE"] = "0"
        os.environ["PYTHONPATH"] = ""
        os.environ.pop("BUNDLE_OFFLINE", None)
        {EARLY.strip().replace(chr(10), chr(10) + "        ")}
        """,
        home,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.count("starting this program again") <= 1


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("import sys; sys.ps1 = '>>> '", "interactive session"),
        ("import os\nif os.fork(): os._exit(os.waitstatus_to_exitcode(os.wait()[1]))", "a worker of another"),
        ("import subprocess; child = subprocess.Popen(['sleep', '9'])", "has started other processes"),
    ],
)
def test_where_it_cannot_be_started_again_the_error_says_what_to_do(
    home: Path, prefix: str, reason: str, told: Told
) -> None:
    code = (
        prefix
        + """
import sys
import datasets
import bundler
from bundler.errors import OfflineError
try:
    bundler.enforce_offline("tiny", hf_home=sys.argv[1])
except OfflineError as error:
    print(error.message, error.hint, sep="\\n", flush=True)
if "child" in globals():
    child.kill()
""".replace("\\\\n", "\\n")
    )
    words = run_python(code, home).stdout
    # Which libraries datasets has loaded is for its version to say.
    imported = re.search(r"after the import of (.*?)[:;.] ", words)
    assert imported and "datasets" in imported[1] and "huggingface_hub" in imported[1]
    told(
        "enforce",
        f"it cannot start again: {reason}",
        words,
        imported=imported[1],
        home=Home(home).bundle("tiny").view,
    )


def test_a_program_read_from_standard_input_is_not_started_again(home: Path) -> None:
    done = subprocess.run([PYTHON, "-", home], input=EARLY, capture_output=True, text=True)
    assert done.returncode == 1
    assert "it was read from standard input" in done.stderr


@needs_landlock
def test_the_kernel_refuses_what_compiled_code_and_executed_tools_try(home: Path) -> None:
    done = run_python(
        f"""
        import subprocess, sys, threading
        import bundler
        from bundler.offline.enforce import isolation_in_force
        bundler.enforce_offline("tiny", hf_home=sys.argv[1])
        print(isolation_in_force())
        code = {RAW_CONNECT!r}
        exec(code)
        thread = threading.Thread(target=exec, args=(code, {{}}))
        thread.start(); thread.join()
        print(subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True).stdout.strip())
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        socket.create_connection(server.getsockname())
        """,
        home,
    )
    assert done.stdout == "landlock\n" + "Permission denied\n" * 3


@needs_landlock
def test_threads_that_run_already_are_not_held_which_is_said_and_asking_for_it_is_an_error(
    home: Path, told: Told
) -> None:
    done = run_python(
        """
        import sys, threading
        import bundler
        from bundler.offline.enforce import isolation_in_force
        end = threading.Event()
        threading.Thread(target=end.wait).start()
        try:
            bundler.enforce_offline("tiny", hf_home=sys.argv[1], isolate="landlock")
        except bundler.errors.OfflineError as error:
            print(error.message)
        bundler.enforce_offline("tiny", hf_home=sys.argv[1])
        print(isolation_in_force())
        end.set()
        """,
        home,
    )
    error, kind = done.stdout.splitlines()
    assert kind == "none"
    (line,) = done.stderr.splitlines()
    told("enforce", "threads run already, and landlock was asked for", error)
    told("enforce", "threads run already", line)


@needs_landlock
@pytest.mark.parametrize("isolate", ["auto", "none"])
def test_what_holds_or_was_not_asked_for_is_not_spoken_of(home: Path, isolate: str) -> None:
    code = "import sys, bundler; bundler.enforce_offline('tiny', hf_home=sys.argv[1], isolate=sys.argv[2])"
    assert run_python(code, home, isolate).stderr == ""


def test_a_library_that_was_imported_offline_on_the_same_cache_is_no_fault(home: Path) -> None:
    run_python(
        """
        import sys
        import huggingface_hub.constants
        import bundler
        bundler.enforce_offline("tiny", hf_home=sys.argv[1])
        """,
        home,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)},
    )


def test_a_damaged_bundle_is_refused_and_the_environment_left_alone(home: Path) -> None:
    _damage(home)
    done = run_python(
        """
        import os, sys
        import bundler
        before = dict(os.environ)
        try:
            bundler.enforce_offline("tiny", hf_home=sys.argv[1])
        except bundler.errors.IntegrityError as error:
            print("config.json" in str(error), dict(os.environ) == before)
        """,
        home,
    )
    assert done.stdout == "True True\n"


def test_below_bundle_run_nothing_is_verified_twice(home: Path, bundle_run: BundleRun) -> None:
    """Shown by damage done after the launcher has verified: a second verification would find it."""
    code = (
        "import bundler, pathlib, sys\n"
        "path = next(pathlib.Path(sys.argv[1]).glob('hub/*/snapshots/*/config.json')).resolve()\n"
        "path.write_bytes(b'damaged')\n"
        "print([b.name for b in bundler.enforce_offline('tiny')])\n"
        "try: bundler.enforce_offline('tiny', hf_home=sys.argv[2])\n"
        "except bundler.errors.BundleError as error: print(error.exit_code)\n"
    )
    # The same bundle in another cache was not verified by anybody.
    other = home.with_name("other-home")
    subprocess.run(["cp", "-a", home, other], check=True)
    _damage(other)
    ran = bundle_run(PYTHON, "-c", code, home, other)
    assert ran.out == "['tiny']\n6\n", ran.err


def test_without_any_bundle_the_network_is_shut_all_the_same(tmp_path: Path) -> None:
    done = run_python(
        """
        import os, sys
        import bundler
        print(bundler.enforce_offline(hf_home=sys.argv[1]), os.environ["HF_HUB_OFFLINE"])
        """,
        tmp_path / "empty",
    )
    assert done.stdout == "[] 1\n"


def _damage(home: Path) -> None:
    next(home.glob("hub/*/snapshots/*/config.json")).resolve().write_bytes(b"damaged")


def test_several_names_at_once_are_refused_with_what_was_expected(told: Told) -> None:
    with pytest.raises(TypeError) as caught:
        enforce_offline(["a", "b"])  # type: ignore[arg-type]
    told("enforce", "two names in place of one", caught.value)
