"""Read a file that a person wrote: its text, up to a size limit, and its YAML."""

from __future__ import annotations

from pathlib import Path

from bundler.text import strict_yaml
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.strict_yaml import StrictYamlError
from bundler.text.yaml_nodes import Node

# People type manifests and configurations; a longer file is something else. It is refused before it is parsed,
# because PyYAML takes up to two seconds for this length. Three thousand repos fit.
MAX_BYTES = 1 << 17


class NotATextFileError(Exception):
    """The file is not text, or is too long. The message says which, without the file's name."""


def read_text_file(path: Path, what: str, *, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a file, without a byte order mark.

    Args:
        path: The file.
        what: What it should be, for the message, such as ``manifest``.
        max_bytes: The longest file that is read into memory.

    Raises:
        NotATextFileError: It is longer than `max_bytes`, or not UTF-8.
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
    """Return the root node of a YAML text, or None if it has only comments.

    Args:
        text: The text.
        source: The file's name for messages.
        invalid: The error for a file of this kind.

    Raises:
        InvalidFileError: The text is too long, or not the YAML that `bundler.text.strict_yaml` accepts. The error is an
            `invalid`.
    """
    if len(text) > MAX_BYTES:
        raise invalid(source, [Fault("", None, f"longer than {MAX_BYTES} bytes, which is the limit")])
    try:
        return strict_yaml.read(text)
    except StrictYamlError as error:
        place = f", column {error.column}" if error.column else ""
        raise invalid(source, [Fault("", error.line, f"not valid YAML{place}: {error.problem}")]) from error
