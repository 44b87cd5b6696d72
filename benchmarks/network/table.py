"""How often a load uses the network, with and without `bundle run`: ``python -m benchmarks.network.table``.

Everything is counted by strace, in the kernel's own terms: each `connect`, `sendto`, `sendmsg` and `sendmmsg` of any
thread or child on a socket of an internet family or to an address of one, loopback included. So a request to the Hub
is one use, and the connection that it goes through another; a look-up of a name is a connect to the name server and a
send. The cache is complete in every cell, and fresh: for `bundle run` the installed bundle of
`tests/matrix/manifest.yaml`, tiny repos of every kind; for the others what `snapshot_download` makes of the same
repos, and the prepared dataset. So 0 is what would do.

Where a cell may reach a Hub, it is ours on loopback, which answers at once; where a proxy is broken, its port is
closed. Each cell is a process of its own. With `--write` the table replaces the one in OFFLINE_MODE.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.marks import Marks

_ROOT = Path(__file__).parents[2]
_DOCUMENT = _ROOT / "OFFLINE_MODE.md"
MARKS = Marks("network-table")
_BUNDLE = Path(sys.executable).with_name("bundle")
_LIMIT_SECONDS = 90.0
_STRACE = ("strace", "-f", "-qq", "-yy", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o")
# As strace -yy writes them: a socket's protocol, or an address in an argument. A call that another thread interrupts
# gets a second line, which begins with "<...".
_USE = re.compile(r"^\d+ +\w+\(.*(?:\d<(?:TCP|UDP|RAW|PING|SCTP|MPTCP)\w*:|sa_family=AF_INET6?\b)", re.M)
# The name of what ended a program, free of what its message may hold.
_NAMING_ITS_END = (
    "import sys; sys.excepthook = lambda kind, *_: print('ended by', kind.__name__, file=sys.stderr)\n"
)
_ENDED = re.compile(r"^ended by (\w+)$", re.M)
_LIBRARIES = ("huggingface_hub", "transformers", "datasets")
_CLOSED = "http://127.0.0.1:9"
_OUTSIDE = re.compile(
    r"(HF|HUGGINGFACE|TRANSFORMERS|DATASETS|BUNDLE)_.*|.*_PROXY|DO_NOT_TRACK|DISABLE_TELEMETRY", re.I
)

_REPOS = ("org/tiny", "org/sharded", "org/pickled", "org/sound")

# Label -> code; {local} and {download} stand for `local_files_only=True`, as either library takes it.
ROWS = {
    "AutoConfig": "from transformers import AutoConfig as X; X.from_pretrained('org/tiny'{local})",
    "AutoTokenizer": "from transformers import AutoTokenizer as X; X.from_pretrained('org/tiny'{local})",
    "AutoModel, safetensors": "from transformers import AutoModel as X; X.from_pretrained('org/tiny'{local})",
    "AutoModel, sharded": "from transformers import AutoModel as X; X.from_pretrained('org/sharded'{local})",
    "AutoModel, .bin only": (
        "from transformers import AutoModel as X; X.from_pretrained('org/pickled'{local}); import threading; "
        "[t.join(20) for t in threading.enumerate() if t is not threading.current_thread()]"
    ),
    "AutoProcessor": "from transformers import AutoProcessor as X; X.from_pretrained('org/sound'{local})",
    "GenerationConfig": "from transformers import GenerationConfig as X; X.from_pretrained('org/tiny'{local})",
    'pipeline("text-generation")': (
        "from transformers import pipeline; pipeline('text-generation', 'org/tiny', device='cpu'{local})"
    ),
    "load_dataset": "from datasets import DownloadConfig, load_dataset; load_dataset('org/Lines'{download})",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One way to run the rows.

    Attributes:
        title: Heading.
        local: Whether `local_files_only=True` is passed.
        broken_proxy: Whether a proxy is set that nobody answers for.
        launched: Whether it goes through `bundle run`.
        undone: Whether the environment says HF_HUB_OFFLINE=0.
        read_only: Whether HF_HOME is mounted read-only.
    """

    title: str
    local: bool = False
    broken_proxy: bool = False
    launched: bool = False
    undone: bool = False
    read_only: bool = False


