"""Turn failures of requests to the Hub into errors that say what to do.

Inside `hub_errors`, everything that huggingface_hub and its HTTP client raise becomes a `HubError` (the Hub refused) or
a `NetworkError` (the Hub could not be asked), with the original error as the cause. Errors of the local disk and our
own errors are not changed.

A proxy is named by the environment variable that sets it, because a person can change that.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from bundler.errors import BundleError, HubError, NetworkError
from bundler.hub.connection.endpoint import EXAMPLE_HINT, host_of, without_password
from bundler.hub.connection.proxies import proxy_error, proxy_for
from bundler.plan.names import RepoType, address_prefix


class UnknownRepoError(HubError):
    """The repository does not exist, or is private and the token gives no access."""


class UnknownRevisionError(HubError):
    """The repository has no such branch, tag or commit."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request to the Hub, for error messages.

    Attributes:
        repo_id: Name on the Hub.
        repo_type: The Hub's type of the repo.
        revision: Branch, tag or commit, if the request names one.
        path: File in the repo, if the request is about one.
        endpoint: The Hub's address, without a trailing slash.
    """

    repo_id: str
    repo_type: RepoType
    revision: str | None = None
    path: str | None = None
    endpoint: str

    @property
    def shown(self) -> str:
        """The Hub's address without a password."""
        return without_password(self.endpoint)

    @property
    def page(self) -> str:
        """Address of the repo's page in a browser."""
        return f"{self.shown}/{address_prefix(self.repo_type)}{self.repo_id}"


