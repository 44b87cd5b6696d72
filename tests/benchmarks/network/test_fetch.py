"""The harness of `make bench-fetch`: line and Hub carry what they should, and the table says what was measured."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

from benchmarks.lib.measure import Run
from benchmarks.network import fetch, line
from bundler.files.digest import sha256_bytes
from bundler.hub.connection.crew import Crew
from bundler.make.download.download import Downloader
from bundler.make.download.request import Control
from bundler.make.store import Store
from tests.support.remote import locked, write_repo

CONTENT = random.Random(7).randbytes(3_000_000)


def test_the_line_passes_on_all_bytes_both_ways_and_the_end() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    received = bytearray()

    def echo() -> None:
        near, _ = listener.accept()
        while block := near.recv(1 << 16):
            received.extend(block)
        near.sendall(received)
        near.close()

    threading.Thread(target=echo, daemon=True).start()
    address = line.serve(listener.getsockname(), round_trip_seconds=0.002, rate=1e9)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(CONTENT)
        connection.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while block := connection.recv(1 << 16):
            answer += block
    listener.close()
    assert received == answer == CONTENT


def test_what_comes_over_the_line_from_the_distant_hub_is_what_it_has(tmp_path: Path) -> None:
    files = {"large.safetensors": CONTENT, "folder/small.json": b"{}"}
    write_repo(tmp_path / "files", files)
    with fetch.distant_hub(tmp_path / "files", round_trip_ms=1, rate_mb=1000) as endpoint:
        repo = locked(endpoint, fetch.REPO_ID)
        control = Control()
        crew = Crew(2, control.stop)
        store = Store(tmp_path / "store")
        downloader = Downloader(store=store, endpoint=endpoint, control=control, crew=crew)
        crew.run([lambda file=file: downloader.download(repo, file) and None for file in repo.files])  # type: ignore[misc]
    assert {file.path: store.path(file.etag).read_bytes() for file in repo.files} == files
    [large] = [file for file in repo.files if file.lfs_sha256]
    assert large.lfs_sha256 == sha256_bytes(CONTENT)


def run_of(wall: float, cpu: float = 1.0, peak: int = 50_000_000) -> Run:
    return Run(wall_seconds=wall, cpu_seconds=cpu, peak_bytes=peak, flush_seconds=0, size_bytes=1)


def test_a_ratio_is_taken_within_a_round_and_judged_by_the_median() -> None:
    readings = {
        "fast": (
            [run_of(4.0), run_of(9.0), run_of(8.0)],
            [run_of(2.0), run_of(3.0), run_of(4.0, peak=60_000_000)],
        ),
        "slow": ([run_of(1.4)], [run_of(1.0, cpu=3.0)]),
    }
    assert fetch.markdown(readings).splitlines()[2:] == [
        "| fast | **8.0 s** [4.0–9.0] | **3.0 s** [2.0–4.0] | **2.0 ×** [2.0–3.0] | 1.0 s and 1.0 s | 60 MB | "
        "reached: 1.5 × |",
        "| slow | **1.4 s** [1.4–1.4] | **1.0 s** [1.0–1.0] | **1.4 ×** [1.4–1.4] | 1.0 s and 3.0 s | 50 MB | "
        "**not reached**: 1.5 × |",
    ]


def test_a_smaller_case_has_fewer_files_or_a_smaller_one() -> None:
    one, many, _ = fetch.CASES
    assert fetch._scaled(one, 10).size_bytes == one.size_bytes // 10
    assert (fetch._scaled(many, 10).count, fetch._scaled(many, 10).size_bytes) == (20, many.size_bytes)
