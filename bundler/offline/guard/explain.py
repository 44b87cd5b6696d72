"""The last line of an error that came of the offline launch, and does not say so.

The guard loads this as it loads `caller`, when a program or a thread ends with an error: the standard library only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any


def explain(
    error: BaseException,
    refused: type[BaseException],
    refusals: Sequence[str],
    *,
    attempts: int,
    home: str,
    load: Callable[[str], Any],
) -> None:
    """Write to stderr what the cache lacks, or what was refused, if that is why and nobody has said it.

    Args:
        error: What ended it.
        refused: The class of the guard's own errors.
        refusals: The words of the latest refusal, if there was one.
        attempts: How many there were.
        home: HF_HOME.
        load: Loads a module beside this one.
    """
    caller = load("caller")
    wanted = caller.missing_from_cache(error)
    if wanted:
        what, hint = load("missing").explain_missing(wanted, home)
        sys.stderr.write(f"\noffline: {what}\n  hint: {hint}\n")
    elif refusals and not any(isinstance(cause, refused) for cause in caller.causes(error, hidden=False)):
        # A library took the refusal for its own trouble, and told nobody.
        more = f"; {attempts} refusals in this process" if attempts > 1 else ""
        sys.stderr.write(f"\n{refusals[-1]}{more}\n")
