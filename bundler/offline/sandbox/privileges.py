"""Give up what the kernel would let a process do beyond its own files: capabilities, set-user-ID programs, keys."""

from __future__ import annotations

import contextlib
import itertools

from bundler.offline.kernel.seccomp_filter import no_new_privileges
from bundler.offline.sandbox.system_calls import (
    PR_CAPBSET_DROP,
    control,
    join_new_keyring,
    set_no_capabilities,
)


def drop_privileges() -> None:
    """Give all of them up, for good and for all children.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    # A kernel without keys has none to leave behind, and a container's filter may refuse the question.
    with contextlib.suppress(OSError):
        join_new_keyring()
    # Root gets back what is in the bounding set when it executes a program. The kernel knows where the numbers end;
    # who may not change the set has no capabilities that a program could get back.
    with contextlib.suppress(OSError):
        for capability in itertools.count():
            control(PR_CAPBSET_DROP, capability)
    set_no_capabilities()
    no_new_privileges()
