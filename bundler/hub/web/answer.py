"""Ask another host for a file: without any token, bounded as an answer of the Hub is, and over https.

Rule book:

* session, proxies and certificates are those of huggingface_hub; no header of its own goes along, and no cookie;
* a redirect is followed 20 times, and never from https to http; http is asked only where the caller says so, or of this
  machine, where nothing is on the way;
* no answer is longer than `MOST_FILE_BYTES`, and one that drips is given up (`bundler.hub.connection.answers`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled

from bundler import __version__
from bundler.errors import BundleError, HubError, NetworkError
from bundler.hub.connection.failures import offline_error
from bundler.hub.connection.transport import find_client
from bundler.plan.file_rules import is_loopback, url_problem

MOST_FILE_BYTES = 64 << 30
MOST_REDIRECTS = 20
HEADERS = {"User-Agent": f"bundle/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


@contextlib.contextmanager
def open_file(
    url: str, *, headers: dict[str, str], timeout: httpx2.Timeout, plain_http: bool = False
) -> Iterator[httpx2.Response]:
    """Ask for `url` and yield the answer, of which nothing was read, after following redirects.

    Args:
        url: An address that was checked.
        headers: Request headers.
        timeout: For connecting, and for each part of an answer.
        plain_http: Whether http may be asked of other machines, since the content is known by its hash.

    Raises:
        HubError: It leads to an address that is not asked.
        httpx2.HTTPError: The host cannot be asked, or redirects for ever.
    """
    for _ in range(MOST_REDIRECTS):
        # Made anew for each address: what the client would carry over, such as cookies, stays here.
        request = httpx2.Request("GET", url, headers=headers, extensions={"timeout": timeout.as_dict()})
        response = find_client(url).send(request, stream=True, follow_redirects=False, auth=None)
        try:
            if not response.has_redirect_location:
                yield response
                return
            following = str(httpx2.URL(url).join(response.headers["Location"]))
        finally:
            response.close()
        url = _check_redirect(url, following.partition("#")[0], plain_http=plain_http)
    raise httpx2.TooManyRedirects(f"more than {MOST_REDIRECTS} redirects", request=request)


def _check_redirect(url: str, following: str, *, plain_http: bool) -> str:
    parts = urlsplit(following)
    host = parts.hostname or ""
    what = f"{host_and_path(url)} leads to {host_and_path(following)}"
    if problem := url_problem(following):
        raise HubError(f"{what}, which is not asked: the address {problem[:200]}")
    is_insecure = parts.scheme == "http" and not plain_http and not is_loopback(host)
    # From outside into this machine: a service here is nobody else's business.
    is_inwards = is_loopback(host) and not is_loopback(urlsplit(url).hostname or "")
    if is_insecure or is_inwards:
        why = "is this machine" if is_inwards else "is plain http, and can be changed on its way"
        raise HubError(
            f"{what}, which {why}", hint="write the address that it should lead to; with sha256 http will do"
        )
    return following


def host_and_path(url: str) -> str:
    """Return an address without its query, which may hold a key, cut to what a message can show."""
    return url.partition("?")[0][:200]


@contextlib.contextmanager
def web_errors(url: str) -> Iterator[None]:
    """Turn what the HTTP client raises into errors a person can act on.

    Raises:
        HubError: The host refused.
        NetworkError: It could not be asked.
    """
    shown = host_and_path(url)
    try:
        yield
    except BundleError:
        raise
    except OfflineModeIsEnabled as error:
        raise offline_error() from error
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        hints = {
            401: "files that need a log-in cannot be carried: bring them in a repository of your own",
            403: "files that need a log-in cannot be carried: bring them in a repository of your own",
            404: "the address is wrong, or the file has gone",
        }
        raise HubError(
            f"{shown} answered {status} {error.response.reason_phrase}", hint=hints.get(status)
        ) from error
    except httpx2.HTTPError as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise NetworkError(
            f"{shown} could not be fetched: {said}",
            hint="is there a way to that host? proxies and certificates are those of the Hub's client",
        ) from error


def request_timeout() -> httpx2.Timeout:
    """Return how long a host may take to connect, and to go on."""
    return httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT, connect=constants.HF_HUB_ETAG_TIMEOUT)
