"""What an isolation costs a program that connects, and one that sends: ``python -m benchmarks.launch.connects``.

A program connects to itself over loopback again and again, then sends over one connection. It runs plain and in a
launch of each kind, one after the other in each round; a ratio is taken within a round. With `--write` the table
replaces the one in README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.launch.run import commands
from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish, spread
from bundler.home.installation.install import install
from tests.support.bundles import locked_repo, tiny_bundle

MARKS = Marks("bench-launch-connects")
TARGET_RATIO = 3.0
_CONNECTS, _BATCH = 5000, 100
_SENDS, _SEND_BYTES = 16_000, 1 << 16
_FILES = {"config.json": b"{}"}
PROGRAM = f"""
import json, socket, threading, time
listener = socket.create_server(("127.0.0.1", 0), backlog={_BATCH})
address = listener.getsockname()
connect = 0
for _ in range({_CONNECTS // _BATCH}):
    begun = time.perf_counter()
    for _ in range({_BATCH}):
        with socket.socket() as sender:
            sender.connect(address)
    connect += time.perf_counter() - begun
    for _ in range({_BATCH}):
        listener.accept()[0].close()
connect /= {_CONNECTS}
def take(end):
    while end.recv(1 << 20):
        pass
sender = socket.create_connection(address)
taker = threading.Thread(target=take, args=(listener.accept()[0],))
taker.start()
piece = bytes({_SEND_BYTES})
begun = time.perf_counter()
for _ in range({_SENDS}):
    sender.sendall(piece)
sender.close()
taker.join()
print(json.dumps([connect, {_SENDS * _SEND_BYTES} / (time.perf_counter() - begun)]))
"""

# Kind -> microseconds of a connect, and GB/s of a connection, one of each a round.
Readings = Mapping[str, tuple[list[float], list[float]]]


def measure(measured: Mapping[str, Sequence[str]], rounds: int) -> Readings:
    """Run the program `rounds` times by each of the commands."""
    readings: Readings = {kind: ([], []) for kind in measured}
    for _ in range(rounds):
        for kind, words in measured.items():
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(words[:-1])} ended with {done.returncode}:\n{done.stderr}")
            connect, rate = json.loads(done.stdout)
            readings[kind][0].append(connect * 1e6)
            readings[kind][1].append(rate / 1e9)
    return readings


def markdown(readings: Readings) -> str:
    """Return the table; of the kind without a name, the plain program, ratios are taken."""
    lines = ["| | a connect | over plain | a connection | over plain | |", "| --- | --- | --- | --- | --- | --- |"]
    plain_connects, plain_rates = readings[""]
    for kind, (connects, rates) in readings.items():
        name = f"`bundle run --isolate {kind}`" if kind else "plain"
        cells = [name, spread(connects, " µs", 0), "", spread(rates, " GB/s"), "", ""]
        if kind:
            ratios = [ours / plain for ours, plain in zip(connects, plain_connects, strict=True)]
            cells[2] = spread(ratios, " ×", 1)
            cells[4] = spread([ours / plain for ours, plain in zip(rates, plain_rates, strict=True)], " ×", 2)
            reached = statistics.median(ratios) <= TARGET_RATIO
            cells[5] = f"{'reached' if reached else '**not reached**'}: {TARGET_RATIO:g} × a connect"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(
        description="Measure what an isolation costs connects and traffic on loopback."
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    options = parser.parse_args()
    machine.keep_bytecode()
    with tempfile.TemporaryDirectory(prefix="bench-connects-") as folder:
        work = Path(folder)
        bundle = tiny_bundle(work, locked_repo("org/small", _FILES), contents=_FILES.values())
        install(bundle, work / "hf")
        before = machine.load()
        readings = measure(commands(work / "hf", [sys.executable, "-S", "-c", PROGRAM]), options.rounds)
        known = circumstances(work, before, f"{options.rounds} rounds")
    publish(MARKS, f"{known}\n\n{markdown(readings)}", write=options.write)


if __name__ == "__main__":
    main()
