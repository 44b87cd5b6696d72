"""Load kernels with the kernels library, in the proof's child process."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from bundler.hub.selection.kernels import METADATA
from bundler.hub.selection.variants import BUILD_FOLDER, list_variants
from bundler.make.proof.entries import LoadedEntry, LoadingFault, Outcome, try_call
from bundler.text.wording import counted, name_some

# What the library says where no build is for the machine at hand; other machines are not here to be asked.
_NO_BUILD = "Cannot find a build variant for this system"


def prove(entry: LoadedEntry, outcome: Outcome) -> None:
    """Check that the builds of a kernel are whole, and load the one that is for this machine.

    Raises:
        LoadingFault: A build has no description, or the one for this machine does not load.
    """
    names = [variant.name for variant in list_variants(entry.paths)]
    if bare := [name for name in names if f"{BUILD_FOLDER}/{name}/{METADATA}" not in entry.paths]:
        raise LoadingFault(f"no {METADATA} in {name_some(bare)}, which the kernels library reads")
    outcome.proven.append(f"has {counted(len(names), 'build')}: {name_some(names)}")
    if importlib.util.find_spec("kernels") is None:
        outcome.notes.append(f"not tried: get_kernel({entry.repo.repo_id!r}): kernels is not installed here")
        return
    import kernels

    revision = entry.repo.revision
    version = re.fullmatch(r"v([0-9]+)", revision)
    how: dict[str, Any] = {"version": int(version[1])} if version else {"revision": revision}
    for name in entry.names:
        call = f"get_kernel({name!r}, {', '.join(f'{key}={value!r}' for key, value in how.items())})"
        try:
            # What GPU is there matters where it is used.
            try_call(call, kernels.get_kernel, name, check_arch=False, trust_remote_code=True, **how)
        except ImportError as error:
            outcome.notes.append(f"not tried: {call}: {' '.join(str(error).split())[:200]}")
            return
        except LoadingFault as error:
            if _NO_BUILD not in str(error):
                raise
            outcome.notes.append(f"not tried: {call}: no build is for this machine")
            return
    outcome.proven.append(f"loads as {' and '.join(entry.names)}")
