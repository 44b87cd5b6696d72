"""bundler.offline.guard.guard: what a guarded Python process may do, and what it is refused, without a namespace."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from bundler.offline.guard.attempts import read_attempts
from bundler.offline.variables import SITE_FOLDER
from tests.offline.conftest import OUTSIDE
from tests.offline.guard.conftest import Guarded
from tests.support.messages import Told


def behind_traceback(err: str) -> str:
    """What a process says of the error that ended it, without the way it came."""
    last = [*re.finditer(r"^[\w.]+Error: ", err, re.MULTILINE)][-1]
    return err[last.start() :].replace("\n\n", "\n")


def test_a_connection_to_the_outside_is_refused_and_noted_with_its_code_line(guarded: Guarded) -> None:
    attempts = guarded.run(f"""
        import socket

        def fetch():
            socket.create_connection(("{OUTSIDE}", 443))  # line 5

        fetch()
    """)
    assert guarded.code == 1
    assert [(a.event, a.target, a.line, a.code) for a in attempts] == [
        ("connect", f"{OUTSIDE}:443", 5, f'socket.create_connection(("{OUTSIDE}", 443))  # line 5')
    ]
    assert attempts[0].file.endswith("user_script.py")
    assert "NetworkRefusedError" in guarded.err and f"{OUTSIDE}:443" in guarded.err


@pytest.mark.parametrize(
    "statement",
    [
        'socket.socket().connect_ex(("{outside}", 80))',
        'socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80))',
        'socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("{outside}", 53))',
        'socket.socket(type=socket.SOCK_DGRAM).sendmsg([b"x"], [], 0, ("{outside}", 53))',
        'socket.getaddrinfo("huggingface.co", 443)',
        'socket.gethostbyname("huggingface.co")',
        'socket.gethostbyaddr("{outside}")',
        'socket.getnameinfo(("{outside}", 80), 0)',
        'urllib.request.urlopen("http://{outside}/")',
        'asyncio.run(asyncio.open_connection("{outside}", 80))',
    ],
)
def test_every_way_of_pythons_own_to_the_network_is_refused(guarded: Guarded, statement: str) -> None:
    attempts = guarded.run(f"import asyncio, socket, urllib.request\n{statement.format(outside=OUTSIDE)}\n")
    assert guarded.code == 1
    assert len(attempts) == 1
    assert "NetworkRefusedError" in guarded.err


def test_loopback_unix_sockets_and_the_own_host_are_allowed(guarded: Guarded, tmp_path: Path) -> None:
    attempts = guarded.run(f"""
        import socket
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "localhost"), (socket.AF_INET6, "::1")):
            try:
                server = socket.create_server((host, 0), family=family)
            except OSError:
                continue  # a machine without IPv6
            socket.create_connection((host, server.getsockname()[1])).close()
        server = socket.socket(socket.AF_UNIX)
        server.bind({str(tmp_path / "s")!r})
        server.listen()
        socket.socket(socket.AF_UNIX).connect({str(tmp_path / "s")!r})
        left, right = socket.socketpair()
        left.sendall(b"x")
        try:
            socket.getaddrinfo(socket.gethostname(), 80)
        except OSError:
            pass  # a host that does not know itself
        socket.getaddrinfo("{OUTSIDE}", 80)  # a number needs no look-up
        print("all allowed")
    """)
    assert (guarded.code, attempts) == (0, [])
    assert guarded.out == "all allowed\n"


def test_networks_that_were_allowed_pass(guarded: Guarded) -> None:
    attempts = guarded.run(
        """
        from bundler.offline.guard import guard
        print(guard._is_allowed("10.1.2.3"), guard._is_allowed("10.200.0.1"), guard._is_allowed("fd00::9"))
        """,
        env={"BUNDLE_ALLOW_NET": "10.1.0.0/16,fd00::9"},
    )
    assert attempts == []
    assert guarded.out == "True False True\n", guarded.err


@pytest.mark.parametrize(
    "request_it",
    [
        "from huggingface_hub.utils import http_backoff; from huggingface_hub import constants;"
        'constants.HF_HUB_OFFLINE = False; http_backoff("GET", "https://huggingface.co/")',
        "from huggingface_hub.utils import http_backoff; from huggingface_hub import constants;"
        'constants.HF_HUB_OFFLINE = False; http_backoff("GET", "https://{outside}/")',
    ],
)
def test_a_client_of_the_hub_fails_at_the_first_try(guarded: Guarded, request_it: str) -> None:
    """One attempt: it takes an error of a connection for one that may pass, and tries again for half a minute."""
    attempts = guarded.run(request_it.format(outside=OUTSIDE))
    assert guarded.code == 1
    assert "NetworkRefusedError" in guarded.err
    assert len(attempts) == 1


def test_the_repo_that_a_library_wanted_is_named_with_the_manifest_line_that_brings_it(
    guarded: Guarded, told: Told
) -> None:
    attempts = guarded.run("""
        from huggingface_hub import constants, hf_hub_download
        constants.HF_HUB_OFFLINE = False
        hf_hub_download("org/forgotten", "config.json")
    """)
    assert attempts[0].wanted == "org/forgotten"
    assert attempts[0].line == 4
    # Which line of which library tried is for its version to say.
    words = re.sub(r"(?m)^  through +(\S+:\d+ in .*)\n", "", behind_traceback(guarded.err))
    assert words.count("\n") == behind_traceback(guarded.err).count("\n") - 1
    told("guard", "a library wanted a repo that is not here", words, program=guarded.folder / "user_script.py")


def test_children_and_their_children_are_guarded(guarded: Guarded) -> None:
    attempts = guarded.run(f"""
        import subprocess, sys
        connect = "import socket; socket.socket().connect(('{OUTSIDE}', 80))"
        child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {{connect!r}}])"
        subprocess.run([sys.executable, "-c", child])
    """)
    assert [a.target for a in attempts] == [f"{OUTSIDE}:80"]
    assert attempts[0].argv[1] == "-c"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_are_guarded(guarded: Guarded, method: str) -> None:
    attempts = guarded.run(f"""
        import multiprocessing, socket

        def work():
            socket.socket().connect(("{OUTSIDE}", 80))

        if __name__ == "__main__":
            worker = multiprocessing.get_context("{method}").Process(target=work)
            worker.start()
            worker.join()
    """)
    assert [(a.target, a.line) for a in attempts] == [(f"{OUTSIDE}:80", 5)]


def test_the_users_own_sitecustomize_runs_and_is_the_one_that_is_seen(guarded: Guarded, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "sitecustomize.py").write_text("MARK = 'mine'\n")
    attempts = guarded.run(
        """
        import sys, sitecustomize
        from bundler.offline.guard import guard
        print(sitecustomize.MARK, guard.is_installed(), any("offline/site" in path for path in sys.path))
        """,
        env={"PYTHONPATH": f"{SITE_FOLDER}:{mine}"},
    )
    assert guarded.out == "mine True False\n", guarded.err
    assert attempts == []


def test_an_error_in_the_users_sitecustomize_is_reported_as_python_does(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import no_such_module\n")
    guarded.run("print('went on')", env={"PYTHONPATH": f"{SITE_FOLDER}:{tmp_path}"})
    assert guarded.out == "went on\n"
    assert "Error in sitecustomize" in guarded.err and "no_such_module" in guarded.err


def test_a_program_that_uses_the_package_gets_an_offline_error(guarded: Guarded) -> None:
    guarded.run(f"""
        import socket
        from bundler.errors import OfflineError
        from bundler.offline.guard.guard import NetworkRefusedError
        try:
            socket.socket().connect(("{OUTSIDE}", 80))
        except OfflineError as error:
            print(isinstance(error, NetworkRefusedError), error.exit_code, bool(error.hint))
    """)
    assert guarded.out == "True 11 True\n", guarded.err


@pytest.mark.parametrize("hides", ["from None", ""])
def test_an_error_that_hides_a_refusal_is_followed_by_it(guarded: Guarded, hides: str) -> None:
    guarded.run(f"""
        import socket
        try:
            socket.socket().connect(("{OUTSIDE}", 80))
        except Exception:
            raise OSError("cannot load the file") {hides}
    """)
    assert guarded.err.count(f"offline: connect to {OUTSIDE}:80 was refused") == 1
    assert (guarded.err.rstrip().splitlines()[-1] == "OSError: cannot load the file") is not bool(hides)


def test_an_error_that_came_later_and_of_something_else_tells_of_the_refusals_too(
    guarded: Guarded, told: Told
) -> None:
    guarded.run(f"""
        import socket
        for port in (80, 81):
            try:
                socket.socket().connect(("{OUTSIDE}", port))
            except Exception:
                pass
        raise OSError("no such file")
    """)
    program = guarded.folder / "user_script.py"
    told("guard", "an error that came after refusals", behind_traceback(guarded.err), program=program)


def test_the_guard_imports_nothing_that_python_has_not_loaded(guarded: Guarded) -> None:
    code = "import sys, json; print(json.dumps(sorted(sys.modules)))"
    guarded.run(code)
    with_guard = set(json.loads(guarded.out))
    guarded.run(code, "-E")
    without = set(json.loads(guarded.out))
    # An editable install of the project would have loaded __future__ for its own finder.
    light = {
        "__future__",
        "bundler.offline.guard.guard",
        "sitecustomize",
        "warnings",
        "importlib",
        "importlib.machinery",
    }
    assert with_guard - without <= light | {"importlib._bootstrap", "importlib._bootstrap_external"}


def test_offline_mode_switched_off_between_launch_and_python_stops_the_process(
    guarded: Guarded, told: Told
) -> None:
    guarded.run("print('went on')", env={"HF_HUB_OFFLINE": "0"})
    assert (guarded.code, guarded.out) == (11, "")
    command = f"{sys.executable} {guarded.folder / 'user_script.py'}"
    told("guard", "offline mode was switched off before Python started", guarded.err, command=command)


@pytest.mark.parametrize(
    "line",
    [
        'os.environ["HF_HUB_OFFLINE"] = "0"',
        'os.environ["HF_HOME"] = "/elsewhere"',
        'os.environ["HF_HUB_CACHE"] = "/elsewhere"',
    ],
)
def test_a_program_that_undoes_a_setting_is_stopped_at_the_import(guarded: Guarded, line: str, told: Told) -> None:
    guarded.run(f"import os\n{line}\nimport huggingface_hub.constants\nprint('went on')")
    assert (guarded.code, guarded.out) == (1, "")
    told("guard", f"a program says {line}", behind_traceback(guarded.err), home=guarded.folder / "hf-home")


def test_a_program_that_switches_datasets_online_is_stopped_at_the_import(guarded: Guarded, told: Told) -> None:
    guarded.run("import os\nos.environ['HF_DATASETS_OFFLINE'] = '0'\nimport datasets\n")
    assert guarded.code == 1
    told("guard", "a program switches datasets online", behind_traceback(guarded.err))


def test_a_refusal_that_cannot_be_noted_is_still_a_refusal(guarded: Guarded, told: Told) -> None:
    guarded.run(
        f"import socket; socket.socket().connect(('{OUTSIDE}', 80))", env={"BUNDLE_ATTEMPTS_DIR": "/nowhere"}
    )
    assert guarded.code == 1
    assert "NetworkRefusedError" in guarded.err
    program = guarded.folder / "user_script.py"
    noted, _, rest = guarded.err.partition("\n")
    [number] = re.findall(r"(\d+)\.jsonl", noted)
    told("guard", "a refusal that cannot be noted", noted, number=number)
    told("guard", "a refusal", behind_traceback(rest), program=program)


def test_a_record_cut_short_still_counts_as_an_attempt(tmp_path: Path) -> None:
    (tmp_path / "123.jsonl").write_text('{"event": "conn')
    assert [(a.target, a.pid) for a in read_attempts(tmp_path)] == [("unknown", 123)]
