"""Fetch files from Xet storage with hf_xet, and give it up where it does not work.

The storage is at other hosts than the Hub. A firewall may block them, and a mirror may name them and have no tokens for
them. hf_xet alone tries for minutes then, without a word; everything in Xet storage also comes over HTTP.

Rule book:

* what fails is given up at once: a token that is refused, a host that takes no connection, an error of hf_xet;
* what hangs is given up when none of the files that are being fetched had a new byte for `SILENT_SECONDS`;
* who has given it up once does not try it again for other files;
* of a repo with a file that is not in it no other is looked for here: to ask costs a round trip for each, and a mirror
  without it has none;
* nothing here checks content: the caller hashes what has arrived.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants

from bundler.hub.connection.endpoint import host_of
from bundler.hub.connection.proxies import probe, proxy_for
from bundler.hub.connection.reach import find_reach_fault

if TYPE_CHECKING:
    from huggingface_hub.utils import XetFileData

# OFFLINE_MODE.md names it. Longer than a busy storage needs for its first byte.
SILENT_SECONDS = 30.0
_POLL_SECONDS = 0.2
_SHOWN_CHARACTERS = 200


class XetFailedError(Exception):
    """Xet storage does not work from here; the text is the end of a sentence that begins with it."""


class XetStorage:
    """What the downloads of a fetch share; safe to use from several threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_given_up = False
        self._plain_repos: set[str] = set()
        self._reached: set[str] = set()
        self._heard = time.monotonic()

    @property
    def is_wanted(self) -> bool:
        """Whether files should be asked for here: hf_xet is there, is not switched off, and was not given up."""
        is_off = self._is_given_up or constants.HF_HUB_DISABLE_XET
        return not is_off and importlib.util.find_spec("hf_xet") is not None

    def may_have(self, repo_id: str) -> bool:
        """Return whether files of a repo should be asked for here."""
        return self.is_wanted and repo_id not in self._plain_repos

    def note_plain(self, repo_id: str) -> None:
        """Ask for no more files of a repo: one of them is not here."""
        self._plain_repos.add(repo_id)

    def give_up(self) -> bool:
        """Ask for no more files here; return whether this is news."""
        with self._mutex:
            is_news = not self._is_given_up
            self._is_given_up = True
            return is_news

    def download(
        self,
        data: XetFileData,
        target: Path,
        headers: dict[str, str],
        *,
        size_bytes: int,
        stop: Event,
        on_progress: Callable[[int], None],
        on_received: Callable[[int], None],
    ) -> bool:
        """Fetch one file.

        Args:
            data: What the Hub said of it.
            target: Where to write it, unchecked.
            headers: Request headers of the Hub, with the token.
            size_bytes: Its length.
            stop: When it is set, the download ends.
            on_progress: Called with the number of new bytes in the file; negative when it is given up.
            on_received: Called with the number of bytes that came over the network, where files may share some.

        Returns:
            Whether it has arrived; False if `stop` was set.

        Raises:
            XetFailedError: It did not arrive. The caller should `give_up` and take HTTP.
        """
        one = _OneFile(data, target, headers, size_bytes, self._check_reach)
        self._heard = time.monotonic()
        one.thread.start()
        written = received = 0
        try:
            while one.thread.is_alive():
                one.thread.join(_POLL_SECONDS)
                if stop.is_set():
                    return False
                now_written, now_received = one.counts()
                on_progress(now_written - written)
                on_received(now_received - received)
                if (now_written, now_received) != (written, received):
                    written, received = now_written, now_received
                    self._heard = time.monotonic()
                elif time.monotonic() - self._heard > SILENT_SECONDS:
                    raise XetFailedError(f"sent nothing for {SILENT_SECONDS:.0f} s")
            if one.error is not None:
                raise one.error
            on_progress(size_bytes - written)
            on_received(one.counts()[1] - received)
        except XetFailedError:
            on_progress(-written)
            raise
        finally:
            one.abort()
        return True

    def _check_reach(self, address: str) -> None:
        if address in self._reached:
            return
        proxy = proxy_for(address)
        fault = probe(proxy, address) if proxy else find_reach_fault(address)
        if fault:
            through = f", through the proxy {proxy}," if proxy else ""
            raise XetFailedError(f"at {host_of(address)}{through} {fault}")
        self._reached.add(address)


class _OneFile:
    """The download of one file in a thread of its own, which is left behind if nothing ends it."""

    def __init__(
        self,
        data: XetFileData,
        target: Path,
        headers: dict[str, str],
        size_bytes: int,
        check_reach: Callable[[str], None],
    ) -> None:
        self._data = data
        self._target = target
        self._headers = headers
        self._size_bytes = size_bytes
        self._check_reach = check_reach
        self._group: Any = None
        self._is_aborted = False
        self.error: XetFailedError | None = None
        self.thread = threading.Thread(target=self._run, daemon=True, name="bundle-xet")

    def counts(self) -> tuple[int, int]:
        """Return how many bytes were written, and how many came over the network."""
        if self._group is None:
            return 0, 0
        report = self._group.progress()
        return min(report.total_bytes_completed, self._size_bytes), report.total_transfer_bytes_completed

    def abort(self) -> None:
        """End what is still under way."""
        self._is_aborted = True
        if self._group is not None and self.thread.is_alive():
            self._group.abort()

    def _run(self) -> None:
        try:
            self._fetch()
        except XetFailedError as error:
            self.error = error
        except Exception as error:
            # httpx2 adds where to read about a status.
            text = " ".join(str(error).partition("\nFor more information")[0].split()) or type(error).__name__
            shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
            self.error = XetFailedError(f"failed: {shown}")

    def _fetch(self) -> None:
        from hf_xet import XetFileInfo
        from huggingface_hub.utils._xet import (
            get_xet_session,
            refresh_xet_connection_info,
            xet_headers_without_auth,
        )

        storage = refresh_xet_connection_info(file_data=self._data, headers=self._headers)
        self._check_reach(storage.endpoint)
        session: Any = get_xet_session()  # type: ignore[no-untyped-call]
        group = session.new_file_download_group(
            endpoint=storage.endpoint,
            token=storage.access_token,
            token_expiry_unix_secs=storage.expiration_unix_epoch,
            token_refresh_url=self._data.refresh_route,
            token_refresh_headers=self._headers,
            custom_headers=xet_headers_without_auth(self._headers),
        )
        # In this order, so that either this thread sees the end or `abort` sees the group.
        self._group = group
        if self._is_aborted:
            return
        group.start_download_file(
            XetFileInfo(self._data.file_hash, self._size_bytes), str(self._target.absolute())
        )
        group.wait_to_finish()
