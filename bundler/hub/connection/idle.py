"""Connections that no answer has, kept open by where they lead."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

_Origin = TypeVar("_Origin", bound=Hashable)


class IdleConnections(Generic[_Origin]):
    """Connections for whoever asks next; safe to use from several threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._kept: dict[_Origin, list[http.client.HTTPConnection]] = {}

    def take(self, origin: _Origin) -> http.client.HTTPConnection | None:
        """Return one that leads there, which is the caller's now; None if there is none."""
        with self._mutex:
            kept = self._kept.get(origin)
            return kept.pop() if kept else None

    def give_back(self, origin: _Origin, connection: http.client.HTTPConnection) -> None:
        """Keep one, of which the last answer was read to its end."""
        with self._mutex:
            self._kept.setdefault(origin, []).append(connection)

    def close(self) -> None:
        """Close all."""
        with self._mutex:
            kept, self._kept = self._kept, {}
        for connections in kept.values():
            for connection in connections:
                connection.close()

    def forget(self) -> None:
        """Drop all, and tell no server: in a child process they are its parent's."""
        self._mutex, self._kept = threading.Lock(), {}
