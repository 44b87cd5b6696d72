"""Bundle Hugging Face repositories online, install and use them where there is no network.

Importing this package imports nothing heavy and touches no environment variable. The trainer-facing call,
`enforce_offline`, is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bundler.offline import enforce_offline

__version__ = "0.1.0"

__all__ = ["__version__", "enforce_offline"]


def __getattr__(name: str) -> Any:
    if name == "enforce_offline":
        from bundler.offline import enforce_offline

        return enforce_offline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
