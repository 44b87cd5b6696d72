"""results.json as Markdown: the tables of benchmarks/README.md, and the short one of the front page.

Each table is put between two markers, and nothing outside them is touched. Every figure comes from the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.lib.marks import Marks
from benchmarks.pack.summary import (
    GENERATED,
    OURS,
    Results,
    Spread,
    ratio,
    refetch_seconds,
    spread,
    targets,
    times,
)

MARKS = Marks("bench")
_UNLIKE = (
    "`cp` and `openssl dgst` are limits, not rivals. tar, zipnn and hf-ark's install verify nothing; modelferry and "
    "hf-ark do not compress; hf-ark's pack is hashing a finished download."
)
_ACTIONS = ("pack", "install", "verify")


def full(results: Results) -> str:
    """Return everything that was measured, for benchmarks/README.md."""
    parts = [_conditions(results), "### Targets", _targets(results)]
    for name, case in results["cases"].items():
        parts += [f"### {case['title']}", _facts(case), _runs_table(results, name), _notes(case)]
        if len(case["tools"]) > 1:
            parts += [_ratios_table(results, name)]
    if "fetch" in results:
        parts += ["### Fetching again", _fetch_table(results)]
    parts += ["### Commands", _commands(results)]
    return "\n\n".join(part for part in parts if part)


def front(results: Results) -> str:
    """Return the short table for the front page: the large case, ours beside the others."""
    case = results["cases"][GENERATED]
    rows = ["| | size | pack | install | verify |", "| --- | --- | --- | --- | --- |"]
    for tool, cells in case["tools"].items():
        if not tool.startswith(f"{OURS} "):
            size = _size_cell(results, GENERATED, tool, case["raw_bytes"])
            walls = [_wall_only(results, GENERATED, tool, action, cells) for action in _ACTIONS]
            rows.append(f"| {_code(tool)} | {size} | {' | '.join(walls)} |")
    machine = results["machine"]
    title = f"{case['title']} on {machine['cores']} cores ({machine['cpu']}), median of {results['rounds']} rounds"
    return "\n".join([f"{title}:", "", *rows, "", " ".join(filter(None, [_UNLIKE, _warning(results)]))])


def _conditions(results: Results) -> str:
    machine = results["machine"]
    gib = machine["memory_bytes"] / 2**30
    flags = " ".join(machine["cpu_flags"])
    load = "; ".join(f"{when} {' '.join(map(str, values))}" for when, values in results["load"].items())
    return (
        f"{results['date']}, commit {machine['commit']}. {machine['cpu']}, {machine['cores']} cores ({flags}), "
        f"{gib:.0f} GiB of memory, {machine['kernel']}, file system {machine['file_system']}. "
        f"Python {machine['python']}, {', '.join(machine['packages'])}; zstd {machine['zstd']}, {machine['tar']}, "
        f"OpenSSL {machine['openssl']}; peers: {', '.join(results['peers']) or 'none'}. "
        f"{results['rounds']} rounds. Load averages (1, 5, 15 min): {load}. "
        f"Peaks below {results['floor_bytes'] / 1e6:.0f} MB cannot be seen. {_warning(results)}"
    ).rstrip()


def _warning(results: Results) -> str:
    """Return a warning where other work was going on: before the start, or beyond what the bench itself causes."""
    before, after, cores = results["load"]["before"], results["load"]["after"], results["machine"]["cores"]
    if before[0] < cores / 4 and after[1] < cores + 0.5:
        return ""
    return (
        "**The machine was busy with other work meanwhile: sizes and memory hold, times and their ratios do not.**"
    )


def _targets(results: Results) -> str:
    rows = ["| figure | at least | measured | |", "| --- | --- | --- | --- |"]
    words = {True: "reached", False: "**not reached**", None: "–"}
    for target in targets(results):
        goal = target.goal.replace("|", "\\|")
        rows.append(f"| {target.figure} | {goal} | {target.measured} | {words[target.reached]} |")
    return "\n".join(rows)


def _facts(case: dict[str, Any]) -> str:
    text = f"{case['files']} files, {case['raw_bytes'] / 1e6:.1f} MB."
    if entropy := case.get("entropy"):
        text += (
            f" {entropy['weights']:,} weights; order-0 entropy of the exponent {entropy['exponent_bits']:.3f} bits "
            f"({entropy['exponent_bits_by_tensor']:.3f} tensor by tensor): "
            f"bound {entropy['bound_bytes'] / 1e6:.1f} MB, "
            f"{entropy['bound_fraction']:.4f} of the weights."
        )
    return text


def _runs_table(results: Results, name: str) -> str:
    case = results["cases"][name]
    rows = [
        "| | size | pack: wall, CPU, peak | install: wall (to disk), CPU, peak | verify: wall, CPU, peak |",
        "| --- | --- | --- | --- | --- |",
    ]
    for tool, cells in case["tools"].items():
        size = _size_cell(results, name, tool, case["raw_bytes"])
        texts = [_cell(results, name, tool, action, cells) for action in _ACTIONS]
        rows.append(f"| {_code(tool)} | {size} | {' | '.join(texts)} |")
    return "\n".join(rows)


def _cell(results: Results, case: str, tool: str, action: str, cells: dict[str, Any]) -> str:
    wall = spread(results, case, tool, action, "wall_seconds")
    cpu = spread(results, case, tool, action, "cpu_seconds")
    memory = spread(results, case, tool, action, "peak_bytes")
    flush = spread(results, case, tool, action, "flush_seconds")
    if wall is None or cpu is None or memory is None or flush is None:
        return _no_figure(cells.get(action, {}))
    to_disk = f" (+{flush.median:.2f})" if action == "install" else ""
    return f"**{_seconds(wall)}**{to_disk}, {cpu.median:.2f} s, {memory.high / 1e6:.0f} MB"


def _wall_only(results: Results, case: str, tool: str, action: str, cells: dict[str, Any]) -> str:
    wall = spread(results, case, tool, action, "wall_seconds")
    return _no_figure(cells.get(action, {})) if wall is None else f"{wall.median:.2f} s"


def _no_figure(cell: dict[str, Any]) -> str:
    return "failed" if "failed" in cell else str(cell.get("short", ""))


def _size_cell(results: Results, case: str, tool: str, raw_bytes: int) -> str:
    size = spread(results, case, tool, "pack", "size_bytes")
    return "" if size is None else f"{size.median / 1e6:.1f} MB ({size.median / raw_bytes:.4f})"


def _notes(case: dict[str, Any]) -> str:
    lines = []
    for tool, cells in case["tools"].items():
        for action, cell in cells.items():
            if "failed" in cell:
                reason = " ".join(cell["failed"].split())
                lines.append(f"- {_code(tool)}, {action}: failed: {reason[:300]}")
    return "\n".join(lines)


def _ratios_table(results: Results, name: str) -> str:
    rows = [
        f"Theirs divided by ours (`{OURS}`), in the same round; above 1 ours is smaller or faster:",
        "",
        "| | size | pack | install | verify |",
        "| --- | --- | --- | --- | --- |",
    ]
    for tool in results["cases"][name]["tools"]:
        size = ratio(results, name, "pack", of=tool, to=OURS, key="size_bytes")
        walls = [ratio(results, name, action, of=tool, to=OURS) for action in _ACTIONS]
        if tool != OURS and any(walls):
            texts = ["" if size is None else f"{size.median:.3f}", *("" if w is None else times(w) for w in walls)]
            rows.append(f"| {_code(tool)} | {' | '.join(texts)} |")
    return "\n".join(rows) if len(rows) > 4 else ""


def _fetch_table(results: Results) -> str:
    fetch = results["fetch"]
    rounds = fetch["rounds"]

    def row(title: str, values: list[float]) -> str:
        return f"| {title} | {_seconds(Spread.of(values))} |"

    return "\n".join(
        [
            f"`bundle fetch` of {results['cases'][fetch['case']]['title']} from a `bundle serve` on loopback.",
            "",
            "| | wall |",
            "| --- | --- |",
            row("first fetch: download, hash, prove, pack", [fetch["first"]["wall_seconds"]]),
            row("fetch again", [item["again"]["wall_seconds"] for item in rounds]),
            row("– of it proof", [item["again"]["proof_seconds"] for item in rounds]),
            row("– as long as a dry run: start, resolve", [item["dry_run"]["wall_seconds"] for item in rounds]),
            row("– the rest", [refetch_seconds(item) for item in rounds]),
            row("`openssl dgst -sha256` of the same files", [item["openssl"]["wall_seconds"] for item in rounds]),
            row("fetch again, without a bundle", [item["packing"]["wall_seconds"] for item in rounds]),
            row("`tar` through `zstd -3 -T0` of the same files", [item["tar"]["wall_seconds"] for item in rounds]),
        ]
    )


def _commands(results: Results) -> str:
    return "\n".join(["| | | |", "| --- | --- | --- |", *dict.fromkeys(_command_rows(results))])


def _command_rows(results: Results) -> Iterator[str]:
    for case in results["cases"].values():
        for tool, cells in case["tools"].items():
            for action in _ACTIONS:
                cell = cells.get(action, {})
                if "command" in cell:
                    yield f"| {_code(tool)} | {action} | `{cell['command'].replace('|', chr(92) + '|')}` |"
                elif cell.get("short"):
                    yield f"| {_code(tool)} | {action} | none: {cell['refused']} |"


def _seconds(value: Spread) -> str:
    return f"{value.median:.2f} s" + ("" if value.low == value.high else f" [{value.low:.2f}–{value.high:.2f}]")


def _code(tool: str) -> str:
    # A pipe would end the table's cell, in code too.
    return f"`{tool}`".replace("|", "\\|")
