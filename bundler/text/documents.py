"""Where people find the documents that help texts and hints point to.

A wheel has no README beside its modules, so messages give a web address. It is the address of this version, because
the newest document may describe another program. For machines without internet the wheel installs copies below
``share/doc/infini-llama`` of its environment, under the same paths as in the repository.
"""

from __future__ import annotations

from bundler import __version__

REPOSITORY = "https://github.com/infini-llama/infini-llama"


def document_address(path: str) -> str:
    """Return the address of a document of this version.

    Args:
        path: Its path in the repository, with or without an anchor, such as ``OFFLINE_MODE.md#exit-codes``.
    """
    return f"{REPOSITORY}/blob/v{__version__}/{path}"


def describe_exit_codes() -> str:
    """Return the end of both commands' help: where the exit codes are explained, with internet and without."""
    return (
        f"Exit codes: {document_address('OFFLINE_MODE.md#exit-codes')}, and without internet "
        "share/doc/infini-llama/OFFLINE_MODE.md in the Python environment."
    )
