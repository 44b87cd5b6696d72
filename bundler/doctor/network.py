"""Check the environment for the connection to the Hub: switches, endpoint, proxies, certificates, token.

huggingface_hub is not imported, because it would read the environment of this process when it is imported.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from bundler.doctor.diagnosis import Diagnosis, note, ok, problem, warning
from bundler.hub.connection.endpoint import (
    EXAMPLE_HINT,
    address_fault,
    host_of,
    hub_endpoint,
    without_password,
)
from bundler.hub.connection.proxies import list_unread_exceptions, probe, proxy_error, proxy_for
from bundler.hub.connection.reach import PROBE_SECONDS, ask_within

# Values that the libraries read as true.
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_LOOPBACK = ("localhost", "127.0.0.1")


def is_offline(environment: Mapping[str, str]) -> bool:
    """Return whether huggingface_hub will be offline: the first of two variables that is not empty decides."""
    for name in _SWITCHES[:2]:
        if value := environment.get(name, "").strip():
            return value.upper() in _TRUE
    return False


def check_switches(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Check the variables that switch offline mode on and off."""
    found = {name: environment[name] for name in _SWITCHES if environment.get(name, "").strip()}
    shown = " ".join(f"{name}={value}" for name, value in found.items())
    meant = {value.strip().upper() in _TRUE for value in found.values()}
    if len(meant) > 1:
        yield problem(
            "offline mode",
            f"the switches contradict each other: {shown}. HF_HUB_OFFLINE wins for the Hub, HF_DATASETS_OFFLINE for "
            "datasets",
            "set all of them to 1, as `bundle run` and `bundle env` do, or unset all of them",
        )
    elif is_offline(environment):
        yield ok("offline mode", f"on: {shown}")
    elif found:
        yield note("offline mode", f"explicitly off: {shown}", "unset them, or set HF_HUB_OFFLINE=1 to be offline")
    else:
        yield ok("offline mode", "off; `bundle run` turns it on for the program that it starts")


