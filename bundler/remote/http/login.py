"""Whom a web server is asked as."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Protocol


class Login(Protocol):
    """What shows a server who asks."""

    def headers(self) -> Mapping[str, str]:
        """Return the headers of a request."""

    def renew(self, challenge: str) -> bool:
        """Take note of a refusal.

        Args:
            challenge: The answer's `WWW-Authenticate`.

        Returns:
            Whether asking again, with `headers` anew, may help.
        """


class NoLogin:
    """Nobody in particular."""

    def headers(self) -> Mapping[str, str]:
        """Return no headers."""
        return {}

    def renew(self, challenge: str) -> bool:
        """Give up."""
        return False


class BasicLogin:
    """A user and a password (RFC 7617)."""

    def __init__(self, user: str, password: str) -> None:
        self._value = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def headers(self) -> Mapping[str, str]:
        """Return the header with both."""
        return {"Authorization": self._value}

    def renew(self, challenge: str) -> bool:
        """Give up: there is no other password."""
        return False
