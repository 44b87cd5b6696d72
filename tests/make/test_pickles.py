"""bundler.make.pickles: real files of torch, programs in pickles, and files that would fill the memory."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from bundler.files.digest import sha256_bytes
from bundler.make.pickles import MAX_NAMES, PickleScan, scan_pickles
from bundler.make.store import Store
from tests.support.bundles import lock_of, locked_repo


class Calls:
    """What calls `function` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def scan(folder: Path, **files: bytes) -> list[PickleScan]:
    """Scan files in a store, named `a__pt` for `a.pt`."""
    contents = {name.replace("__", "."): content for name, content in files.items()}
    store = Store(folder / "store")
    for content in contents.values():
        path = store.path(sha256_bytes(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return list(scan_pickles(lock_of(locked_repo("org/m", contents, lfs=contents)), store))


def saved(value: Any, folder: Path) -> bytes:
    torch.save(value, folder / "saved")
    return (folder / "saved").read_bytes()


def test_weights_of_torch_call_nothing_dangerous(tmp_path: Path) -> None:
    assert scan(tmp_path, model__bin=saved({"w": torch.ones(3)}, tmp_path), config__json=b"{}") == [
        PickleScan(repo_id="org/m", path="model.bin")
    ]


def test_calls_are_named_and_nothing_is_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    plain = pickle.dumps([Calls(os.system, f"touch {touched}"), Calls(os.getenv, "X"), Calls(print, "x")])
    inside = saved({"w": Calls(os.system, f"touch {touched}")}, tmp_path)
    by_name = {one.path: one for one in scan(tmp_path, a__pkl=plain, b__pt=inside)}
    assert by_name["a.pkl"].dangerous == ("os.getenv", "posix.system")
    assert by_name["b.pt"].dangerous == ("posix.system",)
    assert not touched.exists()


def test_a_name_that_a_terminal_would_obey_is_escaped_and_names_are_bounded(tmp_path: Path) -> None:
    names = [b"\x1b[2Jm"] + [b"m%d" % number for number in range(2 * MAX_NAMES)]
    [found] = scan(tmp_path, a__pkl=b"".join(b"c" + name + b"\nf\n0" for name in names) + b"N.")
    assert found.unknown[0] == r"\x1b[2Jm.f"
    assert len(found.unknown) == MAX_NAMES


def test_a_file_that_would_fill_the_memory_is_told_as_not_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.make.pickles.MAX_MEMORY_BYTES", 300 << 20)
    with (
        zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("data.pkl", "w") as member,
    ):
        # BINBYTES8, with a length of 512 MiB.
        member.write(b"\x80\x05\x8e" + (512 << 20).to_bytes(8, "little"))
        for _ in range(512):
            member.write(bytes(1 << 20))
    [found] = scan(tmp_path, a__pkl=(tmp_path / "bomb").read_bytes())
    assert found.problem is not None