@contextlib.contextmanager
def hub_errors(
    *,
    repo_id: str,
    repo_type: RepoType = "model",
    revision: str | None = None,
    path: str | None = None,
    endpoint: str | None = None,
) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP client raise into errors a person can act on.

    Raises:
        HubError: The Hub refused, or its answer cannot be understood.
        NetworkError: The Hub could not be asked.
    """
    asked = Asked(
        repo_id=repo_id,
        repo_type=repo_type,
        revision=revision,
        path=path,
        endpoint=(endpoint or constants.ENDPOINT).rstrip("/"),
    )
    try:
        yield
    except BundleError:
        raise
    except Exception as error:
        translated = translate(error, asked)
        if translated is None:
            raise
        raise translated from error


def translate(error: BaseException, asked: Asked) -> BundleError | None:
    """Return the `BundleError` for an error that was raised while asking; None if it is not about the Hub."""
    if isinstance(error, OfflineModeIsEnabled):
        return offline_error()
    if isinstance(error, LocalEntryNotFoundError):
        # The client raises this if it could not reach the Hub and has nothing cached; its cause has the reason.
        cause = error.__cause__ or error.__context__
        known = translate(cause, asked) if cause else None
        return known or NetworkError(f"{asked.repo_id}: cannot reach {asked.shown}")
    if isinstance(error, HfHubHTTPError):
        return _explain_refusal(error, asked)
    if isinstance(
        error, (httpx2.TransportError, httpx2.InvalidURL, httpx2.TooManyRedirects, httpx2.DecodingError)
    ):
        return _explain_unreachable(error, asked)
    if isinstance(error, EntryNotFoundError):
        return HubError(f"{asked.repo_id} has no file {asked.path} at {asked.revision}")
    if isinstance(error, HFValidationError):
        return HubError(f"{asked.repo_id}: {error}")
    if isinstance(error, json.JSONDecodeError):
        return HubError(
            f"{asked.shown} did not answer with JSON",
            hint="a log-in page or a proxy may have answered; check HF_ENDPOINT, and open the address in a browser",
        )
    proxy = proxy_for(asked.endpoint)
    if proxy and isinstance(error, ValueError) and "proxy" in str(error).lower():
        return NetworkError(
            f"the proxy {proxy} cannot be used: {error}", hint=f"correct or unset {proxy.variable}"
        )
    return None


def offline_error() -> NetworkError:
    """Return the error for a request to the Hub while the environment forbids it."""
    names = [n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "BUNDLE_OFFLINE") if os.environ.get(n)]
    shown = " and ".join(f"{n}={os.environ[n]}" for n in names) or "huggingface_hub's offline mode"
    return NetworkError(
        f"this needs the network, and {shown} forbids it",
        hint=f"run it where there is internet, with {' and '.join(names)} unset" if names else None,
    )


def _explain_refusal(error: HfHubHTTPError, asked: Asked) -> BundleError:
    status = error.response.status_code
    kind = asked.repo_type
    if isinstance(error, GatedRepoError):
        step = f"ask for access at {asked.page}"
        login = "log in with `hf auth login` or set HF_TOKEN"
        if get_token():
            who = "the account of your token is not on its list"
            hint = (
                f"{step} with that account; a fine-grained token also needs permission to read gated repositories"
            )
        else:
            who = "no token is set"
            hint = f"{step}, then {login}"
        return HubError(f"{asked.repo_id} is gated, and {who}", hint=hint)
    if isinstance(error, RevisionNotFoundError):
        return UnknownRevisionError(
            f"{asked.repo_id} has no branch, tag or commit {asked.revision!r}", hint=f"see {asked.page}"
        )
    if isinstance(error, EntryNotFoundError):
        return HubError(f"{asked.repo_id} has no file {asked.path} at {asked.revision}", hint=f"see {asked.page}")
    if isinstance(error, DisabledRepoError):
        return HubError(f"{asked.repo_id} has been disabled on the Hub", hint=f"see {asked.page}")
    if status == 401 and "Invalid credentials" in str(error):
        return HubError(
            f"{asked.shown} does not know your token",
            hint="log in again with `hf auth login`, or correct or unset HF_TOKEN",
        )
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        token = "your token has no access to it" if get_token() else "no token is set"
        return UnknownRepoError(
            f"no {kind} {asked.repo_id} at {asked.shown}, or it is private and {token}",
            hint="check the name; for a private repository log in with `hf auth login` or set HF_TOKEN",
        )
    if status == 407:
        return _explain_proxy_failure(asked, "wants a user name and password")
    if status == 429:
        return HubError(
            f"{asked.shown} is limiting the rate of requests",
            hint="try again later; with a token (`hf auth login`, HF_TOKEN) the limit is higher",
        )
    proxy = proxy_for(asked.endpoint)
    through = f", through the proxy {proxy}" if proxy else ""
    what = f"{asked.repo_id}: {asked.shown} answered {status} {error.response.reason_phrase}{through}"
    if status >= 500:
        return HubError(what, hint="the Hub, or a mirror or proxy before it, has a problem: try again later")
    if status == 404:
        return HubError(what, hint="is this the address of a Hub? check HF_ENDPOINT")
    message = error.server_message
    return HubError(f"{what}: {message}" if message else what, hint=f"see {asked.page}")


def _explain_unreachable(error: Exception, asked: Asked) -> NetworkError:
    host = host_of(asked.endpoint)
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
        return NetworkError(f"{asked.shown} is not an address: {error}", hint=EXAMPLE_HINT)
    # Check this before the proxy: with a proxy that inspects TLS, the certificate is the cause.
    if certificate := _find_certificate_problem(error):
        return NetworkError(
            f"the certificate of {host} is not trusted: {certificate}", hint=_suggest_certificate()
        )
    proxy = proxy_for(asked.endpoint)
    if isinstance(error, httpx2.ProxyError):
        reason = f"refused the connection to {host}: {error}"
        return _explain_proxy_failure(asked, reason)
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)) and proxy:
        reason = "did not answer" if isinstance(error, httpx2.ConnectTimeout) else f"cannot be reached: {error}"
        return _explain_proxy_failure(asked, reason)
    if isinstance(error, httpx2.TimeoutException):
        variable = "HF_HUB_DOWNLOAD_TIMEOUT"
        if isinstance(error, httpx2.ConnectTimeout):
            variable = "HF_HUB_ETAG_TIMEOUT"
        what = f"{host} did not answer within {getattr(constants, variable)} s"
        hint = f"{_suggest_proxy(asked)}; on a slow connection raise {variable}"
        return NetworkError(f"{what}{f', through the proxy {proxy}' if proxy else ''}", hint=hint)
    if isinstance(error, httpx2.ConnectError):
        return NetworkError(f"cannot connect to {host}: {error}", hint=_suggest_proxy(asked))
    return NetworkError(
        f"the connection to {host} broke: {error or type(error).__name__}",
        hint="run the same command again: it continues where it stopped",
    )


def _explain_proxy_failure(asked: Asked, reason: str) -> NetworkError:
    proxy = proxy_for(asked.endpoint)
    if proxy is None:
        return NetworkError(f"a proxy {reason}", hint="check the proxy settings of this machine")
    return proxy_error(proxy, reason, asked.endpoint)


def _suggest_proxy(asked: Asked) -> str:
    if proxy_for(asked.endpoint):
        return "check the connection and the proxy"
    scheme = urlsplit(asked.endpoint).scheme.upper()
    mirror = "" if os.environ.get("HF_ENDPOINT") else " (or HF_ENDPOINT for a mirror)"
    return f"run this where there is internet; behind a proxy set {scheme}_PROXY{mirror}"


def _find_certificate_problem(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message or str(error)
        if "CERTIFICATE_VERIFY_FAILED" in str(error) and error.__cause__ is None and error.__context__ is None:
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def _suggest_certificate() -> str:
    hint = "point SSL_CERT_FILE at a PEM file that holds your organisation's certificate authority"
    ignored = [n for n in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(n)]
    if ignored and not os.environ.get("SSL_CERT_FILE"):
        hint += f" ({ignored[0]}, which you have set, is not read by huggingface_hub): SSL_CERT_FILE=${ignored[0]}"
    return hint
