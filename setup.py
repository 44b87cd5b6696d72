"""What setup.cfg cannot say: the front page as PyPI shows it, with links that lead to the files of this release."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

_HERE = Path(__file__).parent
_REPOSITORY = "infini-llama/infini-llama"
# The target of a Markdown link or an HTML attribute, unless it is an address or a place on the page itself.
_RELATIVE_TARGET = re.compile(r"""(\]\(|\b(?:href|src|srcset)=["'])(?![a-z][a-z0-9+.-]*:|//|#)([^)\s"']+)""")
_PICTURES = {".gif", ".jpg", ".png", ".svg", ".webp"}


def read_version() -> str:
    """Return the version that `bundler` has, without importing it: the build has none of its requirements."""
    found = re.search(r'^__version__ = "(.+)"$', (_HERE / "bundler/__init__.py").read_text(encoding="utf-8"), re.M)
    if found is None:
        raise ValueError('bundler/__init__.py: expected a line __version__ = "...", found none')
    return found[1]


def make_links_absolute(page: str, tag: str) -> str:
    """Return a Markdown page whose relative links lead to the repository's files at `tag`."""

    def address(link: re.Match[str]) -> str:
        before, path = link.groups()
        if Path(path).suffix in _PICTURES:
            return f"{before}https://raw.githubusercontent.com/{_REPOSITORY}/{tag}/{path}"
        return f"{before}https://github.com/{_REPOSITORY}/blob/{tag}/{path}"

    return _RELATIVE_TARGET.sub(address, page)


if __name__ == "__main__":
    setup(
        long_description=make_links_absolute(
            (_HERE / "README.md").read_text(encoding="utf-8"), f"v{read_version()}"
        ),
        long_description_content_type="text/markdown",
    )
