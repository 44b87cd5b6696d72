"""The network table of OFFLINE_MODE.md: measured rather than written, and saying what the document promises."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from benchmarks.network.table import (
    _USE,
    COLUMNS,
    MARKS,
    ROWS,
    Cell,
    circumstances,
    clean_environment,
    markdown,
)

PAGE = Path(__file__).parents[3] / "OFFLINE_MODE.md"


def documented() -> list[list[str]]:
    lines = [line for line in MARKS.read(PAGE).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_document_holds_every_row_and_column() -> None:
    heading, _, *rows = documented()
    assert heading == ["load", *(column.title for column in COLUMNS)]
    assert [row[0] for row in rows] == list(ROWS)


def test_every_count_through_bundle_run_is_zero() -> None:
    _, _, *rows = documented()
    launched = [index + 1 for index, column in enumerate(COLUMNS) if column.launched]
    assert len(launched) == 4
    assert {row[index] for row in rows for index in launched} == {"0"}


def test_the_document_says_when_and_with_which_versions_it_was_measured() -> None:
    said = MARKS.read(PAGE).splitlines()[0]
    assert re.fullmatch(
        r"Measured on \d{4}-\d\d-\d\d: huggingface_hub \S+, transformers \S+, datasets \S+, Python \S+, Linux \S+\.",
        said,
    )
    for library in ("huggingface_hub", "transformers", "datasets"):
        assert f"{library} {importlib.metadata.version(library)}" in circumstances()


TRACE = """\
7  connect(3<UNIX-STREAM:[1]>, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0
7  connect(3<TCP:[2]>, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16 <unfinished ...>
8  sendto(3<TCP:[127.0.0.1:5->127.0.0.1:80]>, "GET / HTTP/1.1", 14, 0, NULL, 0) = 14
7  <... connect resumed>)                = -1 EINPROGRESS (Operation now in progress)
7  sendmmsg(4<UDPv6:[[::1]:5->[::1]:53]>, [{msg_hdr={msg_name=NULL}}], 1, MSG_NOSIGNAL) = 1
7  sendto(5<NETLINK:[ROUTE:7]>, [{nlmsg_len=20}], 20, 0, {sa_family=AF_NETLINK}, 12) = 20
7  sendto(6, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(9)}, 28) = 1
"""


def test_connects_and_sends_of_internet_sockets_count_once_each() -> None:
    assert len(_USE.findall(TRACE)) == 4


def test_the_table_shows_counts_and_what_went_wrong() -> None:
    cells = [Cell(uses=n, outcome="ProxyError" if n == 1 else "", seconds=1.0) for n in range(len(COLUMNS))]
    assert markdown({"AutoX": cells}).splitlines()[2].startswith("| AutoX | 0 | 1, ProxyError | 2 |")


def test_settings_of_the_person_who_measures_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "x")
    monkeypatch.setenv("HF_TOKEN", "x")
    assert not {"HTTPS_PROXY", "HF_TOKEN"} & set(clean_environment())
