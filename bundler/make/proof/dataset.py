"""Datasets in the proof's child processes: prepare them once from the fetched files, then load them by name.

Without a network `load_dataset("org/name")` does not read the hub cache; it needs the files that the library made in an
earlier run, below `HF_HOME/datasets`. This earlier run happens here, with our own server on loopback, which serves only
the fetched files. The data itself is read from the cache.

The prepared files depend on the files, the commit and the versions of datasets and pyarrow, and not on the place of the
cache or the address of the server. `dataset_files` refuses datasets that break this rule: media datasets that name
their files by absolute path.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundler.make.proof.entries import LoadedEntry, LoadingFault, Outcome, try_call
from bundler.offline.guard.dataset_calls import find_default
from bundler.plan.lock import LockedRepo
from bundler.plan.names import prepared_folder
from bundler.text.wording import counted


@contextlib.contextmanager
def serve_on_loopback(home: Path) -> Iterator[str]:
    """Serve the cache at `home` to this process while the block runs; yield the address."""
    import uvicorn

    from bundler.serve.listen import endpoint_of, open_listener
    from bundler.serve.server import create_app
    from bundler.serve.sources import open_source

    listener = open_listener()
    # Not `uvicorn.run`: it installs signal handlers, which works only in the main thread.
    server = uvicorn.Server(
        uvicorn.Config(create_app(open_source(home)), log_config=None, access_log=False, lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        # The socket is listening already: requests wait in its queue until the server runs.
        yield endpoint_of(listener)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


def prepare(repo: LockedRepo, home: Path) -> list[str]:
    """Let the library prepare a dataset, and return the prepared files.

    Args:
        repo: The dataset's entry.
        home: HF_HOME of this process, with the entry's snapshot.

    Returns:
        POSIX paths below the dataset's folder in `home/datasets`, sorted.

    Raises:
        LoadingFault: The library cannot load the dataset, or the prepared files work only in this cache.
    """
    import datasets

    configs = list(repo.configs)
    # An entry that chooses files or folders does not want the repo's own configurations, of which some may not load.
    if not configs and not _choices(repo):
        configs = try_call(
            f"get_dataset_config_names({repo.repo_id!r})",
            datasets.get_dataset_config_names,
            repo.repo_id,
            revision=repo.commit,
        )
    for options in [{"name": config} for config in configs] + _choices(repo):
        call = _call(repo.repo_id, options)
        builder = try_call(call, datasets.load_dataset_builder, repo.repo_id, revision=repo.commit, **options)
        try_call(call, builder.download_and_prepare)
        if "name" not in options:
            _rename_for_offline(Path(builder.cache_dir), options)
    found = dataset_files(home / "datasets" / prepared_folder(repo.repo_id), home)
    # CONFIG/VERSION/COMMIT/FILE: another entry may have prepared another commit there.
    return [path for path in found if path.split("/")[2:3] == [repo.commit]]


def _choices(repo: LockedRepo) -> list[dict[str, Any]]:
    files = [{"data_files": json.loads(text)} for text in repo.data_files]
    return files + [{"data_dir": folder} for folder in repo.data_dirs]


def _rename_for_offline(prepared: Path, options: dict[str, Any]) -> None:
    """Rename what was prepared from chosen files or a folder to the name that the library uses offline.

    Online the library names the folder after the card's default configuration and the resolved files. Offline it knows
    neither, and looks for ``default-`` and the argument of the program.
    """
    import datasets

    folder = prepared.parents[1]
    wanted = folder.with_name(datasets.BuilderConfig("default").create_config_id(config_kwargs=options))
    if wanted != folder:
        folder.rename(wanted)


def _call(name: str, options: dict[str, Any]) -> str:
    return f"load_dataset({', '.join([repr(name), *(f'{key}={value!r}' for key, value in options.items())])})"


def dataset_files(folder: Path, home: Path) -> list[str]:
    """List the prepared files below `folder`, without locks and temporary files.

    Raises:
        LoadingFault: There are none, or one holds a path of this cache and would not work in another.
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

    configs = _prepared_configs(entry)
    wanted: dict[str, dict[str, Any]] = {f"{config}/": {"name": config} for config in configs}
    default = find_default(datasets.load, str(entry.snapshot))
    if [default] == configs:
        wanted = {"": {}}
    elif default in configs:
        wanted[""] = {}
    elif default is not None and configs:
        outcome.notes.append(
            f"{_call(entry.repo.repo_id, {})} not tried: it means the configuration {default}, which is not prepared"
        )
    wanted |= {f"{value}/": {key: value} for options in _choices(entry.repo) for key, value in options.items()}
    rows: dict[str, Any] = {}
    for name in entry.names:
        for label, options in wanted.items():
            loaded = try_call(_call(name, options), datasets.load_dataset, name, **options)
            for split, data in loaded.items():
                if not options and data.info.config_name != default:
                    raise LoadingFault(f"{_call(name, {})} gives {data.info.config_name}, expected {default}")
                if data.num_rows:
                    # The schema is in the first bytes of the file; the last row shows that the file is complete.
                    try_call(f"reading the last row of {name} ({split})", data.__getitem__, data.num_rows - 1)
                rows[f"{label}{split}"] = data.num_rows
    listing = ", ".join(f"{split}: {counted(count, 'row')}" for split, count in rows.items())
    outcome.proven.append(f"dataset loads as {' and '.join(entry.names)} ({listing})")


def _prepared_configs(entry: LoadedEntry) -> list[str]:
    """Return the names of the prepared configurations; folders of file choices, beside them, are left out."""
    folder = entry.snapshot.parents[3] / "datasets" / prepared_folder(entry.repo.repo_id)
    names = set()
    for file in entry.repo.prepared:
        config = file.path.split("/")[0]
        if file.path.endswith("/dataset_info.json"):
            info = json.loads((folder / file.path).read_bytes())
            names |= {config} if info.get("config_name") == config else set()
    return sorted(names)
