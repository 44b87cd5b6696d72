"""Run a command online, as it is, and return what it loaded: all that happens before a manifest is written.

Rule book:

* the command has this process's standard streams and process group; signals and its exit code are passed on;
* its environment changes in few places: Python processes are watched (PYTHONPATH, BUNDLE_RECORD_DIR), the Hub's address
  is a door on loopback that passes everything on (HF_ENDPOINT, NO_PROXY), and what every offline launch switches off,
  since it loads nothing, is off (`_SWITCHED_OFF`);
* caches, tokens and offline settings are the user's: what is there already is not downloaded again;
* connections of compiled programs are seen by the kernel's filter where there can be one; otherwise a note says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from bundler.draft.record.child import run_child
from bundler.draft.record.notes import HostUse, Notes, read_notes
from bundler.draft.record.sockets import SocketUse
from bundler.errors import UsageError
from bundler.files.leftovers import make_temporary_folder
from bundler.hub.connection.endpoint import check_endpoint
from bundler.offline.kernel.network_namespace import own_addresses
from bundler.offline.launch.spawn import CommandNotFoundError
from bundler.offline.variables import OFFLINE, put_first_on_python_path
from bundler.serve.aside import open_aside

SITE_FOLDER = Path(__file__).parent / "site"
RECORD_DIR = "BUNDLE_RECORD_DIR"
_DOOR = "bundler.draft.record.front.process"
_DOOR_NOTES = "door.jsonl"
# A conversion of weights that nobody loads, and a count of downloads at another host.
_SWITCHED_OFF = {"DISABLE_SAFETENSORS_CONVERSION": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
# The datasets library asks it for figures about a dataset, and does without.
_VIEWER = "datasets-server."


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that was watched.

    Attributes:
        exit_code: Its exit code; 128 + n if signal n ended it.
        notes: What was seen.
        unseen: What cannot have been seen, in words.
    """

    exit_code: int
    notes: Notes
    unseen: tuple[str, ...]


def run_watched(command: Sequence[str]) -> Ran:
    """Run a command to its end, and note what it loads; to be called in the main thread.

    Args:
        command: Command and arguments.

    Raises:
        UsageError: This is an offline launch, or a recording.
        CommandNotFoundError: There is no such command; CommandNotExecutableError, if it cannot be executed.
        NetworkError: HF_ENDPOINT is not an address.
    """
    if os.environ.get(OFFLINE) == "1" or RECORD_DIR in os.environ:
        raise UsageError(
            "a recording needs a program that may go online, and this is an offline launch or a recording already",
            hint="start `bundle record` outside of `bundle run`, `bundle env` and `bundle record`",
        )
    if shutil.which(command[0]) is None and not Path(command[0]).exists():
        raise CommandNotFoundError(f"{command[0]}: command not found")
    upstream = check_endpoint()
    with make_temporary_folder("bundle-record-") as notes:
        door = (_DOOR, upstream, str(notes / _DOOR_NOTES))
        with open_aside(*door, what=f"the door to {upstream} did not open") as address:
            ended = run_child(command, make_environment(os.environ, address, notes))
        found = read_notes(notes)
    return Ran(
        exit_code=ended.exit_code,
        notes=replace(found, hosts=_join_hosts(found, ended.sockets)),
        unseen=(
            *([ended.why_blind] if ended.why_blind else []),
            *(
                f"{process} outlives the command: what it loads from now on is not recorded"
                for process in ended.left
            ),
            *list_past_door(found.hosts, upstream),
            *found.faults,
        ),
    )


def make_environment(base: Mapping[str, str], address: str, notes: Path) -> dict[str, str]:
    """Return the environment of a command that is recorded.

    Args:
        base: The user's.
        address: Of the door to the Hub.
        notes: Folder for notes.
    """
    environment = dict(base)
    environment["PYTHONPATH"] = put_first_on_python_path(base, str(SITE_FOLDER))
    environment[RECORD_DIR] = str(notes)
    environment["HF_ENDPOINT"] = address
    environment |= _SWITCHED_OFF
    # Both spellings are read, by different clients; the door must not be asked for through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        given = [part for part in base.get(name, "").split(",") if part]
        environment[name] = ",".join(dict.fromkeys([*given, "127.0.0.1", "localhost"]))
    return environment


def _join_hosts(notes: Notes, sockets: Sequence[SocketUse]) -> tuple[HostUse, ...]:
    """Return the hosts that Python was seen to ask, and those that other code was: compiled, or another program."""
    known = {(use.address, use.port, use.argv) for use in notes.hosts}
    own = {str(address) for address in own_addresses()}
    hub = {address for host in notes.hub_hosts for address in _look_up(host)}
    others = [
        HostUse(use.address, use.port, use.program)
        for use in sockets
        if use.address not in hub | own and (use.address, use.port, use.argv) not in known
    ]
    named = (use for use in notes.hosts if use.address not in own and not _is_of_hub(use.host, notes))
    return (*named, *others)


def list_past_door(hosts: Iterable[HostUse], upstream: str) -> list[str]:
    """Return a line for each place that asks the Hub by its own address, and so past the door.

    Args:
        hosts: All hosts that Python was seen to ask.
        upstream: The Hub's address.
    """
    name = urlsplit(upstream).hostname
    past = dict.fromkeys(use.where for use in hosts if use.host == name)
    return [f"{where} asks {name} past HF_ENDPOINT: what it loads there may not be recorded" for where in past]


def _is_of_hub(host: str, notes: Notes) -> bool:
    return host in notes.hub_hosts or host.startswith(_VIEWER)


def _look_up(host: str) -> set[str]:
    with contextlib.suppress(OSError):
        return {str(row[4][0]) for row in socket.getaddrinfo(host, None)}
    return set()
