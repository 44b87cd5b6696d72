"""Rules for files of other hosts: addresses, the libraries that they are for, and where each library looks for them.

| into | the program finds it by | path below the folder of all files |
| --- | --- | --- |
| tiktoken | TIKTOKEN_CACHE_DIR | ``tiktoken/`` and the SHA-1 of the address |
| torch_hub | TORCH_HOME | ``torch/hub/checkpoints/NAME``; of a repo ``torch/hub/OWNER_REPO_REF/…`` |
| nltk_data | NLTK_DATA | ``nltk_data/corpora/NAME.zip`` and the like |
| files | BUNDLE_FILES | ``files/PATH`` |

Sources: tiktoken 0.14, `tiktoken.load.read_file_cached`; torch 2.13, `torch.hub.load_state_dict_from_url` and
`_get_cache_or_reload`; nltk 3.10, `nltk.data.find`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from bundler.files.digest import sha1_name, sha256_bytes
from bundler.files.paths import relative_path_problem
from bundler.text.rules import Rule
from bundler.text.wording import has_control_character, quoted

Into = Literal["tiktoken", "torch_hub", "nltk_data", "files"]

_MAX_URL = 2000
# An address of GitHub that answers with a repo as a zip file.
_GITHUB = re.compile(
    r"https://(?:www\.)?github\.com/(?P<owner>[^/]+)/(?P<name>[^/]+)/"
    r"(?:zipball/(?P<ref>.+)|archive/(?:refs/(?:heads|tags)/)?(?P<zip>.+)\.zip)"
    r"|https://codeload\.github\.com/(?P<owner2>[^/]+)/(?P<name2>[^/]+)/zip/(?:refs/(?:heads|tags)/)?(?P<ref2>.+)"
)
_NLTK = re.compile(r".*/packages/(?P<path>[a-z_]+/[^/]+)")
_TORCH_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+:[A-Za-z0-9][A-Za-z0-9._/+-]*")


def url_problem(text: str) -> str | None:
    """Check the address of a file."""
    expected = "expected an address such as https://example.org/vocab.txt"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"{expected}, found {quoted(text)}"
    if parts.scheme not in ("http", "https") or not host or has_control_character(text) or " " in text:
        return f"{expected}, found {quoted(text)}"
    if parts.username is not None or parts.password is not None:
        return "has a name or password, which would stand in the lock and in every bundle"
    if parts.fragment or text.endswith("#"):
        return f"has a fragment, which no server sees: leave out #{parts.fragment}"
    return (
        None
        if len(text) <= _MAX_URL and text.isascii()
        else f"{expected}, in ASCII, of {_MAX_URL} characters at most"
    )


def torch_repo_problem(text: str) -> str | None:
    """Check the name of a repo as `torch.hub.load` takes it, with its ref."""
    if _TORCH_REPO.fullmatch(text) and ".." not in text and "//" not in text and not text.endswith("/"):
        return None
    return (
        f"expected owner/name:ref as torch.hub.load takes it, such as pytorch/vision:v0.10.0; found {quoted(text)}"
    )


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, so that nothing that is asked of it leaves."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of_url(url: str) -> str:
    """Return the host of an address, in lower case."""
    return (urlsplit(url).hostname or "").lower()


def file_name(url: str, into: Into) -> str:
    """Return the name that stands for a file of another host, in the form of a repo's id: ``host/name-hash``."""
    parts = urlsplit(url)
    name = _tidy(_base_name(parts), 50)
    return f"{_tidy(parts.netloc.lower(), 30)}/{name}-{sha256_bytes(f'{into} {url}'.encode())[:12]}"


def torch_repo_of(url: str) -> str | None:
    """Return the repo, as torch names it, that an address of GitHub answers with as a zip file; else None."""
    if not (match := _GITHUB.fullmatch(url)):
        return None
    ref = match["ref"] or match["zip"] or match["ref2"]
    repo = f"{match['owner'] or match['owner2']}/{match['name'] or match['name2']}:{unquote(ref)}"
    return None if torch_repo_problem(repo) else repo


def torch_repo_folder(repo: str) -> str:
    """Return the folder of a repo as torch names it: ``torch/hub/OWNER_NAME_REF``."""
    return f"torch/hub/{re.sub('[/:]', '_', repo)}"


def place_of(url: str, into: Into, path: str | None) -> str | None:
    """Return where a file that is no repo goes, below the folder of all files; None if that must be said.

    Args:
        url: Its address.
        into: What it is for.
        path: What the manifest says, or None.
    """
    if into == "tiktoken":
        return f"tiktoken/{sha1_name(url.encode())}"
    name = path or _base_name(urlsplit(url))
    if into == "nltk_data" and path is None:
        match = _NLTK.fullmatch(unquote(urlsplit(url).path))
        name = match["path"] if match else ""
    folder = {"torch_hub": "torch/hub/checkpoints", "nltk_data": "nltk_data"}.get(into, "files")
    place = f"{folder}/{name}"
    return None if not name or relative_path_problem(place) else place


def _base_name(parts: SplitResult) -> str:
    # As torch does, which takes no escapes out.
    return parts.path.rpartition("/")[2]


def _tidy(text: str, length: int) -> str:
    tidied = re.sub(r"[^A-Za-z0-9.]+", "-", text)
    return re.sub(r"\.{2,}", ".", tidied)[:length].strip("-.") or "file"


Url = Annotated[
    str,
    Rule(check=url_problem, name="url", schema={"maxLength": _MAX_URL, "pattern": r"^https?://[^\s@#/][^\s@#]*$"}),
]
TorchRepo = Annotated[
    str,
    Rule(
        check=torch_repo_problem,
        name="torch_repo",
        schema={
            "pattern": (
                r"^(?!.*(?:\.\.|//))[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+"
                r":[A-Za-z0-9][A-Za-z0-9._/+-]*(?<!/)$"
            )
        },
    ),
]
