"""Let a refusal leave urllib3 as its own error for a host that is out of reach, at the first try.

Programs with a cache of their own go on with it when they get that error, or `requests.ConnectionError`, which requests
makes of it. But urllib3 takes any OSError for one that may pass, and tries again as often, and waits as long, as its
caller said: minutes, for some. So inside of it a refusal is no OSError, passes all of that, and is turned here.

The guard loads this when urllib3 is imported, or pip's own copy, as it loads `caller`: the standard library only.

Source: urllib3 2.8 and 1.26, `HTTPConnectionPool.urlopen`; requests 2.34, `HTTPAdapter.send`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def give_up_at_once(module: ModuleType, refused: type[BaseException], is_of_hub: Callable[[Any], bool]) -> None:
    """Put a look at refusals around the function of urllib3 that makes requests.

    Args:
        module: Its module `connectionpool`.
        refused: The class of the guard's own errors.
        is_of_hub: Tells of a frame whether a client of the Hub is at work in it, which has a loop of its own.
    """
    pool = module.HTTPConnectionPool
    original = pool.urlopen

    @functools.wraps(original)
    def urlopen(self: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        try:
            return original(self, method, url, *arguments, **options)
        except refused as error:
            if is_of_hub(sys._getframe(1)):
                raise
            errors = sys.modules[f"{module.__name__.rpartition('.')[0]}.exceptions"]
            reason = errors.NewConnectionError(self, str(error))
            retries = options.get("retries")
            if getattr(retries, "total", retries) is False:
                raise reason from error
            raise errors.MaxRetryError(self, url, reason) from error

    pool.urlopen = urlopen
