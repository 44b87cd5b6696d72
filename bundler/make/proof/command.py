"""Run a command of the user's as a proof: what the bundle will hold is its HF_HOME, and there is no network.

Rule book:

* the command is the user's own, but may run Python of repos: it is held as the proof of an entry is, in time, memory
  and room too;
* it may read the folder in which the fetch was started, and the Python that it starts; of a home no names that begin
  with a dot;
* its working folder is one of its own, gone afterwards, with links to what is in that folder: new files go there, and
  what is there already cannot be changed;
* exit code 0 and no attempt at the network are required; a failure says what was asked for that the bundle lacks;
* one that opens no file of the bundle could not have failed, whatever is in it: it is refused. What it makes of what it
  reads, nobody can know but whoever wrote it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import bundler
from bundler.errors import ProofError, UsageError
from bundler.files.bounded import read_tail
from bundler.make.fetch import blob_path
from bundler.make.proof.process.confinement import SandboxChoice, choose_confinement
from bundler.make.proof.process.folders import Folders
from bundler.make.proof.process.held import Hold
from bundler.make.proof.process.home import assemble
from bundler.make.proof.process.reads import watch_reads
from bundler.make.staging.work import make_temporary_folder
from bundler.make.store import Store
from bundler.offline.guard.attempts import group_attempts
from bundler.offline.kernel.isolation import Requested
from bundler.offline.launch.launch import Completed
from bundler.offline.launch.report import LaunchReport
from bundler.offline.sandbox.limits import Limits
from bundler.offline.sandbox.visible import Interpreter, Visible, visible_to_python
from bundler.plan.layout import layout
from bundler.plan.lock import Lock
from bundler.text.wording import and_more

_SHELL = "/bin/sh"
# Of the output of a command that failed.
_SHOWN_LINES = 15
_MOST_LOG_BYTES = 1 << 20
# What the guard says at the end of a program of what the cache lacks: two lines.
_EXPLAINED = re.compile(r"^offline: (.*)\n +hint: (.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class CommandProof:
    """A command that ran to its end on what the bundle holds, with the network shut.

    Attributes:
        command: The command, as a shell takes it.
        isolation_detail: What kept it off the network, in a phrase for people.
        sandbox_detail: What kept it to its own files, likewise.
        seconds: How long it took.
        read_files: Whether it opened a file of the bundle; None if the system does not tell.
    """

    command: str
    isolation_detail: str
    sandbox_detail: str
    seconds: float
    read_files: bool | None


def prove_command(
    command: str,
    lock: Lock,
    store: Store,
    *,
    isolate: Requested = "auto",
    sandbox: SandboxChoice = "auto",
    limits: Limits,
) -> CommandProof:
    """Run a command in the current folder's place, on what a lock holds and nothing else.

    Args:
        command: For a shell.
        lock: A complete lock, with prepared datasets, whose files are in `store`.
        store: The store with its files.
        isolate: The isolation, as for `bundle run`.
        sandbox: As `choose_confinement` takes it.
        limits: What it may take of this machine; `step_seconds` is its time.

    Raises:
        ProofError: It failed, asked the network for something, went over a limit, or opened no file of the bundle.
        UsageError: The current folder has the home in it.
        OfflineError: This machine does not support `isolate`.
        SandboxError: This machine does not support `sandbox`, which remote code needs.
    """
    chosen = choose_confinement(lock, isolate=isolate, sandbox=sandbox)
    shown = list_program_files(folder := Path.cwd())
    started = time.monotonic()
    with store.work_folder() as work, make_temporary_folder(work) as temporary:
        home = work / "elsewhere" / "home"
        assemble(home, layout(lock), blob_path(store))
        folders = Folders.make(work, home, "prove").with_temporary(temporary)
        folders.write_receipt(lock)
        program, log = folders.scratch / "program", work / "command.log"
        program.mkdir()
        for path in shown:
            (program / path.name).symlink_to(path)
        with watch_reads(folders.content) as reads:
            completed, breach = Hold(isolate=isolate, sandbox=chosen, limits=limits).run(
                # Below a shell of ours: as process 1 of its namespace it would outlive its own signals.
                [_SHELL, "-c", f'{_SHELL} -c "$1"; exit $?', _SHELL, command],
                folders,
                env=folders.command_environment(),
                visible=_show(command, folders, folder, shown),
                cwd=program,
                log=log,
            )
            read_files = reads.were_any()
        said = read_tail(log, _MOST_LOG_BYTES).decode(errors="replace").replace(str(home), "the bundle")
    if what := (breach and f"it was ended: it {breach.what}") or _find_fault(completed, command, home):
        raise _refuse(command, what, completed, lock, said)
    if read_files is False:
        raise _refuse_idle(command)
    return CommandProof(
        command=command,
        isolation_detail=completed.isolation.detail,
        sandbox_detail=chosen.detail,
        seconds=time.monotonic() - started,
        read_files=read_files,
    )


def _refuse_idle(command: str) -> ProofError:
    return ProofError(
        f"`{command}` proves nothing: it ended well, and opened no file of the bundle",
        hint="have it load something of the bundle; HF_HOME is where it finds it",
    )


def list_program_files(folder: Path) -> list[Path]:
    """Return what of a folder a command may read: all; of a home what does not begin with a dot, as keys do.

    Raises:
        UsageError: The home is somewhere below it.
    """
    home = _home()
    if folder in home.parents:
        raise UsageError(
            f"a command that proves may read the folder it is started in, and {folder} has the home {home} in it",
            hint="start `bundle fetch` in the folder of the program",
        )
    return sorted(path for path in folder.iterdir() if folder != home or not path.name.startswith("."))


def _show(command: str, folders: Folders, folder: Path, shown: list[Path]) -> Visible:
    # One folder is one mount, however much is in it.
    program = shown if folder == _home() else [folder]
    read = (Path(bundler.__file__).parent, folders.home, *program)
    visible = visible_to_python(read, folders.writable, others=tuple(_find_interpreters(command)))
    # Python lists the folder of a program to import what is beside it.
    return replace(visible, names=(*visible.names, folder))


def _home() -> Path:
    return Path(os.path.expanduser("~"))  # noqa: PTH111 -- not an error where there is none


def _find_interpreters(command: str) -> Iterator[Interpreter]:
    """Yield the Pythons that a command may start: `python` of PATH, and those beside the programs that it names."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = []  # The shell will say so.
    programs = filter(None, map(shutil.which, dict.fromkeys(["python", "python3", *words])))
    for folder in dict.fromkeys(Path(program).absolute().parent for program in programs):
        for name in ("python", "python3"):
            if (folder / name).exists():
                if (found := Interpreter.ask(str(folder / name))) is not None:
                    yield found
                break


