"""Inside Python: refuse and note every connection that would leave the machine, and every setting that allows one.

An audit hook (PEP 578) sees what Python's own sockets are asked to do before the kernel does. Loopback, UNIX sockets
and the networks in BUNDLE_ALLOW_NET pass; for anything else it raises at once and appends one JSON line to a file of
this process in BUNDLE_ATTEMPTS_DIR. Sockets of compiled code do not come by here: `isolation` is for those.

Rule book:

* the error is what Python itself raises on a machine without a network, `OSError` or `gaierror`, and becomes
  `URLError`, `ConnectError` and the like: by these, programs know that they must do with a cache of their own. But
  where a client of the Hub or urllib3 asks, which try such errors again for up to a minute, it is neither, and passes
  at the first try; that of urllib3 is turned when it leaves that library (`urllib3_calls`);
* a number in place of a name is not looked up, so it is refused on connecting, not on resolving: one attempt, one
  line;
* a name is looked up only where the answer comes from within reach: /etc/hosts, or name servers that all lie in the
  given networks;
* under BUNDLE_OFFLINE=1 a setting that would undo the launch is an error where it takes effect, with the remedy:
  HF_HUB_OFFLINE switched off, a cache folder other than the verified one;
* `load_dataset` and `evaluate.load` get what they would online, or an error (`dataset_calls`, `metric_calls`);
* an error of a library that was refused nothing, but found nothing in the cache either, gets a last line that says
  what the manifest lacks; one that hides a refusal gets the refusal as its last line;
* this module is loaded in every Python process of a launch, perhaps by an interpreter that has neither this package
  nor anything else: it imports what Python has loaded anyway, and the rest when an attempt is made.

An audit hook cannot be removed, and is inherited by forked children.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # Type checkers know the name; importing it from typing would cost two milliseconds.
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

_LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_SENDS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_REVERSE = "socket.getnameinfo"
_WATCHED = _LOOKUPS | _SENDS | {_REVERSE}

# Empty, and the unspecified addresses, mean this machine to connect(2).
_LOCAL_NAMES = frozenset({"", "localhost", "ip6-localhost", "localhost.localdomain", "0.0.0.0", "::", "::1"})  # noqa: S104

_TRYING_AGAIN = frozenset({"huggingface_hub", "urllib3"})

_TRUE = frozenset({"1", "ON", "YES", "TRUE"})

# What this process has refused, for programs that want to know without reading files; bounded.
attempts: list[dict[str, Any]] = []
_MAX_KEPT = 1000
# The words of the latest, for an error that hides it.
_refusals: list[str] = []

_installed = False


class NetworkRefusedError(RuntimeError):
    """A connection that would have left this machine; nothing was sent."""


def install() -> None:
    """Watch this process from now on; once is enough.

    Raises:
        RuntimeError: The environment of an offline launch was changed so that the libraries would go online.
    """
    global _installed
    if _installed:
        return
    _check_environment()
    sys.addaudithook(_on_event)
    for name, check in _CHECKS.items():
        if name in sys.modules:
            check(sys.modules[name])
    sys.meta_path.insert(0, _CheckAfterImport())
    if os.environ.get("BUNDLE_OFFLINE") == "1":
        sys.excepthook = _add_explanation(sys.excepthook)
    _installed = True


def is_installed() -> bool:
    """Tell whether this process is watched."""
    return _installed


# The hook


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    # Called for every audited event of the process, imports and file opens too: it must leave at once.
    if event not in _WATCHED:
        return
    if event in _SENDS:
        sock, address = arguments
        if not _is_internet(sock) or not isinstance(address, tuple) or not address:
            return
        host, port = _text(address[0]), address[1] if len(address) > 1 else None
    elif event == _REVERSE:
        host, port = _text(arguments[0][0]), None
    else:
        host, port = _text(arguments[0]), arguments[1] if event == "socket.getaddrinfo" else None
        if _is_number(host) and event != "socket.gethostbyaddr":
            return
    try:
        is_allowed = _is_allowed(host)
    except BaseException:
        # A process that has changed its user may not be able to read what the judgement takes: that refuses, too.
        _tell_supervisor()
        raise
    if not is_allowed:
        _refuse(event.removeprefix("socket."), host, port)


def _is_internet(sock: Any) -> bool:
    import _socket

    return sock.family in (_socket.AF_INET, _socket.AF_INET6)


def _text(host: object) -> str:
    if isinstance(host, bytes | bytearray):
        return host.decode("utf-8", "replace")
    return "" if host is None else str(host)


def _is_number(host: str) -> bool:
    """Tell whether `host` is an address, in any form that needs no look-up."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False


