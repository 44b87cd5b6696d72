"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The result of one check.

    Attributes:
        check: What was checked, in one or two words; these never change, for scripts.
        state: How serious the result is.
        message: What was found.
        advice: What to do; empty if nothing need be done.
    """

    check: str
    state: State
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Diagnosis:
    """Return a result that needs no action."""
    return Diagnosis(check=check, state="ok", message=message)


def note(check: str, message: str, advice: str = "") -> Diagnosis:
    """Return a result that is good to know."""
    return Diagnosis(check=check, state="note", message=message, advice=advice)


def warning(check: str, message: str, advice: str) -> Diagnosis:
    """Return a result about something that surprises people."""
    return Diagnosis(check=check, state="warning", message=message, advice=advice)


def problem(check: str, message: str, advice: str) -> Diagnosis:
    """Return a result about something that will fail."""
    return Diagnosis(check=check, state="problem", message=message, advice=advice)
