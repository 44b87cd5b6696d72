"""Datasets in the proof's child processes: prepared once from the fetched files, then loaded by name.

`load_dataset("org/name")` does not read the hub cache without a network; it needs what the library made of the files
on an earlier run, below `HF_HOME/datasets`. So that earlier run happens here: against our own server on loopback,
which serves the fetched files and nothing else. The data itself comes straight out of the cache.

The prepared files depend on the files, the commit and the versions of datasets and pyarrow; not on where the cache
is or what the server's address was. `dataset_files` makes sure of that where it could fail: media datasets that
name their files by absolute path.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundler.cache import prepared_folder
from bundler.lock import LockedRepo
from bundler.proof.entries import LoadedEntry, LoadingFault, Outcome, tried


@contextlib.contextmanager
def loopback_hub(home: Path) -> Iterator[str]:
    """Serve the cache at `home` to this process; yields the address."""
    import uvicorn

    from bundler.hub.server import create_app
    from bundler.hub.sources import open_source

    listener = socket.create_server(("127.0.0.1", 0))
    # Head and body of an answer are two writes; Nagle's algorithm would hold the second one back.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Not "uvicorn.run": its signal handlers belong into a main thread.
    server = uvicorn.Server(
        uvicorn.Config(create_app(open_source(home)), log_config=None, access_log=False, lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        # The socket listens already: a request that comes before the server is up waits in its queue.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


def prepare(repo: LockedRepo, home: Path) -> list[str]:
    """Let the library prepare a dataset, and return the files that make up the result.

    Args:
        repo: The dataset's entry.
        home: HF_HOME of this process, with the entry's snapshot.

    Returns:
        POSIX paths below the dataset's folder in `home/datasets`, sorted.

    Raises:
        LoadingFault: The library cannot load the dataset, or what it makes cannot be moved.
    """
    import datasets

    configs = list(repo.configs) or tried(
        f"get_dataset_config_names({repo.repo_id!r})",
        datasets.get_dataset_config_names,
        repo.repo_id,
        revision=repo.commit,
    )
    for config in configs:
        call = f"load_dataset({repo.repo_id!r}, {config!r})"
        builder = tried(call, datasets.load_dataset_builder, repo.repo_id, config, revision=repo.commit)
        tried(call, builder.download_and_prepare)
    return dataset_files(home / "datasets" / prepared_folder(repo.repo_id), home)


def dataset_files(folder: Path, home: Path) -> list[str]:
    """List the prepared files below `folder`, without locks and other traces of the work.

    Raises:
        LoadingFault: There are none, or one holds a path of this cache, and would not work in another.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        is_work = path.name.endswith(".lock") or path.name.startswith("cache-") or ".incomplete" in relative
        if not path.is_file() or is_work:
            continue
        if _mentions(path, os.fsencode(home)):
            raise LoadingFault(
                f"its prepared form names files of this cache by absolute path ({relative}), as image and audio "
                "folders do, and would not load elsewhere; a Parquet copy of the dataset holds the content itself"
            )
        found.append(relative)
    if not found:
        raise LoadingFault("the datasets library left no prepared files")
    return found


def _mentions(path: Path, text: bytes) -> bool:
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return view.find(text) >= 0


def prove(entry: LoadedEntry, outcome: Outcome) -> None:
    """Load a prepared dataset by each of its names, in each of its configurations.

    Raises:
        LoadingFault: It does not load.
    """
    import datasets

    configs = sorted({path.path.split("/")[0] for path in entry.repo.prepared})
    rows: dict[str, Any] = {}
    for name in entry.names:
        # A single configuration is found without being named; with several, the library asks for one.
        for config in configs if len(configs) > 1 else [None]:
            arguments = [name] if config is None else [name, config]
            loaded = tried(f"load_dataset({', '.join(map(repr, arguments))})", datasets.load_dataset, *arguments)
            for split, data in loaded.items():
                if data.num_rows:
                    # The schema is in the file's first bytes; the last row needs all of it.
                    tried(f"reading the last row of {name} ({split})", data.__getitem__, data.num_rows - 1)
                rows[f"{config}/{split}" if config else split] = data.num_rows
    listing = ", ".join(f"{split}: {count:,} rows" for split, count in rows.items())
    outcome.proven.append(f"dataset loads as {' and '.join(entry.names)} ({listing})")