def _is_allowed(host: str) -> bool:
    name = host.lower().rstrip(".")
    if name in _LOCAL_NAMES:
        return True
    if not _is_number(host):
        # Programs look up their own machine; launchers such as torchrun do, under its full name.
        own = os.uname().nodename.lower()
        is_own = bool(own) and (name == own or name.startswith(own.partition(".")[0] + "."))
        networks = () if is_own else _read_networks()
        return is_own or (bool(networks) and _load_sibling("look_ups").is_answered_within(name, networks))
    import ipaddress

    address = ipaddress.ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return True
    return any(address in network for network in _read_networks())


def _read_networks() -> list[Any]:
    """Return the networks of BUNDLE_ALLOW_NET; a launcher has added this machine's own addresses."""
    import ipaddress

    texts = os.environ.get("BUNDLE_ALLOW_NET", "").split(",")
    return [ipaddress.ip_network(text, strict=False) for text in texts if text]


def _refuse(event: str, host: str, port: object) -> None:
    target = f"{f'[{host}]' if ':' in host else host}:{port}" if port else host
    # First, for the same reason.
    _tell_supervisor(target)
    asked = _load_sibling("caller").find_caller(sys._getframe(2))
    attempt = {
        "event": event,
        "target": target,
        "pid": os.getpid(),
        "argv": list(sys.orig_argv),
        **asked.as_json(),
    }
    if len(attempts) < _MAX_KEPT:
        attempts.append(attempt)
    if folder := os.environ.get("BUNDLE_ATTEMPTS_DIR"):
        _load_sibling("notes").note_attempt(folder, attempt)
    message = f"offline: {event} to {target} was refused before anything left this machine\n{asked}"
    hint = "an offline launch reaches this machine only: take what is needed along, or drop what asks for it"
    if asked.wanted:
        hint = _load_sibling("missing").explain_refused(asked.wanted, _home())
    _refusals[:] = [f"{message}\n  hint: {hint}"]
    raise _error(message, hint, "" if _is_below(sys._getframe(2), _TRYING_AGAIN) else event)


