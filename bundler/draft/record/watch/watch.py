"""Inside Python: note what is loaded from the Hub, and which other hosts are asked. Nothing is refused or changed.

Three views, since none sees all:

* the functions by which the libraries get a file or a dataset (`hub_calls`, `dataset_calls`, `url_calls`): they tell
  names and revisions as the program wrote them, also of what the cache has already;
* an audit hook (PEP 578) sees files of a snapshot that Python opens by their path;
* the same hook, and `socket.getaddrinfo`, see connections to other machines, with the line of code.

Rule book:

* a note is one JSON line in a file of this process, in the folder BUNDLE_RECORD_DIR, and the same is noted once;
* whatever goes wrong in here is noted, and never reaches the program;
* this module is loaded in every Python process of a recording, perhaps by an interpreter that has neither this package
  nor anything else: it imports what Python has loaded anyway, and the rest when there is something to note.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # Type checkers know the name; importing it from typing would cost two milliseconds.
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

# Whatever a program does, its notes have an end.
_MOST_NOTES = 100_000
_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120

_noted: set[str] = set()
# Address -> the name that it was looked up by.
_names: dict[str, str] = {}
_installed = False


def install() -> None:
    """Watch this process from now on; once is enough."""
    global _installed
    if _installed or not os.environ.get("BUNDLE_RECORD_DIR"):
        return
    _installed = True
    sys.addaudithook(_on_event)
    for name, wrap in _WRAPPED.items():
        if name in sys.modules:
            wrap(sys.modules[name])
    sys.meta_path.insert(0, _WrapAfterImport())


def note(kind: str, **facts: object) -> None:
    """Add a line to the notes of this process."""
    import json

    line = json.dumps({"kind": kind, **facts}) + "\n"
    if line in _noted or len(_noted) >= _MOST_NOTES:
        return
    _noted.add(line)
    try:
        # One write to a file opened for appending: threads, and a process of the same number elsewhere, do not mix.
        path = f"{os.environ['BUNDLE_RECORD_DIR']}/{os.getpid()}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode("utf-8", "backslashreplace"))
        finally:
            os.close(descriptor)
    except (OSError, KeyError) as error:
        sys.stderr.write(f"bundle record: could not note what was loaded: {error}\n")


def note_safely(noting: Callable[[], None]) -> None:
    """Note something; what fails in that is noted in its place, and never the program's affair."""
    try:
        noting()
    except Exception as error:
        note("fault", text=f"something that was loaded could not be noted: {error!r}"[:500])


def note_after(
    original: Callable[..., Any],
    take_note: Callable[[dict[str, Any], Any, FrameType], None],
    expected: type = object,
) -> Callable[..., Any]:
    """Return a function that does what another does, and notes it.

    Args:
        original: The other.
        take_note: Gets the arguments by name, the result, and the frame of the caller.
        expected: The type of results that are noted.
    """
    import functools
    import inspect

    signature = inspect.signature(original)
    takes_all = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())

    def bind(arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        # One that the function's own wrapper takes away has no place in its signature.
        known = {name: value for name, value in options.items() if takes_all or name in signature.parameters}
        return signature.bind(*arguments, **known).arguments

    @functools.wraps(original)
    def noting(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        frame = sys._getframe(1)
        if isinstance(result, expected):
            note_safely(lambda: take_note(bind(arguments, options), result, frame))
        return result

    return noting


def find_line(frame: FrameType | None) -> dict[str, object]:
    """Return the line of the user's code that is at work, as JSON: file, line, code."""
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is None:
        return {"file": "", "line": 0, "code": ""}
    place = _load_caller().find_caller(frame).line
    return {"file": place.file, "line": place.line, "code": place.code}


def load_sibling(stem: str) -> Any:
    """Return a module beside this one, from its file as this one was, once it is needed."""
    return _load(f"bundler.draft.record.watch.{stem}", f"{_HERE}/{stem}.py")


def _load_caller() -> Any:
    package = os.path.dirname(os.path.dirname(os.path.dirname(_HERE)))  # noqa: PTH120
    return _load("bundler.offline.guard.caller", f"{package}/offline/guard/caller.py")


def _load(name: str, path: str) -> Any:
    from importlib.machinery import SourceFileLoader

    if name not in sys.modules:
        module = type(sys)(name)
        module.__file__ = path
        SourceFileLoader(name, path).exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


# The hook


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    # Called for every audited event of the process: it must leave at once.
    if event == "open":
        path = arguments[0]
        if isinstance(path, str) and "/snapshots/" in path:
            note_safely(lambda: load_sibling("hub_calls").note_path(path))
    elif event == "socket.connect":
        note_safely(lambda: _note_connect(*arguments))


def _note_connect(sock: Any, address: Any) -> None:
    import _socket

    if sock.family not in (_socket.AF_INET, _socket.AF_INET6) or not isinstance(address, tuple):
        return
    host = str(address[0])
    _note_host(_names.get(host, host), int(address[1]), host)


def _note_host(host: str, port: int, address: str = "") -> None:
    import ipaddress

    own = os.uname().nodename.lower()
    if host.lower().rstrip(".") in ("", "localhost", own):
        return
    try:
        number = ipaddress.ip_address((address or host).partition("%")[0])
        number = getattr(number, "ipv4_mapped", None) or number
        if number.is_loopback or number.is_unspecified:
            return
    except ValueError:
        pass  # a name
    # With the address and the command line the kernel's view of the same connection is known again.
    note("host", host=host, port=port, address=address, argv=list(sys.orig_argv), **find_line(sys._getframe(2)))


def _watch_names(socket: ModuleType) -> None:
    """Have `socket.getaddrinfo` tell which name an address came from, and which names have none."""
    original = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else host
        try:
            found = original(host, port, *arguments, **options)
        except OSError:
            if isinstance(name, str) and name:
                number = int(port) if str(port).isdigit() else 0
                note_safely(lambda: _note_host(name, number))
            raise
        if isinstance(name, str) and name and not _is_number(name):
            _names.update({row[4][0]: name for row in found})
        return found

    socket.getaddrinfo = getaddrinfo  # type: ignore[attr-defined]


def _is_number(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


# Libraries


def _wrap_with(stem: str) -> Callable[[ModuleType], None]:
    def wrap(module: ModuleType) -> None:
        note_safely(lambda: load_sibling(stem).wrap(module))

    return wrap


_WRAPPED: dict[str, Callable[[ModuleType], None]] = {
    "socket": _watch_names,
    "huggingface_hub.file_download": _wrap_with("hub_calls"),
    "huggingface_hub._snapshot_download": _wrap_with("hub_calls"),
    "huggingface_hub.hf_api": _wrap_with("hub_calls"),
    "transformers.dynamic_module_utils": _wrap_with("hub_calls"),
    "datasets.load": _wrap_with("dataset_calls"),
    "tiktoken.load": _wrap_with("url_calls"),
    "torch.hub": _wrap_with("url_calls"),
}


class _WrapAfterImport:
    """A finder that finds nothing: it lets the others find a module and has it wrapped once it has run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """See `importlib.abc.MetaPathFinder`."""
        if name not in _WRAPPED:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None and spec.loader is not None:
                # On the instance: each module that is found has a loader of its own.
                setattr(spec.loader, "exec_module", _chain(spec.loader.exec_module, _WRAPPED[name]))  # noqa: B010
                return spec
        return None


def _chain(run: Callable[[ModuleType], None], wrap: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        run(module)
        wrap(module)

    return exec_module
