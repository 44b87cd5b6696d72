"""The one tree of exceptions, bundler.errors with infini_llama.errors: each code is in the table, with one meaning."""

from __future__ import annotations

import inspect

import infini_llama.errors
from bundler import errors
from bundler.errors import EXIT_CODES, BundleError

KINDS = {
    kind
    for module in (errors, infini_llama.errors)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, BundleError)
}


def test_every_error_has_a_code_of_the_table() -> None:
    assert {kind.__name__ for kind in KINDS if kind.exit_code not in EXIT_CODES} == set()


def test_a_code_is_shared_only_where_the_table_says_so() -> None:
    by_code: dict[int, set[str]] = {}
    for kind in KINDS:
        by_code.setdefault(kind.exit_code, set()).add(kind.__name__)
    assert {code: names for code, names in by_code.items() if len(names) > 1} == {
        3: {"ManifestError", "LockError", "PolicyError"},
        5: {"HubError", "RemoteError"},
        6: {"IntegrityError", "DamagedError", "MissingBaseError", "UntrustedError", "ChangedError"},
        11: {"OfflineError", "SandboxError"},
    }
