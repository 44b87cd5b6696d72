"""Count the bytes of all tensors that are alive, and those that collectives exchange, without computing anything.

Tensors are fake: they have shapes, and storages with a size and no memory. So a rank of any number can be counted on a
small machine, with the code that would run there.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Collective -> which argument is whole: the result of a gathering, what is to be reduced.
_WHOLE = {"_allgather_base_": 0, "_reduce_scatter_base_": 1}


class Ledger(TorchDispatchMode):
    """Counts while it is entered, inside a `FakeTensorMode`.

    Attributes:
        live: Bytes of all storages that are alive.
        peak: Most of them at once since it was last set to 0.
        exchanged: Bytes of whole tensors, by collective, since it was last cleared.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.exchanged: dict[str, int] = defaultdict(int)
        self._sizes: dict[int, int] = {}
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count what it returns."""
        if DTensor in types:
            return NotImplemented  # it comes again, with this rank's share
        out = func(*args, **(kwargs or {}))
        if func.namespace == "c10d":
            name = func.__name__.partition(".")[0]
            self.exchanged[name] += args[_WHOLE[name]].nbytes
            self.recount()
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                self._count(x.untyped_storage())
        return out

    def recount(self) -> None:
        """Notice the storages that were emptied: FSDP2 keeps that of gathered weights, with no bytes."""
        for storage in [reference() for reference in self._storages.values()]:
            if storage is not None:
                self._count(storage)

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = 0
            self._storages[key] = weakref.ref(storage, lambda _: self._forget(key))
        self.live += storage.nbytes() - self._sizes[key]
        self._sizes[key] = storage.nbytes()
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
        del self._storages[key]