def check_endpoint(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Check the address of the Hub."""
    address = hub_endpoint()
    shown = without_password(address)
    if fault := address_fault(address):
        yield problem("endpoint", f"HF_ENDPOINT is {shown!r}: {fault}", EXAMPLE_HINT)
    elif environment.get("HF_ENDPOINT"):
        yield note("endpoint", f"{shown} (from HF_ENDPOINT)")
    else:
        yield ok("endpoint", shown)


def check_proxies(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Check the variables that name proxies, and ask the proxy to the Hub."""
    for scheme in ("http", "https", "all", "no"):
        lower, upper = environment.get(f"{scheme}_proxy", ""), environment.get(f"{scheme}_proxy".upper(), "")
        if lower and upper and lower != upper:
            variable = f"{scheme}_proxy"
            advice = f"set both to the same, or unset {variable.upper()}"
            yield warning("proxy", f"{variable} and {variable.upper()} differ; {variable} wins", advice)
    yield from _check_exceptions(environment)
    proxy = proxy_for(hub_endpoint())
    if proxy is None:
        yield ok("proxy", f"none for {without_password(hub_endpoint())}")
    elif is_offline(environment):
        yield note("proxy", f"{proxy}; not asked, since offline mode is on")
    elif fault := probe(proxy, hub_endpoint()):
        error = proxy_error(proxy, fault, hub_endpoint())
        yield problem("proxy", error.message, error.hint or "")
    else:
        yield ok("proxy", f"{proxy} lets requests through")


def _check_exceptions(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    listed = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    entries = [entry.strip() for entry in listed.split(",") if entry.strip()]
    odd = [entry for entry in entries if "://" in entry or " " in entry or ("*" in entry and entry != "*")]
    if odd:
        advice = "write host names, or .example.org for all hosts in a domain, separated by commas"
        yield warning("no_proxy", f"entries that no library understands: {', '.join(odd)}", advice)
    if unread := [entry for entry in list_unread_exceptions(listed) if entry not in odd]:
        advice = "name each host itself, and leave out :443 and :80; a network holds only for addresses"
        found = f"entries that the client of the Hub does not apply to names: {', '.join(unread)}"
        yield warning("no_proxy", found, advice)
    proxied = [name for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY") if environment.get(name)]
    if proxied and "*" not in entries and not set(_LOOPBACK) <= set(entries):
        yield warning(
            "no_proxy",
            f"{proxied[0]} is set, and NO_PROXY does not name this machine: requests to `bundle serve` and torchrun's "
            "rendezvous would go to the proxy",
            f"add {','.join(_LOOPBACK)} to NO_PROXY",
        )


def check_connection(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Ask the Hub for its front page, if there is no proxy."""
    address = hub_endpoint()
    # `check_endpoint` has reported an invalid address.
    if is_offline(environment) or address_fault(address) or proxy_for(address) is not None:
        return
    statuses: list[int] = []
    certificates: list[str] = []

    def ask() -> str | None:
        try:
            statuses.append(_ask_front_page(address))
        except ssl.SSLCertVerificationError as error:
            certificates.append(error.verify_message)
        except (OSError, http.client.HTTPException) as error:
            return str(getattr(error, "strerror", None) or error or type(error).__name__)
        return None

    fault, host = ask_within(ask, PROBE_SECONDS), host_of(address)
    if certificates:
        advice = "point SSL_CERT_FILE at a PEM file that holds your organisation's certificate authority"
        yield problem("connection", f"the certificate of {host} is not trusted: {certificates[0]}", advice)
    elif fault:
        yield note(
            "connection",
            f"{host} cannot be reached from here: {fault}",
            "this is normal where bundles are used: start programs with `bundle run`, because without it they "
            "retry for almost a minute. To fetch, set HTTPS_PROXY or use a machine with internet",
        )
    elif statuses[0] >= 500:
        yield warning("connection", f"{host} answers, with HTTP {statuses[0]}", "try again later")
    else:
        yield ok("connection", f"{host} answers (HTTP {statuses[0]})")


def _ask_front_page(address: str) -> int:
    """Return the HTTP status with which a server answers a request for its address."""
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(kind(parts.hostname or "", parts.port, timeout=PROBE_SECONDS)) as asked:
        asked.request("HEAD", parts.path or "/")
        return asked.getresponse().status


def check_certificates(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Check the variables for the certificates that HTTPS will use."""
    found = False
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        place = environment.get(name)
        if not place:
            continue
        found = True
        try:
            if name == "SSL_CERT_FILE":
                ssl.create_default_context(cafile=place)
            elif not Path(place).is_dir():
                raise FileNotFoundError(2, "No such folder")
        except OSError as error:
            reason = "no certificate is in it" if isinstance(error, ssl.SSLError) else error.strerror or error
            yield problem("certificates", f"{name} is {place}: {reason}", f"correct or unset {name}")
        else:
            yield ok("certificates", f"{name} is {place}")
    ignored = [name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if environment.get(name)]
    if ignored and not environment.get("SSL_CERT_FILE"):
        names = " and ".join(ignored)
        advice = f"set SSL_CERT_FILE=${ignored[0]} as well"
        yield warning("certificates", f"{names} is set, which huggingface_hub does not read", advice)
    elif not found:
        yield ok("certificates", "those that Python comes with")


def check_token(environment: Mapping[str, str], hf_home: Path) -> Iterator[Diagnosis]:
    """Report where a token would come from, without its value."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        value = environment.get(name)
        if value:
            if re.search(r"\s", value.strip()) or value != value.strip():
                yield warning("token", f"{name} has white space in it", f"set {name} again without it")
            yield ok("token", f"one is set by {name}; `bundle run` drops it")
            return
    path = Path(environment.get("HF_TOKEN_PATH") or hf_home / "token").expanduser()
    try:
        mode = path.stat().st_mode
    except OSError:
        yield ok("token", "none; gated and private repos cannot be fetched, all others can")
        return
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        yield warning("token", f"one is in {path}, which others may read", f"chmod 600 {path}")
    elif path.is_relative_to(hf_home) and os.access(hf_home, os.X_OK):
        yield ok("token", f"one is in {path}; bundles never carry it")
    else:
        yield ok("token", f"one is in {path}")
