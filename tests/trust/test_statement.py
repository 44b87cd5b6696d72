"""The statement: what is written is read again, is an in-toto statement, and nothing else is taken."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

import pytest

from bundler.trust.statement import InvalidStatementError, ProofClaim, ProvenEntry, Statement

WHOLE = Statement(
    name="demo",
    digest=f"sha256:{'a' * 64}",
    lock_digest=f"sha256:{'b' * 64}",
    sequence=7,
    signed_at=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    expires=datetime.datetime(2027, 1, 2, tzinfo=datetime.UTC),
    proof=ProofClaim(
        proven_at="2026-01-02T03:00:00+00:00",
        isolation="netns",
        versions={"python": "3.11.4", "transformers": "5.23.0"},
        entries=(ProvenEntry(repo_id="org/m", proven=("loads as m",)),),
    ),
)


def test_what_is_written_is_read_again() -> None:
    assert Statement.loads(WHOLE.dumps(), source="x") == WHOLE


def test_of_a_delta_it_has_both_digests() -> None:
    delta = replace(WHOLE, delta_digest=f"sha256:{'d' * 64}")
    assert Statement.loads(delta.dumps(), source="x") == delta
    [subject] = json.loads(delta.dumps())["subject"]
    assert subject["digest"] == {"bundleIndexSha256": "a" * 64, "deltaIndexSha256": "d" * 64}


def test_it_is_an_in_toto_statement() -> None:
    tree = json.loads(WHOLE.dumps())
    assert tree["_type"] == "https://in-toto.io/Statement/v1"
    assert tree["subject"] == [{"name": "demo", "digest": {"bundleIndexSha256": "a" * 64}}]
    assert tree["predicate"]["expires"] == "2027-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (["_type"], "https://in-toto.io/Statement/v0.1", "_type"),
        (["predicateType"], "https://slsa.dev/provenance/v1", "predicateType"),
        (["subject"], [], "subject"),
        (["subject", 0, "name"], "../demo", "subject[0].name"),
        (["subject", 0, "digest"], {"sha256": "a" * 64}, "subject[0].digest.sha256"),
        (["subject", 0, "digest", "bundleIndexSha256"], "A" * 64, "subject[0].digest.bundleIndexSha256"),
        (["predicate", "sequence"], -1, "predicate.sequence"),
        (["predicate", "sequence"], 2**53, "predicate.sequence"),
        (["predicate", "sequence"], True, "predicate.sequence"),
        (["predicate", "signedAt"], "2026-02-30T00:00:00Z", "predicate.signedAt"),
        (["predicate", "signedAt"], "2026-02-03", "predicate.signedAt"),
        (["predicate", "expires"], 7, "predicate.expires"),
        (["predicate", "more"], 1, "predicate.more"),
        (["predicate", "proof", "entries", 0, "proven"], "all", "predicate.proof.entries[0].proven"),
    ],
)
def test_a_value_that_is_wrong_is_named(path: list[Any], value: Any, fault: str) -> None:
    tree = json.loads(WHOLE.dumps())
    place = tree
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(InvalidStatementError) as caught:
        Statement.loads(json.dumps(tree).encode(), source="x")
    assert fault in [one.path for one in caught.value.faults]
    assert caught.value.exit_code == 20


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{", b'{"_type": 1, "_type": 2}', b"[" * 9999])
def test_what_is_no_statement_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidStatementError):
        Statement.loads(content, source="x")
