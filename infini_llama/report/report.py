"""Write `report.html`: the results of a run, on a page that loads no other files.

It is made from `metrics.jsonl`, the newest checkpoint's `provenance.json`, and what was recalled if there is some, so
`infini-llama report` can write it again at any time; the trainer writes it at each checkpoint and at the end.
"""

from __future__ import annotations

import datetime
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bundler.errors import UsageError
from bundler.files.atomic import atomic_write
from infini_llama.progress import format_seconds
from infini_llama.report.charts import Line, line_chart
from infini_llama.run_folder import checkpoints
from infini_llama.run_folder.metrics import FILE, read_metrics
from infini_llama.run_folder.recalled import PASSKEYS, RECALL, read_recalled

REPORT = "report.html"
# Keys of the provenance whose words are not those of the key.
_WORDS = {
    "lock_sha256": "SHA-256 of the lock",
    "sha256": "SHA-256",
    "step": "checkpoint of step",
    "tokenizer_origin": "origin of the tokenizer",
    "tokenizer_commit": "commit of the tokenizer",
    "world_size": "processes",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --faint: #767676; --rule: #e0e0e0; --paper: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --faint: #9a9a9a; --rule: #333; --paper: #16181a } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } h3 { font-size: 1rem; margin-bottom: 0 }
p.note, p.empty, figcaption { color: var(--faint) } figure { margin: 1rem 0 }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: var(--faint) }
.grid { stroke: var(--rule) } .line { fill: none; stroke-width: 1.6 }
table { border-collapse: collapse } td, th { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top;
  overflow-wrap: anywhere } th { font-weight: 500; color: var(--faint); white-space: nowrap }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
pre { overflow-x: auto; border-top: 1px solid var(--rule); padding-top: .5rem }
"""


def write_report(output_dir: Path) -> Path:
    """Write the page of a run, and return its path.

    Raises:
        UsageError: The folder has no metrics.
    """
    lines = read_metrics(output_dir)
    if not lines:
        raise UsageError(
            f"{output_dir}: expected {FILE} with at least one line, found none",
            hint="name the --output-dir of a training",
        )
    path = output_dir / REPORT
    name, provenance = output_dir.absolute().name, _provenance(output_dir)
    # Names of files, and keys of damaged records, need not be Unicode.
    recalled, passkeys = (read_recalled(output_dir, file) for file in (RECALL, PASSKEYS))
    text = page(name, lines, provenance, recalled, passkeys)
    atomic_write(path, text.encode(errors="backslashreplace"))
    return path


def page(
    name: str,
    lines: Sequence[dict[str, Any]],
    provenance: dict[str, Any],
    recalled: Sequence[dict[str, Any]] = (),
    passkeys: Sequence[dict[str, Any]] = (),
) -> str:
    """Return the HTML text of the page.

    Args:
        name: Name of the run.
        lines: Lines of its metrics.
        provenance: Provenance of a checkpoint; may be empty.
        recalled: What small models recalled of the recall task.
        passkeys: Which passkeys a checkpoint found.
    """
    steps = [line for line in lines if line.get("kind") == "step"]
    evaluations = [line for line in lines if line.get("kind") == "evaluation"]
    title = f"Infini-Llama: {html.escape(name)}"
    sections = [
        _overview(steps, provenance),
        "<h2>Loss</h2>" + _over_time([("loss", [line.get("loss") for line in steps])], steps),
        _learning_rates(steps),
        _gates(steps),
        _perplexities(evaluations),
        _recalled(recalled),
        _passkeys(passkeys),
        _speed(steps),
        _origin(provenance),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        # Tell the browser to load nothing, whatever the page holds.
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{''.join(sections)}</body></html>\n"
    )


def _provenance(output_dir: Path) -> dict[str, Any]:
    newest = checkpoints.find_latest(output_dir)
    found = json.loads((newest / checkpoints.PROVENANCE).read_bytes()) if newest else {}
    return found if isinstance(found, dict) else {}


def _overview(steps: Sequence[dict[str, Any]], provenance: dict[str, Any]) -> str:
    if not steps:
        return ""
    first, last = steps[0], steps[-1]
    planned = provenance.get("settings", {}).get("training", {}).get("steps")
    rows = {
        "steps": f"{last['step']:,}" + (f" of {planned:,}" if planned else ""),
        "tokens": f"{last['tokens']:,}",
        "loss": f"{_number(first['loss'])} in step {first['step']}, {_number(last['loss'])} at the end",
        "bad records": f"{last.get('bad_records', 0):,} left out",
        **_when(steps),
    }
    machine = provenance.get("machine", {})
    if machine:
        rows["machine"] = f"{provenance['world_size']} x {machine['device']}, {machine['system']}"
    lost = sum(line.get("loss") is None for line in steps)
    if lost:
        rows["warning"] = f"the loss is not finite in {lost} of {len(steps)} lines"
    return _table(rows)


def _when(steps: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return when the run was and how long it trained, as far as its lines say; those of old versions do not."""
    times = [line["time"] for line in steps if "time" in line]
    spent = [line["seconds"] for line in steps if "seconds" in line]
    rows = {}
    if times:
        rows["first line"], rows["last line"] = (
            datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
            for time in (times[0], times[-1])
        )
    if len(spent) == len(steps):
        rows["duration"] = f"{format_seconds(sum(spent))} of training, stops not counted"
    return rows


