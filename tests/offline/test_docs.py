"""OFFLINE_MODE.md says what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from bundler.errors import EXIT_CODES, BundleError
from bundler.offline.guard.attempts import Attempt
from bundler.offline.kernel.isolation import REQUESTED
from bundler.offline.kernel.supervisor import Denial
from bundler.offline.secrets import SECRETS
from tests.offline.conftest import BundleRun
from tests.offline.programs.test_programs import PROGRAMS

DOCUMENT = (Path(__file__).parents[2] / "OFFLINE_MODE.md").read_text()


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    table = DOCUMENT.partition("<!-- exit codes:")[2].partition("\n\n")[0]
    rows = {int(code): text for code, text in re.findall(r"^\| (\d+) \| (.*) \|$", table, re.M)}
    assert rows == EXIT_CODES


def test_the_table_of_programs_names_what_is_there() -> None:
    table = DOCUMENT.partition("<!-- programs:")[2].partition("\n\n")[0].partition("-->")[2]
    paths = re.findall(r"tests/[\w/]+\.py", table)
    assert paths
    assert [path for path in paths if not (Path(__file__).parents[2] / path).is_file()] == []
    row = next(line for line in table.splitlines() if "make test-launches" in line)
    assert set(re.findall(r"`(\w+)`", row)) == set(PROGRAMS)


def test_every_error_has_a_documented_exit_code() -> None:
    def tree(kind: type[BundleError]) -> list[type[BundleError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]

    assert {kind.__name__: kind.exit_code for kind in tree(BundleError) if kind.exit_code not in EXIT_CODES} == {}


def test_the_keys_of_the_report_are_documented(bundle_run: BundleRun) -> None:
    report = bundle_run("true").report
    section = DOCUMENT.partition("| key of the JSON report")[2].partition("\n\n")[0]
    documented = {word for path in re.findall(r"`([\w.]+)", section) for word in path.split(".")}
    keys = set(report) | {field.name for kind in (Attempt, Denial) for field in dataclasses.fields(kind)}
    for inner in ("isolation", "attempts"):
        keys |= set(report[inner])  # type: ignore[call-overload]
    keys |= set(report["bundles"][0])  # type: ignore[index]
    assert keys <= documented


def test_every_kind_of_isolation_has_its_row() -> None:
    table = DOCUMENT.partition("| kind | what the kernel refuses")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)) == set(REQUESTED) - {"auto"}


def test_every_service_whose_secrets_are_hidden_has_its_row_with_examples_that_are() -> None:
    table = DOCUMENT.partition("<!-- secrets:")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| ([^|`]+) \| (`.*) \|$", table, re.M))
    assert set(rows) == set(SECRETS)
    for service, examples in rows.items():
        for name in re.findall(r"`(\w+)`", examples):
            assert SECRETS[service].have(name), (service, name)
