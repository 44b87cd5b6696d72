"""What came of looking at one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        check: What was looked at, one word or two: stable, for scripts.
        state: What it means.
        message: What was found.
        advice: What to do; empty where nothing needs doing.
    """

    check: str
    state: State
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Diagnosis:
    """Return a finding that needs no action."""
    return Diagnosis(check=check, state="ok", message=message)


def note(check: str, message: str, advice: str = "") -> Diagnosis:
    """Return a finding that is good to know."""
    return Diagnosis(check=check, state="note", message=message, advice=advice)


def warning(check: str, message: str, advice: str) -> Diagnosis:
    """Return a finding about something that surprises people."""
    return Diagnosis(check=check, state="warning", message=message, advice=advice)


def problem(check: str, message: str, advice: str) -> Diagnosis:
    """Return a finding about something that will fail."""
    return Diagnosis(check=check, state="problem", message=message, advice=advice)