def _over_time(
    named: Sequence[tuple[str, Sequence[float | None]]],
    steps: Sequence[dict[str, Any]],
    y_range: tuple[float, float] | None = None,
) -> str:
    lines = [Line(name, [(line["step"], y) for line, y in zip(steps, ys, strict=True)]) for name, ys in named]
    return f"<figure>{line_chart(lines, x_label='step', y_range=y_range)}</figure>"


def _learning_rates(steps: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for line in steps for name in line["learning_rate"]))
    named = [(name, [line["learning_rate"].get(name) for line in steps]) for name in names]
    return "<h2>Learning rate by parameter group</h2>" + _over_time(named, steps)


def _gates(steps: Sequence[dict[str, Any]]) -> str:
    parts = [
        "<h2>Gates</h2><p class='note'>Share of the memory in each head's output; 0 is local attention alone.</p>"
    ]
    layers = len(steps[0]["gates"]) if steps else 0
    for layer in range(layers):
        heads = range(len(steps[0]["gates"][layer]))
        named = [(f"head {head}", [line["gates"][layer][head] for line in steps]) for head in heads]
        parts.append(f"<h3>Layer {layer}</h3>{_over_time(named, steps, (0.0, 1.0))}")
    return "".join(parts)


def _perplexities(evaluations: Sequence[dict[str, Any]]) -> str:
    heading = "<h2>Perplexity by position in the document</h2>"
    if not evaluations:
        return heading + (
            "<p class='note'>No held-out text: <code>evaluation.raw_data</code> or <code>evaluation.fraction</code> "
            "names some.</p>"
        )
    last = evaluations[-1]
    *stretches, whole = last["stretches"]
    kinds = (("with_memory", "with memory"), ("without_memory", "gates shut"))
    by_place = [Line(name, [((s["first"] + s["last"]) / 2, s[key]) for s in stretches]) for key, name in kinds]
    over_time = [(name, [line["stretches"][-1][key] for line in evaluations]) for key, name in kinds]
    rows = "".join(_perplexity_row(s, is_whole=s is whole) for s in last["stretches"])
    head = "".join(f"<th class='number'>{name}</th>" for name in ("tokens", "with memory", "gates shut"))
    return (
        f"{heading}<p class='note'>Held-out text after step {last['step']:,}; a point is the middle of a range of "
        "segments. Gates shut: the same weights without their memory.</p>"
        f"<figure>{line_chart(by_place, x_label='segment of the document')}</figure>"
        f"<table><tr><th>segments</th>{head}</tr>{rows}</table>"
        f"<h3>Over the run</h3>{_over_time(over_time, evaluations)}"
    )


def _perplexity_row(stretch: dict[str, Any], *, is_whole: bool) -> str:
    first, last = stretch["first"], stretch["last"]
    place = "all" if is_whole else f"{first}" if first == last else f"{first}-{last}"
    values = (f"{stretch['tokens']:,}", _number(stretch["with_memory"]), _number(stretch["without_memory"]))
    return f"<tr><td>{place}</td>{''.join(f'<td class=number>{value}</td>' for value in values)}</tr>"


