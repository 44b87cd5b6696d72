"""An HTTP answer whose parts without content end.

`http.client` reads heads of 100 Continue, and lines of trailers behind the last chunk, for as long as a server sends
them. Nothing that a caller could time or count comes of either.

Source: RFC 9110, section 15.2 (1xx); RFC 9112, section 7.1.2 (trailers).
"""

from __future__ import annotations

import http.client

_MOST_HEADS = 10
# As many as http.client takes of headers, and as long.
_MOST_TRAILERS = 100
_MOST_LINE_BYTES = 65536


class BoundedAnswer(http.client.HTTPResponse):
    """For `response_class` of a connection. What goes over a bound is an `http.client.HTTPException`."""

    _heads = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._heads += 1
        if self._heads > _MOST_HEADS:
            raise http.client.HTTPException(f"more than {_MOST_HEADS} heads before an answer")
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        return found

    def _read_and_discard_trailer(self) -> None:
        for _ in range(_MOST_TRAILERS):
            line = self.fp.readline(_MOST_LINE_BYTES + 1)
            if len(line) > _MOST_LINE_BYTES:
                raise http.client.LineTooLong("trailer line")
            if line in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException(f"more than {_MOST_TRAILERS} lines of trailers")
