"""What `bundle serve` takes of the processor beside nginx: what `make bench-serve` runs.

    python -m benchmarks.serve.run [--write] [--shape NAME] [--rounds N]

All files of a repo are downloaded from a folder and from a bundle, and the same files from nginx with sendfile(2), by
a client that throws them away. What counts is the CPU time of the server's processes, in user and system mode; a
client on the same machine takes as much again for its part. Everything is made in --work, which is removed at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.measure import command, size_of
from benchmarks.lib.section import circumstances, publish, spread
from benchmarks.lib.work import work_folder
from benchmarks.pack.generated import generate_weights, pack_weights
from benchmarks.pack.tools import BIN
from bundler.console.output import say
from bundler.files.owner import read_stat_fields
from bundler.text.wording import size

HERE = Path(__file__).parents[1]
MARKS = Marks("bench-serve")
# How many times nginx's CPU time is allowed.
TARGETS = {"folder": 2.0, "bundle": 5.0}
# Smaller ones take no time that can be counted.
_ROOM_BYTES = {"1b": 8_000_000_000, "3b": 25_000_000_000}
_READ_BYTES = 1 << 20
_NGINX = """\
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/nginx.log;
events {{}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work};
    uwsgi_temp_path {work}; scgi_temp_path {work};
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True)
class Served:
    """What one server took to send all files to some clients at once.

    Attributes:
        cpu_seconds: CPU time of its processes, for each gigabyte that was sent.
        rate: Gigabytes a second, all clients together.
        peak_bytes: Resident memory of its largest process, at most.
    """

    cpu_seconds: float
    rate: float
    peak_bytes: int


@contextmanager
def _serve_by_bundle(source: Path) -> Iterator[tuple[int, str]]:
    """Yield the process that serves a folder or a bundle, and the address of a repo's files."""
    words = command(BIN / "bundle", "serve", source, "--port", "0", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield process.pid, f"{json.loads(process.stdout.readline())['endpoint']}/bench/w/resolve/main"
        finally:
            process.terminate()


@contextmanager
def _serve_by_nginx(root: Path, work: Path) -> Iterator[tuple[int, str]]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    port = machine.find_port()
    (work / "nginx.conf").write_text(_NGINX.format(work=work, root=root, port=port))
    with subprocess.Popen(
        command(program, "-p", work, "-c", work / "nginx.conf", "-e", work / "nginx.log")
    ) as process:
        try:
            while process.poll() is None:
                try:
                    http.client.HTTPConnection("127.0.0.1", port).connect()
                    break
                except OSError:
                    time.sleep(0.01)
            yield process.pid, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def download_all(address: str, names: Sequence[str], clients: int) -> int:
    """Download files over one connection for each client, each by each; return how many bytes came."""
    counts = [0] * clients
    parts = urlsplit(address)

    def download(number: int) -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        room = bytearray(_READ_BYTES)
        for name in names:
            connection.request("GET", f"{parts.path}/{name}")
            answer = connection.getresponse()
            if answer.status != 200:
                break
            while count := answer.readinto(room):
                counts[number] += count
        connection.close()

    threads = [threading.Thread(target=download, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def _measure(process: int, address: str, names: Sequence[str], clients: int, expected_bytes: int) -> Served:
    # Hashing, and whatever else is done once.
    download_all(address, names, 1)
    before, begun = _cpu_seconds(process), time.perf_counter()
    sent = download_all(address, names, clients)
    wall, cpu = time.perf_counter() - begun, _cpu_seconds(process) - before
    if sent != clients * expected_bytes:
        raise click.ClickException(f"{address}: expected {clients * expected_bytes:,} bytes, found {sent:,}")
    peak = max(_peak_bytes(each) for each in _family(process))
    return Served(cpu / (sent / 1e9), sent / 1e9 / wall, peak)


def _family(process: int) -> list[int]:
    """Return a process and those below it."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in _family(int(child)))]


def _cpu_seconds(process: int) -> float:
    ticks = 0
    for each in _family(process):
        fields = read_stat_fields(each)
        ticks += int(fields[14 - 3]) + int(fields[15 - 3])  # utime, stime
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def markdown(found: dict[tuple[str, int], list[Served]]) -> str:
    """Return the table; ratios are of the same round."""
    lines = [
        "| from | clients | CPU, s/GB | over nginx | GB/s | peak memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (kind, clients), rounds in found.items():
        ratio = ""
        if kind in TARGETS:
            beside = found["nginx", clients]
            ratios = [ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in zip(rounds, beside, strict=True)]
            is_reached = statistics.median(ratios) <= TARGETS[kind]
            ratio = f"{spread(ratios, '', 1)}, {'reached' if is_reached else '**not reached**'}: {TARGETS[kind]:g}"
        lines.append(
            f"| {kind} | {clients} | {spread([one.cpu_seconds for one in rounds], ' s')} | {ratio} | "
            f"{spread([one.rate for one in rounds], '')} | {size(max(one.peak_bytes for one in rounds))} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--shape", type=click.Choice(list(_ROOM_BYTES)), default="1b", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "work", show_default="benchmarks/work")
@click.option("--write", is_flag=True, help="Write the table to benchmarks/README.md.")
def main(shape: str, rounds: int, work: Path, write: bool) -> None:
    """Serve generated weights to one client, and to four at once."""
    before = machine.load()
    found: dict[tuple[str, int], list[Served]] = {}
    with work_folder(work, _ROOM_BYTES[shape]) as work:
        files, bundle = work / "repos" / "bench" / "w", work / "w.tar.zst"
        generate_weights(shape, "bench/w", files, work / "w.lock")
        pack_weights(work / "w.lock", files, bundle)
        names = sorted(path.name for path in files.iterdir())
        for number in range(rounds):
            servers = {
                "nginx": _serve_by_nginx(files, work),
                "folder": _serve_by_bundle(work / "repos"),
                "bundle": _serve_by_bundle(bundle),
            }
            for kind, server in servers.items():
                with server as (process, address):
                    for clients in (1, 4):
                        say(f"round {number + 1} of {rounds}: {kind}, {clients} at once")
                        served = _measure(process, address, names, clients, size_of(files))
                        found.setdefault((kind, clients), []).append(served)
        what = f"{size(size_of(files))} of generated bf16 weights, {rounds} rounds"
        known = circumstances(work, before, what)
    publish(MARKS, f"{known}\n\n{markdown(found)}", write=write)


if __name__ == "__main__":
    main()
