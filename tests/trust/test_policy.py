"""Policies: what each rule lets through and refuses, and that a user's cannot weaken the machine's."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import PolicyError
from bundler.plan.lock import Lock
from bundler.trust import paths
from bundler.trust.judge import Judgement, Subject, judge
from bundler.trust.licenses import is_acceptable
from bundler.trust.policy import InvalidPolicyError, InvalidSignersError, Policy, load_policies
from tests.support.bundles import lock_of, locked_repo, locked_web_file
from tests.support.keys import make_key

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
PLAIN = locked_repo("org/m", {"config.json": b"{}"}, aliases=["m"])


def write(folder: Path, rules: str, name: str = "policy.yaml") -> Path:
    path = folder / name
    path.write_text(f"version: 1\nrules:\n{rules}")
    return path


def ask(path: Path, lock: Lock | None = None) -> Judgement:
    """Ask one policy about an unsigned bundle."""
    return judge(Subject(lock or lock_of(PLAIN), None), None, [Policy.load(path)], NOW)


def refused(judgement: Judgement) -> dict[str, str]:
    return {verdict.rule: verdict.detail for verdict in judgement.verdicts if not verdict.ok}


def test_the_first_rule_that_matches_decides(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '  - {bundles: ["tin?"], signature: optional, repos: ["other/*"]}\n'
        '  - {bundles: ["*"], signature: optional}\n',
    )
    assert refused(ask(path)) == {"repos": "org/m is none of other/*"}
    assert ask(path, lock_of(PLAIN, name="else")).ok


def test_a_name_that_no_rule_matches_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, '  - {bundles: ["prod-*"], signature: optional}\n')
    assert refused(ask(path)) == {"bundles": "expected a rule for the name tiny, found none"}


@pytest.mark.parametrize("repos", [["org/*", "m"], ["*"]])
def test_repos_are_allowed_under_every_name_of_theirs(tmp_path: Path, repos: list[str]) -> None:
    assert ask(write(tmp_path, f'  - {{bundles: ["*"], signature: optional, repos: {repos}}}\n')).ok


@pytest.mark.parametrize(
    ("rule", "is_ok"),
    [
        ("", True),
        ('hosts: ["*.example"]', True),
        ('hosts: ["b.example"]', False),
        ('repos: ["org/*", "m"]', False),
        ('repos: ["org/*", "m"], hosts: ["a.example"]', True),
    ],
)
def test_files_of_other_hosts_are_for_hosts_to_allow_and_never_by_repos_alone(
    tmp_path: Path, rule: str, is_ok: bool
) -> None:
    lock = lock_of(PLAIN, locked_web_file("https://A.example:8443/x.txt", {"files/x.txt": b"x"}))
    asked = ask(write(tmp_path, f'  - {{bundles: ["*"], signature: optional, {rule}}}\n'), lock)
    assert asked.ok == is_ok
    assert is_ok or "is of a.example, none of" in refused(asked)["hosts"]


def test_a_repo_for_torch_hub_is_code(tmp_path: Path) -> None:
    repo = locked_web_file(
        "https://a.example/z", {"torch/hub/a_b_c/hubconf.py": b""}, into="torch_hub", unpacked=True
    )
    asked = ask(write(tmp_path, '  - {bundles: ["*"], signature: optional}\n'), lock_of(repo))
    assert "hubconf.py" in refused(asked)["allow_remote_code"]


def test_an_alias_of_another_organisation_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, '  - {bundles: ["*"], signature: optional, repos: ["org/*"]}\n')
    assert refused(ask(path)) == {"repos": "m, another name of org/m, is none of org/*"}


@pytest.mark.parametrize(
    ("rule", "files", "marks"),
    [
        ("allow_pickle", {"pytorch_model.bin": b"x"}, {}),
        ("allow_pickle", {"config.json": b"{}"}, {"allow_pickle": True}),
        ("allow_remote_code", {"modeling.py": b"x"}, {}),
        ("allow_remote_code", {"config.json": b"{}"}, {"trust_remote_code": True}),
    ],
)
def test_what_can_run_code_is_refused_unless_it_is_allowed(
    tmp_path: Path, rule: str, files: dict[str, bytes], marks: dict[str, Any]
) -> None:
    lock = lock_of(replace(locked_repo("org/m", files), **marks))
    closed = write(tmp_path, '  - {bundles: ["*"], signature: optional}\n')
    assert set(refused(ask(closed, lock))) == {rule}
    assert ask(write(tmp_path, f'  - {{bundles: ["*"], signature: optional, {rule}: true}}\n'), lock).ok


def test_a_policy_of_licences_refuses_repos_of_which_none_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, '  - {bundles: ["*"], signature: optional, licenses: {forbidden: [GPL-3.0-only]}}\n')
    assert refused(ask(path)) == {
        "licenses": "org/m: no licence of it is known; the policy can name it under licenses.known"
    }


@pytest.mark.parametrize(("known", "ok"), [("mit", True), ("mit OR gpl-3.0-only", True), ("mit AND X", False)])
def test_a_policy_of_licences_can_say_what_it_knows(tmp_path: Path, known: str, ok: bool) -> None:
    rule = f'{{allowed: [MIT], known: {{org/m: "{known}"}}}}'
    assert ask(write(tmp_path, f'  - {{bundles: ["*"], signature: optional, licenses: {rule}}}\n')).ok is ok


@pytest.mark.parametrize(
    ("licenses", "ok"), [(["mit"], True), (["mit", "x"], False), (["a b"], False), ([], False), (None, False)]
)
def test_a_policy_of_licences_goes_by_the_card_and_all_that_it_lists(
    tmp_path: Path, licenses: list[str] | None, ok: bool
) -> None:
    lock = lock_of(locked_repo("org/m", {"config.json": b"{}"}, licenses=licenses))
    path = write(tmp_path, '  - {bundles: ["*"], signature: optional, licenses: {allowed: [MIT]}}\n')
    assert ask(path, lock).ok is ok
    # What the policy has found out itself comes first.
    rule = "{allowed: [MIT], known: {org/m: MIT}}"
    assert ask(write(tmp_path, f'  - {{bundles: ["*"], signature: optional, licenses: {rule}}}\n'), lock).ok


@pytest.mark.parametrize(
    ("expression", "allowed", "forbidden", "ok"),
    [
        ("Apache-2.0", ["apache-2.0"], [], True),
        ("MIT AND Apache-2.0", ["MIT"], [], False),
        ("(MIT AND X) OR Apache-2.0", ["Apache-2.0"], ["X"], True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["GPL-2.0-only"], [], True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", None, ["GPL-2.0-only"], False),
        ("GPL-2.0-only", ["GPL-2.0-only WITH Classpath-exception-2.0"], [], False),
        ("llama3", None, ["MIT"], True),
        ("llama3", [], [], False),
    ],
)
def test_expressions_are_taken_as_spdx_means_them(
    expression: str, allowed: list[str] | None, forbidden: list[str], ok: bool
) -> None:
    assert is_acceptable(expression, allowed=allowed, forbidden=forbidden) is ok


@pytest.mark.parametrize("strict", ["the machine's", "the user's"])
def test_a_bundle_must_pass_the_machines_policy_and_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: str
) -> None:
    open_ = write(tmp_path, '  - {bundles: ["*"], signature: optional}\n', "open.yaml")
    shut = write(tmp_path, '  - {bundles: ["none"], signature: optional}\n', "shut.yaml")
    monkeypatch.setattr(paths, "SYSTEM_POLICY", shut if strict == "the machine's" else open_)
    users = open_ if strict == "the machine's" else shut
    monkeypatch.setenv("BUNDLE_POLICY", str(users))
    assert [policy.source for policy in load_policies()] == [paths.SYSTEM_POLICY, users]
    assert not judge(Subject(lock_of(PLAIN), None), None, load_policies(), NOW).ok
    # An option takes the place of the user's own variable, and never that of the machine's.
    asked = load_policies(open_)
    assert [policy.source for policy in asked] == [paths.SYSTEM_POLICY, open_]
    assert judge(Subject(lock_of(PLAIN), None), None, asked, NOW).ok is (strict == "the user's")


def test_a_policy_that_is_not_there_is_an_error_and_no_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SYSTEM_POLICY", tmp_path / "none.yaml")
    assert load_policies() == ()
    with pytest.raises(InvalidPolicyError, match="found no file"):
        load_policies(tmp_path / "none.yaml")
    (tmp_path / "none.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidPolicyError, match="found no file"):
        load_policies()


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ('  - {bundles: ["*"]}\n', "rules[0].allowed_signers"),
        ('  - {bundles: ["*"], signature: optional, signers: [a]}\n', "rules[0].signers"),
        ('  - {bundles: ["*"], signature: optional, max_age_days: 3}\n', "rules[0].max_age_days"),
        ("  - {bundles: [], signature: optional}\n", "rules[0].bundles"),
        ('  - {bundles: ["a,b"], signature: optional}\n', "rules[0].bundles[0]"),
        ('  - {bundles: ["*"], signature: no}\n', "rules[0].signature"),
        ('  - {bundles: ["*"], signature: optional, repos: []}\n', "rules[0].repos"),
        ('  - {bundles: ["*"], signature: optional, allow_pickles: true}\n', "rules[0].allow_pickles"),
        (
            '  - {bundles: ["*"], signature: optional, licenses: {allowed: ["("]}}\n',
            "rules[0].licenses.allowed[0]",
        ),
        (
            "  - {bundles: ['*'], signature: optional, licenses: {known: {a/b/c: MIT}}}\n",
            "rules[0].licenses.known.a/b/c",
        ),
    ],
)
def test_a_fault_of_a_policy_is_named(tmp_path: Path, rules: str, path: str) -> None:
    with pytest.raises(InvalidPolicyError) as caught:
        Policy.load(write(tmp_path, rules))
    assert [fault.path for fault in caught.value.faults] == [path]
    assert caught.value.exit_code == PolicyError.exit_code == 3


def test_a_fault_of_a_list_of_signers_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, '  - {bundles: ["*"], allowed_signers: keys/signers}\n')
    with pytest.raises(InvalidSignersError, match="found no file"):
        Policy.load(path)
    key = make_key(tmp_path / "keys")
    (tmp_path / "keys/signers").write_text(key.line("a@example.org") + "what is this\n")
    with pytest.raises(InvalidSignersError) as caught:
        Policy.load(path)
    assert [fault.line for fault in caught.value.faults] == [2]


def test_a_lock_that_names_very_many_licences_is_refused_unread(tmp_path: Path) -> None:
    words = sorted(f"LicenseRef-{number}" for number in range(1001))
    path = write(tmp_path, '  - {bundles: ["*"], signature: optional, licenses: {forbidden: [MIT]}}\n')
    assert ask(path, lock_of(locked_repo("org/m", {"config.json": b"{}"}, licenses=words[1:]))).ok
    found = ask(path, lock_of(locked_repo("org/m", {"config.json": b"{}"}, licenses=words)))
    assert not found.ok
