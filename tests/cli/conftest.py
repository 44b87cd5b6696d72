"""What the tests of commands borrow from those of the libraries behind them."""

from __future__ import annotations

from tests.serve.conftest import shared_repos

__all__ = ["shared_repos"]