def _recalled(records: Sequence[dict[str, Any]]) -> str:
    """Return the chart and the table of the recall task; nothing without records."""
    if not records:
        return ""
    first = records[0]
    lengths = sorted({int(length) for record in records for length in record["accuracy"]})
    named = {
        f"{record['variant']}, seed {record['seed']}": [record["accuracy"].get(str(length)) for length in lengths]
        for record in records
    }
    named["guesses"] = [first["chance"]] * len(lengths)
    return (
        "<h2>Recall, by length of the row</h2><p class='note'>Share of right answers of small models, which "
        f"<code>infini-llama recall</code> trained for {first['steps']:,} steps on rows of "
        f"{first['trained_on_segments']} segments; they are not the model of this run. The first segment "
        "holds what the last one asks for, and local attention sees one segment. Of <code>gates-shut</code> "
        "the memory was shut in training too.</p>"
        + _by_length(
            lengths, named, "segments", "segments between what is to be kept and the question, both included"
        )
    )


def _passkeys(records: Sequence[dict[str, Any]]) -> str:
    """Return the chart and the table of passkeys; nothing without records."""
    if not records:
        return ""
    first, tokens = records[0], [record["tokens"] for record in records]
    named = {place: [record["accuracy"].get(place) for record in records] for place in first["accuracy"]}
    return (
        "<h2>Passkeys, by length of the text</h2><p class='note'>Share of passkeys, of "
        f"{first['prompts']:,} for each figure, that <code>{html.escape(first['checkpoint'])}</code> found at the "
        "start, in the middle and at the end of a text. Local attention sees the last "
        f"{first['tokens'] // first['segments']:,} tokens at most.</p>"
        + _by_length(tokens, named, "tokens", "tokens of the text")
    )


def _by_length(lengths: Sequence[int], named: dict[str, list[float | None]], unit: str, x_label: str) -> str:
    """Return a chart and a table of shares, a line for each name and a column for each length."""
    chart = line_chart(
        [Line(name, list(zip(lengths, shares, strict=True))) for name, shares in named.items()],
        x_label=x_label,
        y_range=(0.0, 1.0),
    )
    head = "".join(f"<th class='number'>{length:,}</th>" for length in lengths)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td class=number>{'' if share is None else f'{share:.3f}'}</td>" for share in shares)
        + "</tr>"
        for name, shares in named.items()
    )
    return f"<figure>{chart}</figure><table><tr><th>{unit}</th>{head}</tr>{rows}</table>"


def _speed(steps: Sequence[dict[str, Any]]) -> str:
    speed = _over_time([("tokens/s", [line["tokens_per_second"] for line in steps])], steps)
    named = [("RAM", [line["peak_rss_bytes"] / 2**30 for line in steps])]
    if any("peak_device_bytes" in line for line in steps):
        named.append(("device", [line.get("peak_device_bytes", 0) / 2**30 for line in steps]))
    used = ""
    if any("mfu" in line for line in steps):
        shares = [("MFU", [line.get("mfu") for line in steps])]
        used = f"<h2>Share of the device's peak (MFU)</h2>{_over_time(shares, steps)}"
    return f"<h2>Tokens per second</h2>{speed}{used}<h2>Peak memory of rank 0, GiB</h2>{_over_time(named, steps)}"


def _origin(provenance: dict[str, Any]) -> str:
    heading = "<h2>Where it comes from</h2>"
    if not provenance:
        return f"{heading}<p class='note'>Not known: there is no complete checkpoint.</p>"
    plain = {key: value for key, value in provenance.items() if key not in ("settings", "files", "machine")}
    settings = html.escape(yaml.safe_dump(provenance.get("settings", {}), sort_keys=False))
    return (
        f"{heading}{_table(_flat(plain))}<details><summary>Configuration</summary><pre>{settings}</pre></details>"
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = prefix + _WORDS.get(key, key.replace("_", " "))
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}: ")
        elif value not in ("", None, []):
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat


def _table(rows: dict[str, str]) -> str:
    cells = (f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}" if abs(value) >= 1e4 else f"{value:.4f}"
