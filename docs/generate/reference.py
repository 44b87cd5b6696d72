"""The pages of `docs/reference/`: commands, exit codes and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from bundler import errors
from bundler.cli import main as bundle
from bundler.console.group import ErrorGroup
from docs.generate import bundle_outputs, draft_outputs, trainer_outputs, transfer_outputs
from docs.generate.outputs import Output
from infini_llama import errors as training_errors
from infini_llama.cli import main as infini_llama

NOTICE = "<!-- written by `make docs`, do not edit -->"
OUTPUTS = (*draft_outputs.OUTPUTS, *bundle_outputs.OUTPUTS, *transfer_outputs.OUTPUTS, *trainer_outputs.OUTPUTS)
# Wide enough for the tables of options, and no wider than a page shows.
_WIDTH = 100


def commands() -> str:
    """Return the page of all commands, each with its own help text."""
    parts = [
        "# Commands\n",
        NOTICE,
        "\nEach text is what `--help` prints. Exit codes: [exit-codes.md](exit-codes.md). Keys of `--json`: "
        "[json.md](json.md).\n",
    ]
    for name, group in (("bundle", bundle), ("infini-llama", infini_llama)):
        parts += [f"## `{name}`\n", f"```text\n{_help(group, name)}\n```\n"]
        context = click.Context(group, info_name=name)
        for command in group.list_commands(context):
            found = group.get_command(context, command)
            assert found is not None
            parts += [f"### `{name} {command}`\n", f"```text\n{_help(found, command, group, name)}\n```\n"]
            if isinstance(found, ErrorGroup):
                # A group among the commands has commands of its own.
                inner = click.Context(found, parent=context, info_name=command)
                for below in found.list_commands(inner):
                    deepest = found.get_command(inner, below)
                    assert deepest is not None
                    text = _help(deepest, below, found, f"{name} {command}", settings=group.context_settings)
                    parts += [f"### `{name} {command} {below}`\n", f"```text\n{text}\n```\n"]
    return "\n".join(parts)


def _help(
    command: click.Command,
    name: str,
    group: ErrorGroup | None = None,
    group_name: str = "",
    *,
    settings: Mapping[str, Any] | None = None,
) -> str:
    # The group's settings, and those of the group above it, hold for its commands: they are made with its context, as
    # `main` makes them.
    above = None
    if group is not None:
        inherited = {**(settings or {}), **group.context_settings}
        above = click.Context(group, info_name=group_name, terminal_width=_WIDTH, **inherited)
    own = {**command.context_settings, "terminal_width": _WIDTH}
    return command.get_help(click.Context(command, parent=above, info_name=name, **own)).rstrip()


def exit_codes() -> str:
    """Return the page of all exit codes, with the errors that end in them."""
    by_code: dict[int, list[type[errors.BundleError]]] = {}
    for kind in _error_types(errors.BundleError):
        by_code.setdefault(kind.exit_code, []).append(kind)
    lines = [
        "# Exit codes\n",
        NOTICE,
        "\nThe same for `bundle` and `infini-llama`. A code is never given another meaning. "
        "[OFFLINE_MODE.md](../../OFFLINE_MODE.md#exit-codes) says what to do about some of them.\n",
        "| code | meaning | errors |",
        "| --- | --- | --- |",
    ]
    for code, meaning in errors.EXIT_CODES.items():
        names = ", ".join(f"`{kind.__name__}`" for kind in by_code.get(code, []))
        lines.append(f"| {code} | {meaning} | {names} |")
    lines += [
        "\n## Errors\n",
        "All are in `bundler/errors.py`, those of a training in `infini_llama/errors.py`.\n",
        "| error | code | is raised when |",
        "| --- | --- | --- |",
    ]
    for kind in _error_types(errors.BundleError):
        if kind is not errors.BundleError:
            lines.append(f"| `{kind.__name__}` | {kind.exit_code} | {(kind.__doc__ or '').splitlines()[0]} |")
    return "\n".join([*lines, ""])


def _error_types(kind: type[errors.BundleError]) -> Iterator[type[errors.BundleError]]:
    """Yield a class and those below it, of the modules that are meant to hold them all."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ in (errors.__name__, training_errors.__name__):
            yield from _error_types(below)


def json_page() -> str:
    """Return the page of all outputs in JSON."""
    contents = "\n".join(f"- [{_shown(output)}](#{output.anchor})" for output in OUTPUTS)
    head = (
        "A path such as `repos[].files` means the key `files` of each object in the array `repos`; `set.*` means any "
        "key of the object `set`. A key is always there unless its row says when. Sizes are in bytes, times in "
        "seconds. New keys may come; read what you know, and ignore the rest.\n"
    )
    parts = ["# Outputs in JSON\n", NOTICE, "", head, contents, ""]
    for output in OUTPUTS:
        parts += [f"## {_shown(output)}\n", f"{output.summary}\n", *_rows(output), ""]
    return "\n".join(parts)


def _shown(output: Output) -> str:
    return output.call if "`" in output.call else f"`{output.call}`"


def _rows(output: Output) -> Iterable[str]:
    yield "| key | type | unit | meaning |"
    yield "| --- | --- | --- | --- |"
    for key in output.keys:
        meaning = f"{key.meaning} Only {key.when}." if key.when else key.meaning
        yield f"| `{key.path}` | {key.type} | {key.unit} | {meaning.replace('``', '`').replace('|', '&#124;')} |"
