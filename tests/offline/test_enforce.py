"""bundler.enforce_offline: the same from inside a program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.offline.conftest import OUTSIDE, PYTHON, BundleRun
from tests.process import run_python


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
        from bundler.offline.attempts import read_attempts
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


def test_a_library_imported_too_early_is_named_with_what_to_do(home: Path) -> None:
    done = run_python(
        """
        import sys
        import datasets
        import bundler
        from bundler.errors import OfflineError
        try:
            bundler.enforce_offline("tiny", hf_home=sys.argv[1])
        except OfflineError as error:
            print(error.message, error.hint, sep="\\n")
        """,
        home,
    )
    message, hint = done.stdout.splitlines()
    assert "after the import of" in message and "datasets" in message and "huggingface_hub" in message
    assert 'bundler.enforce_offline("tiny")' in hint and "bundle run --bundle tiny" in hint


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
