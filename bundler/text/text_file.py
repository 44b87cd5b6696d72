"""Reads a file that somebody else wrote: its text, up to a bound, and what of it is YAML."""

from __future__ import annotations

from pathlib import Path

from bundler.text import strict_yaml
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.strict_yaml import Node, StrictYamlError

# A manifest or a configuration is typed by people. A longer file is something else, and must not be parsed first to
# learn so: PyYAML takes some 20 seconds for as much as this.
MAX_BYTES = 1 << 20


class NotATextFileError(Exception):
    """The file is no text of a size that anybody would write. The message says what it is, without its name."""


def read_text_file(path: Path, what: str, *, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a file; a byte order mark is left out.

    Args:
        path: The file.
        what: What it should be, for the message: ``manifest``.
        max_bytes: The most that is read into memory.

    Raises:
        NotATextFileError: It is longer, or not UTF-8.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise NotATextFileError(f"longer than {max_bytes} bytes; this is not a {what}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotATextFileError(f"not UTF-8 text (line {line})") from error


def parse_yaml(text: str, source: str, invalid: type[InvalidFileError]) -> Node | None:
    """Return the root node of a YAML text, or None when there is nothing but comments.

    Args:
        text: The text.
        source: The file's name for messages.
        invalid: The error for a file of this kind.

    Raises:
        InvalidFileError: An `invalid`: it is too long, or not the YAML that `bundler.text.strict_yaml` takes.
    """
    if len(text) > MAX_BYTES:
        raise invalid(source, [Fault("", None, f"longer than {MAX_BYTES} bytes; nobody wrote this by hand")])
    try:
        return strict_yaml.read(text)
    except StrictYamlError as error:
        place = f", column {error.column}" if error.column else ""
        raise invalid(source, [Fault("", error.line, f"not valid YAML{place}: {error.problem}")]) from error
