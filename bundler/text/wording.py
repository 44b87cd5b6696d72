"""Numbers, lists and names in words for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# A value that a message quotes is cut to this many characters.
QUOTED_CHARACTERS = 80
# What a person sees of one message: a screen.
_SCREEN_LINES = 60
_SCREEN_CHARACTERS = 6000

# Controls of ASCII and Latin-1, ends of lines, and what turns the direction of a whole line of text around.
_CONTROL_CHARACTERS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]")


def counted(number: int, noun: str) -> str:
    """Return ``1 file`` or ``2,000 files``, for a noun whose plural ends in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(count: int) -> str:
    """Return a number of bytes for people, in units of 1000 as `hf` and disk makers use them: ``91.2 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{value:,.0f} TB"


def and_more(lines: Sequence[str], *, shown: int = 20, total: int | None = None, more: str = "more") -> list[str]:
    """Return the first `shown` lines, and one more line with how many are left out: ``and 7 more``.

    Args:
        lines: All lines, or the first ones.
        shown: How many to show.
        total: How many there are, if `lines` is not all of them.
        more: What follows the number, such as ``more targets``.
    """
    first = list(lines[:shown])
    left_out = (len(lines) if total is None else total) - len(first)
    return [*first, f"and {left_out:,} {more}"] if left_out > 0 else first


def name_some(names: Iterable[str], *, shown: int = 3, total: int | None = None, separator: str = ", ") -> str:
    """Join the first `shown` names, and say how many are left out: ``a, b, c and 7 more``."""
    found = [*names]
    listed = and_more(found, shown=shown, total=total)
    return " ".join([separator.join(found[:shown]), *listed[len(found[:shown]) :]])


def close_matches(word: str, known: Iterable[str], *, at_most: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return the known names that are most similar to `word`, the closest first.

    Args:
        word: The name that a person wrote.
        known: The names that exist; the case of letters matters.
        at_most: How many to return.
        cutoff: The least similarity, from 0 to 1. Long names of several parts need a lower one than keys.
    """
    import difflib  # only errors have a use for it

    # It takes time in proportion to both lengths; a name longer than this was not typed.
    return difflib.get_close_matches(word[:256], list(known), n=at_most, cutoff=cutoff)


def did_you_mean(word: str, known: Iterable[str], *, at_most: int = 3, cutoff: float = 0.6) -> str | None:
    """Return ``did you mean a or b?`` with the known names most similar to `word`; None if there are none."""
    close = close_matches(word, known, at_most=at_most, cutoff=cutoff)
    return f"did you mean {' or '.join(close)}?" if close else None


def close_names(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` with the known name closest to `word`, or an empty string."""
    question = did_you_mean(word, known, at_most=1)
    return f"; {question}" if question else ""


def quoted(text: str) -> str:
    """Return `text` in quotes, cut to `QUOTED_CHARACTERS`, with unprintable characters escaped."""
    if len(text) <= QUOTED_CHARACTERS:
        return repr(text)
    return f"{text[:QUOTED_CHARACTERS]!r}… ({len(text):,} characters)"


def shortened(text: str) -> str:
    """Return `text` as it is, or `quoted` if it is long."""
    return text if len(text) <= QUOTED_CHARACTERS else quoted(text)


def printable(text: str) -> str:
    """Return `text` with control characters, and what is not valid Unicode, escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def has_control_character(text: str) -> bool:
    """Tell whether `text` has a character that a terminal would obey, or that shows the text in another order."""
    return _CONTROL_CHARACTERS.search(text) is not None


def escaped_lines(text: str) -> str:
    """Return `text` with the ends of its lines as they are and everything else that is not printable escaped."""
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in text.split("\n"))


def on_screen(text: str) -> str:
    """Return a message as a person sees it: escaped, and cut in its middle to a screen; its end is the next step."""
    if len(text) > _SCREEN_CHARACTERS:
        half = _SCREEN_CHARACTERS // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters more …\n{text[-half:]}"
    lines = text.split("\n")
    if len(lines) > _SCREEN_LINES:
        last = _SCREEN_LINES // 4
        left_out = len(lines) - _SCREEN_LINES + 1
        lines = [*lines[: _SCREEN_LINES - last - 1], f"… {left_out:,} lines more …", *lines[-last:]]
    return escaped_lines("\n".join(lines))