def _is_below(frame: Any, packages: frozenset[str]) -> bool:
    """Tell whether code of one of some packages is at work in a frame, or called what is."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "")).removeprefix("pip._vendor.")
        if name.partition(".")[0] in packages:
            return True
        frame = frame.f_back
    return False


def _tell_supervisor(target: str = "") -> None:
    """Let the launcher count a refusal where no program of the launch can undo it, whatever becomes of the note.

    It is asked by the kernel about sockets of this family, which does not exist; others get an error. The numbers are
    those of `bundler.offline.kernel.system_calls`; the last is `bundler.offline.guard.attempts.checksum`.
    """
    import _socket

    try:
        from zlib import crc32
    except ImportError:
        checksum = 0
    else:
        checksum = crc32(target.encode("utf-8", "replace")) & 0x7FFFFFFF
    try:
        _socket.socket(0xB0DE, 2, checksum)
    except OSError:
        return


def _error(message: str, hint: str, event: str = "") -> NetworkRefusedError:
    error: NetworkRefusedError = _load_sibling("refusal").make_error(NetworkRefusedError, message, hint, event)
    return error


# Who asked, and for what


def _load_sibling(stem: str) -> Any:
    """Return a module beside this one, from its file as this one was, once it is needed."""
    from importlib.machinery import SourceFileLoader

    name = f"bundler.offline.guard.{stem}"
    if name not in sys.modules:
        loader = SourceFileLoader(name, os.path.join(os.path.dirname(__file__), f"{stem}.py"))  # noqa: PTH118, PTH120
        module = type(sys)(name)
        module.__file__ = loader.path
        loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def _home() -> str:
    return os.environ.get("HF_HOME", "the cache")


def _add_explanation(show: Callable[..., Any]) -> Callable[..., None]:
    """Return an `excepthook` that adds a last line to an error which speaks of internet connections."""

    def excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        show(kind, error, trace)
        _explain(error)

    return excepthook


def _explain_in_threads(threading: ModuleType) -> None:
    """Have errors that end a thread explained, too; they never come to `sys.excepthook`."""
    show = threading.excepthook

    def excepthook(arguments: Any) -> None:
        show(arguments)
        if arguments.exc_value is not None:
            _explain(arguments.exc_value)

    threading.excepthook = excepthook  # type: ignore[attr-defined]


def _explain(error: BaseException) -> None:
    """Say what the cache lacks, or what was refused, where `error` came of that and does not say so."""
    explain = _load_sibling("explain").explain
    explain(error, NetworkRefusedError, _refusals, attempts=len(attempts), home=_home(), load=_load_sibling)


# Settings


def _check_environment() -> None:
    if os.environ.get("BUNDLE_OFFLINE") != "1":
        return
    value = os.environ.get("HF_HUB_OFFLINE", "")
    if value.upper() not in _TRUE:
        raise _error(
            f"HF_HUB_OFFLINE is {value!r} in a process of an offline launch, expected '1' "
            f"(process: {' '.join(sys.orig_argv)})",
            "remove what sets it, in the script between `bundle run` and this process; or, in a shell where "
            "`bundle env` was used, open another one to go online",
        )


def _check_library(module: ModuleType) -> None:
    fault = _load_sibling("settings").find_fault(module)
    if fault:
        raise _error(*fault)


def _answer_from_bundles(module: ModuleType) -> None:
    missing, hub = _load_sibling("missing"), os.environ.get("BUNDLE_HUB_CACHE") or os.path.join(_home(), "hub")  # noqa: PTH118
    is_metric = module.__name__ == "evaluate.loading"
    calls = _load_sibling("metric_calls" if is_metric else "dataset_calls")
    find = missing.finder_of("space" if is_metric else "dataset", _home())
    more = (lambda url: missing.find_file(url, _home()),) if is_metric else ()
    calls.answer_from_bundles(module, find, hub, _error, *more)


def _give_up_at_once(module: ModuleType) -> None:
    is_of_hub: Any = lambda frame: _is_below(frame, _TRYING_AGAIN - {"urllib3"})  # noqa: E731
    _load_sibling("urllib3_calls").give_up_at_once(module, NetworkRefusedError, is_of_hub)


def _only_offline(check: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    return lambda module: check(module) if os.environ.get("BUNDLE_OFFLINE") == "1" else None


_CHECKS = {
    "threading": _only_offline(_explain_in_threads),
    "huggingface_hub.constants": _only_offline(_check_library),
    "datasets.config": _only_offline(_check_library),
    "datasets.load": _only_offline(_answer_from_bundles),
    "datasets.inspect": _only_offline(_answer_from_bundles),
    "evaluate.loading": _only_offline(_answer_from_bundles),
    "urllib3.connectionpool": _give_up_at_once,
    "pip._vendor.urllib3.connectionpool": _give_up_at_once,
}


class _CheckAfterImport:
    """A finder that finds nothing: it lets the others find a module and has it checked once it has run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """See `importlib.abc.MetaPathFinder`."""
        if name not in _CHECKS:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None and spec.loader is not None:
                # On the instance: each module that is found has a loader of its own.
                setattr(spec.loader, "exec_module", _chain(spec.loader.exec_module, _CHECKS[name]))  # noqa: B010
                return spec
        return None


def _chain(run: Callable[[ModuleType], None], check: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        run(module)
        check(module)

    return exec_module