COLUMNS = (
    Column(title="as it is"),
    Column(title="broken proxy", broken_proxy=True),
    Column(title="`local_files_only`", local=True),
    Column(title="`local_files_only`, broken proxy", local=True, broken_proxy=True),
    Column(title="`bundle run`", launched=True),
    Column(title="… broken proxy", launched=True, broken_proxy=True),
    Column(title="… `HF_HUB_OFFLINE=0`", launched=True, undone=True),
    Column(title="… read-only home", launched=True, read_only=True),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one run came to."""

    uses: int
    outcome: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.uses}{f', {self.outcome}' if self.outcome else ''}"


def measure(work: Path) -> dict[str, list[Cell]]:
    """Measure every row in every column."""
    prepare(work)
    table: dict[str, list[Cell]] = {}
    with serve(work / "repos") as endpoint:
        for label in ROWS:
            table[label] = []
            for column in COLUMNS:
                cell = run_cell(label, column, endpoint, work)
                table[label].append(cell)
                sys.stderr.write(f"{label} | {column.title} | {cell} | {cell.seconds:.1f} s\n")
    return table


def prepare(work: Path) -> None:
    """Build the repos; install their bundle into `work/hf`, and download them into `work/plain` as people do."""
    home = work / "hf"
    shutil.copy(_ROOT / "tests/matrix/manifest.yaml", work / "matrix.yaml")
    _run([sys.executable, "-m", "tests.matrix.repos", work / "repos"], work, HF_HUB_OFFLINE="1")
    with serve(work / "repos") as endpoint:
        _run([_BUNDLE, "fetch", work / "matrix.yaml", "-o", work / "matrix.tar.zst"], work, HF_ENDPOINT=endpoint)
        for repo_id in _REPOS:
            code = f"import huggingface_hub as h; h.snapshot_download({repo_id!r})"
            _run([sys.executable, "-c", code], work, HF_ENDPOINT=endpoint, HF_HOME=str(work / "plain"))
        code = "import datasets as d; d.load_dataset('org/Lines')"
        _run([sys.executable, "-c", code], work, HF_ENDPOINT=endpoint, HF_HOME=str(work / "plain"))
    _run([_BUNDLE, "install", work / "matrix.tar.zst", "--hf-home", home], work)


def _run(argv: list[str | Path], work: Path, **environment: str) -> None:
    own = clean_environment() | {"HOME": str(work), "BUNDLE_CACHE": str(work / "cache")}
    subprocess.run(argv, env=own | environment, cwd=_ROOT, stdout=sys.stderr, check=True)


@contextlib.contextmanager
def serve(repos: Path) -> Iterator[str]:
    """Serve `repos` as a Hub in a process of its own; yields its address."""
    argv: list[str | Path] = [_BUNDLE, "serve", repos, "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def run_cell(label: str, column: Column, endpoint: str, work: Path) -> Cell:
    """Run one row in one column, and count."""
    trace, fresh = work / "trace", work / "fresh"
    trace.unlink(missing_ok=True)
    # A load that goes online may write what it learns into the cache.
    shutil.rmtree(fresh, ignore_errors=True)
    home = shutil.copytree(work / ("hf" if column.launched else "plain"), fresh, symlinks=True)
    local = ", local_files_only=True" if column.local else ""
    download = ", download_config=DownloadConfig(local_files_only=True)" if column.local else ""
    code = ROWS[label].replace("{local}", local).replace("{download}", download)
    argv: list[str | Path] = [*_STRACE, trace, sys.executable, "-c", _NAMING_ITS_END + code]
    if column.launched:
        argv = [_BUNDLE, "run", "--quick", "--hf-home", home, "--", *argv]
    if column.read_only:
        mount = f'mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec "$@"'
        argv = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", *argv]
    environment = clean_environment() | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "OMP_NUM_THREADS": "1"}
    if column.broken_proxy:
        environment |= {"HTTP_PROXY": _CLOSED, "HTTPS_PROXY": _CLOSED, "HF_ENDPOINT": "https://huggingface.co"}
    if column.undone:
        environment["HF_HUB_OFFLINE"] = "0"
    begun = time.monotonic()
    outcome = _outcome(argv, environment, work)
    seconds = time.monotonic() - begun
    return Cell(uses=len(_USE.findall(trace.read_text())), outcome=outcome, seconds=seconds)


def _outcome(argv: list[str | Path], environment: dict[str, str], work: Path) -> str:
    """Run a command to its end, and name what ended it if it was not its own."""
    process = subprocess.Popen(
        argv,
        env=environment,
        cwd=work,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        # What strace has followed would go on without it.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"stopped after {_LIMIT_SECONDS:.0f} s"
    if process.returncode == 0:
        return ""
    ended = _ENDED.findall(said)
    if not ended:
        sys.exit(f"a cell ended with {process.returncode}, and by no exception:\n{said}")
    return str(ended[-1])


def clean_environment() -> dict[str, str]:
    """Return this environment without what concerns Hugging Face or proxies."""
    return {name: value for name, value in os.environ.items() if not _OUTSIDE.fullmatch(name)}


def markdown(table: dict[str, list[Cell]]) -> str:
    """Return the table as it stands in the document."""
    lines = [f"| load | {' | '.join(column.title for column in COLUMNS)} |", "| --- |" + " --- |" * len(COLUMNS)]
    lines += [f"| {label} | {' | '.join(map(str, cells))} |" for label, cells in table.items()]
    return "\n".join(lines)


def circumstances() -> str:
    """Return a sentence that says when and with what it was measured."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    system = f"Python {platform.python_version()}, {platform.system()} {platform.release().partition('-')[0]}"
    return f"Measured on {datetime.datetime.now().astimezone().date()}: {versions}, {system}."


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Count what loads do to the network.")
    parser.add_argument("--write", action="store_true", help="replace the table in OFFLINE_MODE.md")
    parser.add_argument("--json", type=Path, help="also write the counts there")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        sys.exit("strace is not installed")
    with tempfile.TemporaryDirectory(prefix="network-table-") as folder:
        table = measure(Path(folder))
    text = f"{circumstances()}\n\n{markdown(table)}"
    sys.stdout.write(f"{text}\n")
    if options.json:
        cells = {label: [vars(cell) for cell in row] for label, row in table.items()}
        options.json.write_text(json.dumps(cells, indent=1) + "\n")
    if options.write:
        MARKS.write(_DOCUMENT, text)


if __name__ == "__main__":
    main()
