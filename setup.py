"""What setup.cfg cannot say: the front page as PyPI shows it, and the compiled code.

Links of the front page lead to the files of this release. The compiled code is optional: where it cannot be built the
installation goes on without it, and numpy does its work (`bundler/format/codec/words.py`). It uses the limited API of
Python 3.11, so that a wheel made with any Python is for all from that one on. With `BUNDLE_COMPILED=0` it is left out,
and the wheel is one for every machine.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import Extension, setup

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


WORDS = Extension(
    "bundler.format.codec._words",
    sources=["bundler/format/codec/_words.c"],
    depends=[f"bundler/format/codec/{name}.h" for name in ("_exponents", "_sorted", "_word_loops")],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    py_limited_api=True,
    optional=True,
    # -O3, for loops of vector instructions: not every Python was built with it.
    extra_compile_args=["-std=c11", "-O3"],
)

if __name__ == "__main__":
    setup(
        ext_modules=[] if os.environ.get("BUNDLE_COMPILED") == "0" else [WORDS],
        # The wheel's tag: what python_requires says as the oldest.
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
        long_description=make_links_absolute(
            (_HERE / "README.md").read_text(encoding="utf-8"), f"v{read_version()}"
        ),
        long_description_content_type="text/markdown",
    )