def _find_fault(completed: Completed, command: str, home: Path) -> str | None:
    if completed.exit_code:
        return f"it ended with exit code {completed.exit_code}"
    report = LaunchReport(hf_home=home, bundles=(), command=(command,), completed=completed)
    reason = report.strict_failure()
    return reason and f"it made {reason}"


def _refuse(command: str, what: str, completed: Completed, lock: Lock, said: str) -> ProofError:
    names = {name for repo in lock.repos for name in (repo.repo_id, *repo.aliases)}
    lines = [f"`{command}` does not run offline: {what}"]
    for missing, hint in dict.fromkeys(_EXPLAINED.findall(said)):
        lines += [f"  not found: {missing}", f"  what to change: {hint}"]
    refused = []
    for count, attempt in group_attempts(completed.refused):
        wanted = attempt.wanted if attempt.wanted not in names else ""
        more = f", for {wanted}; have `- repo_id: {wanted}` in the manifest" if wanted else ""
        refused.append(f"{count} x {attempt.target}, by {attempt.where}{more}")
    refused += [
        f"{denial.count} x {denial.target}, by {' '.join(denial.argv)[:200]}" for denial in completed.denials
    ]
    lines += [f"  refused: {line}" for line in and_more(refused)]
    lines += [f"  unknown: {line}" for line in completed.uncounted]
    if end := [line for line in _EXPLAINED.sub("", said).splitlines() if line.strip()][-_SHOWN_LINES:]:
        lines += ["  the end of its output:", *(f"    {line}" for line in end)]
    hints = {
        "Read-only file system": "it may change new files in its working folder, $HOME and $TMPDIR, and no others",
        "took more than": "if it may take so long: --proof-timeout MINUTES",
    }
    hint = next((hint for words, hint in hints.items() if words in what or words in said), None)
    return ProofError("\n".join(lines), hint=hint)
