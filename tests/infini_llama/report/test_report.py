"""`report.html`, the charts on it, and the held-out text that it tells of."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.home.installed import InstalledBundle
from infini_llama.cli import main
from infini_llama.data import Documents
from infini_llama.errors import TrainingDataError
from infini_llama.report.charts import Line, label, line_chart, thin, ticks
from infini_llama.report.report import REPORT, page, write_report
from infini_llama.run_folder.metrics import append, read_metrics
from infini_llama.train.held_out import take_beginning
from infini_llama.train.run import train
from tests.infini_llama.train.test_run import configured, weights

STEP = {
    "kind": "step",
    "loss": 2.5,
    "learning_rate": {"decay": 0.001, "gates": 0.01},
    "tokens": 1000,
    "tokens_per_second": 100.0,
    "peak_rss_bytes": 1 << 30,
    "gates": [[0.5, 0.25]],
}
STRETCHES = [
    {"first": 1, "last": 1, "tokens": 15, "with_memory": 9.0, "without_memory": 9.0},
    {"first": 2, "last": 2, "tokens": 16, "with_memory": 7.0, "without_memory": 8.0},
    {"first": 1, "last": 2, "tokens": 31, "with_memory": 7.9, "without_memory": 8.5},
]


class Tags(HTMLParser):
    """Collects the elements of a page, and finds those that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_run_leaves_a_page_of_what_it_did_and_held_out_text_changes_no_weight(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("The dog sat on the mat. " * 20)
    plain = train(configured(), gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "plain")
    settings = configured(f"evaluation.raw_data={held_out}", "evaluation.max_tokens=64")
    summary = train(settings, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run")
    assert weights(Path(summary.checkpoint)) == weights(Path(plain.checkpoint))
    evaluations = [line for line in read_metrics(tmp_path / "run") if line["kind"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [3, 6]
    # Four segments of 16 tokens, of which the first token is not predicted.
    assert [(s["first"], s["last"], s["tokens"]) for s in evaluations[-1]["stretches"]] == [
        (1, 1, 15),
        (2, 2, 16),
        (3, 4, 32),
        (1, 4, 63),
    ]
    text = (tmp_path / "run" / REPORT).read_text()
    assert gpt2_bundle.digest in text
    assert "6 of 6" in text
    assert re.search(r"<th>machine</th><td>1 x CPU \(\w+, \d+ threads?\), Linux", text)
    assert "<th>first line</th>" in text
    (tmp_path / "run" / REPORT).unlink()
    result = CliRunner().invoke(main, ["report", str(tmp_path / "run")])
    assert (result.exit_code, result.output) == (0, f"{tmp_path}/run/{REPORT}\n")
    assert (tmp_path / "run" / REPORT).read_text() == text


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    lines = [{**STEP, "step": 1}, {**STEP, "step": 2}, {"kind": "evaluation", "step": 2, "stretches": STRETCHES}]
    text = page("run", lines, {"seed": 0, "settings": {"training": {"steps": 2}}, "data": {"path": "a"}})
    tags = Tags(text)
    assert tags.open == []
    assert not set(tags.names) & {"script", "link", "img", "iframe", "object", "use", "image"}
    assert not {name for name, _ in tags.attributes} & {"src", "href", "xlink:href", "srcset", "action"}
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    # Loss, rates, a layer of gates, perplexity by place and over time, speed, memory.
    assert tags.names.count("svg") == 7


def test_the_page_says_when_and_how_long_and_in_words() -> None:
    lines = [
        {**STEP, "step": 1, "time": 1764000000.5, "seconds": 3600.4, "mfu": 0.4},
        {**STEP, "step": 2, "time": 1764100000.5, "seconds": 300.2, "mfu": 0.5, "peak_device_bytes": 1 << 31},
    ]
    text = page("run", lines, {"world_size": 2, "lock_sha256": "0a", "tokenizer_origin": {"kind": "repo"}})
    assert "<th>first line</th><td>2025-11-24 16:00 UTC</td>" in text
    assert "<th>last line</th><td>2025-11-25 19:46 UTC</td>" in text
    assert "<th>duration</th><td>1 h 05 min of training, stops not counted</td>" in text
    assert "<th>SHA-256 of the lock</th><td>0a</td>" in text
    assert "<th>origin of the tokenizer: kind</th><td>repo</td>" in text
    # Those of a run without MFU, and one more; no perplexities.
    assert Tags(text).names.count("svg") == 6


def test_the_page_shows_what_small_models_recalled() -> None:
    common = {"steps": 300, "trained_on_segments": 3, "seed": 0, "chance": 0.0625}
    recalled = [
        {**common, "variant": "linear", "accuracy": {"2": 1.0, "32": 0.75}},
        {**common, "variant": "gates-shut", "accuracy": {"2": 0.05}},
    ]
    text = page("run", [{**STEP, "step": 1}], {}, recalled)
    assert Tags(text).open == []
    section = text.partition("<h2>Recall, by length of the row</h2>")[2].partition("<h2>")[0]
    assert "trained for 300 steps on rows of 3 segments" in section
    rows = re.findall(r"<tr><td>(.*?)</td><td class=number>(.*?)</td><td class=number>(.*?)</td></tr>", section)
    assert rows == [
        ("linear, seed 0", "1.000", "0.750"),
        ("gates-shut, seed 0", "0.050", ""),
        ("guesses", "0.062", "0.062"),
    ]
    assert "Recall" not in page("run", [{**STEP, "step": 1}], {})


def test_the_page_shows_which_passkeys_were_found() -> None:
    common = {"checkpoint": "run/<model>", "prompts": 10}
    passkeys = [
        {**common, "segments": 5, "tokens": 640, "accuracy": {"start": 1.0, "end": 0.5}},
        {**common, "segments": 40, "tokens": 5120, "accuracy": {"start": 0.9, "end": 0.2}},
    ]
    text = page("run", [{**STEP, "step": 1}], {}, (), passkeys)
    assert Tags(text).open == []
    section = text.partition("<h2>Passkeys, by length of the text</h2>")[2].partition("<h2>")[0]
    assert "of 10 for each figure, that <code>run/&lt;model&gt;</code> found" in section
    assert "sees the last 128 tokens at most" in section
    rows = re.findall(r"<tr><td>(.*?)</td><td class=number>(.*?)</td><td class=number>(.*?)</td></tr>", section)
    assert rows == [("start", "1.000", "0.900"), ("end", "0.500", "0.200")]
    assert "Passkeys" not in page("run", [{**STEP, "step": 1}], {})


def test_what_the_page_tells_is_no_markup() -> None:
    lines = [{**STEP, "step": 1, "learning_rate": {"<b>": 0.1}}]
    text = page("<script>", lines, {"data": {"path": "<img src=x>"}})
    assert not set(Tags(text).names) & {"script", "img", "b"}
    assert "&lt;img src=x&gt;" in text


def test_a_loss_that_is_not_finite_is_said_and_leaves_a_gap() -> None:
    losses = [2.5, 2.4, None, 2.2, 2.1]
    text = page("run", [{**STEP, "step": step, "loss": loss} for step, loss in enumerate(losses, start=1)], {})
    assert "the loss is not finite in 1 of 5 lines" in text
    loss_chart = text.split("<h2>")[1]
    assert len(re.findall(r'<path class="line"', loss_chart)) == 2


def test_a_run_without_held_out_text_says_how_to_have_some() -> None:
    assert "evaluation.fraction" in page("run", [{**STEP, "step": 1}], {})


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "expected metrics.jsonl with at least one line, found none" in result.output


def test_a_run_that_was_killed_before_its_first_checkpoint_has_a_page_too(tmp_path: Path) -> None:
    append(tmp_path, {**STEP, "step": 1})
    assert "there is no complete checkpoint" in write_report(tmp_path).read_text()


def test_names_that_are_no_unicode_are_shown_all_the_same(tmp_path: Path) -> None:
    append(tmp_path, {**STEP, "step": 1, "time": 0})
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    record = {"step": 1, "data": {"path": "caf\udce9", "files_left_out": ["caf\udce9.md"]}, "files": {}}
    (folder / "provenance.json").write_text(json.dumps(record))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "caf\\udce9" in text


def test_points_stand_where_their_values_say() -> None:
    chart = line_chart([Line("a", [(0, 0.0), (5, 1.0), (10, 0.5)])], x_label="x", y_range=(0.0, 1.0))
    assert re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart) == [
        ("64.0", "224.0"),
        ("386.0", "12.0"),
        ("708.0", "118.0"),
    ]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (1, 6, [1, 2, 3, 4, 5, 6]), (0, 0.003, [0, 0.001, 0.002, 0.003])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.25"), (12000, "12,000"), (2e6, "2e+06"), (1e-4, "0.0001")]
)
def test_numbers_on_axes_are_short(value: float, text: str) -> None:
    assert label(value) == text


def test_a_long_run_keeps_its_first_and_last_points_and_few_between() -> None:
    kept = thin([(step, 1.0) for step in range(100_000)])
    assert (kept[0], kept[-1], len(kept)) == ((0, 1.0), (99_999, 1.0), 1001)


def test_nothing_but_gaps_is_no_chart() -> None:
    assert line_chart([Line("a", [(1, None)])], x_label="x") == '<p class="empty">nothing was measured</p>'


def test_a_share_of_the_documents_is_held_out_of_the_training(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    settings = configured("evaluation.fraction=0.5", "training.steps=1")
    summary = train(settings, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run")
    assert summary.documents == 1
    assert [line["kind"] for line in read_metrics(tmp_path / "run")] == ["step", "evaluation"]
    provenance = json.loads((Path(summary.checkpoint) / "provenance.json").read_text())
    assert provenance["data"]["documents"] == 2


def test_a_share_that_leaves_no_document_on_a_side_is_refused(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    settings = configured("evaluation.fraction=0.1")
    with pytest.raises(TrainingDataError, match="found 2 to train on and 0 held out, of 2"):
        train(settings, gpt2_bundle, raw_data=raw_data, output_dir=tmp_path / "run")


def test_evaluation_reads_so_many_tokens_from_the_start() -> None:
    documents = Documents.of([[1] * 5, [2] * 5, [3] * 5])
    assert [len(tokens) for tokens in take_beginning(documents, 8)] == [5, 3]
    assert [len(tokens) for tokens in take_beginning(documents, 6)] == [5]
