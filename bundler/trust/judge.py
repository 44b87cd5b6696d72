"""Whether a bundle may be used here: the verdict of each rule, from a signature, a lock and the policies.

Nothing here reads a file, a clock or a network.

Rule book:

* a signature that is there must be right and about this very bundle, whatever a policy says, and must not have expired;
* each policy is asked for itself, and all must agree (`bundler.trust.policy`);
* every rule is asked, so that one answer names all that stands against a bundle;
* what a lock says of itself is not enough where its files say otherwise: a file whose name is that of a pickle is one.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bundler.errors import TrustError
from bundler.hub.selection.pickle_names import is_pickle
from bundler.plan.file_rules import host_of_url
from bundler.plan.lock import Lock, LockedRepo
from bundler.text.wording import name_some, printable
from bundler.trust.licenses import UnreadableLicenseError, is_acceptable
from bundler.trust.policy import Policy, PolicyRule
from bundler.trust.signature_file import NAMESPACE, SignedStatement
from bundler.trust.ssh.allowed_signers import AllowedSigner, find_signer, match_list

# Reading one takes a millisecond, and a lock of a megabyte may name a hundred thousand.
_MOST_LICENSES = 1000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one rule says.

    Attributes:
        rule: The rule: `signature`, `statement`, `expires`, or a key of a policy.
        ok: Whether the bundle passes.
        detail: What was found, and what was expected where it does not pass.
        policy: The policy that the rule stands in, or None for what holds without one.
    """

    rule: str
    ok: bool
    detail: str
    policy: str | None = None

    def __str__(self) -> str:
        where = f" ({self.policy})" if self.policy else ""
        return f"{'ok' if self.ok else 'REFUSED'}: {self.rule}: {printable(self.detail)}{where}"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What all rules say.

    Attributes:
        name: The bundle's name.
        verdicts: One for each rule.
        signer: Whom the signature is by, as the first list of signers that accepts it says; None for nobody known.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    signer: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the bundle may be used."""
        return all(verdict.ok for verdict in self.verdicts)

    def raise_if_refused(self) -> None:
        """Raise unless the bundle may be used.

        Raises:
            TrustError: It may not; every rule that stands against it is named.
        """
        refused = [verdict for verdict in self.verdicts if not verdict.ok]
        if refused:
            lines = "\n  ".join(f"{one.rule}: {printable(one.detail)}{_where(one)}" for one in refused)
            raise TrustError(
                f"bundle {self.name} is refused:\n  {lines}",
                hint="`bundle policy check BUNDLE` shows every rule; ask the sender for a bundle that passes, or "
                "whoever is responsible for the policy",
            )


@dataclass(frozen=True)
class Subject:
    """The bundle that is judged.

    Attributes:
        lock: Its lock.
        digest: Its bundle digest; None of a stream that has not ended.
        is_part: Whether `lock` is that of a part.
    """

    lock: Lock
    digest: str | None
    is_part: bool = False


def judge(
    subject: Subject,
    signed: SignedStatement | TrustError | None,
    policies: Sequence[Policy],
    now: datetime.datetime,
) -> Judgement:
    """Ask every rule.

    Args:
        subject: The bundle.
        signed: Its signature and statement; or why they cannot be used; or None where it has none.
        policies: Those that hold here.
        now: The time.
    """
    verdicts = list(_judge_signature(subject, signed, now))
    signers = []
    for policy in policies:
        judge_one = _PolicyJudge(policy, subject, signed if isinstance(signed, SignedStatement) else None, now)
        verdicts += judge_one.verdicts()
        signers += [judge_one.signer] if judge_one.signer else []
    return Judgement(name=subject.lock.name, verdicts=tuple(verdicts), signer=signers[0] if signers else None)


def statement_problem(subject: Subject, signed: SignedStatement) -> str | None:
    """Say what of another bundle a statement is about, or return None if it is about this one."""
    statement, lock = signed.statement, subject.lock
    if statement.name != lock.name:
        return f"{signed.source} is about bundle {statement.name}, this is {lock.name}"
    if subject.digest is not None and statement.digest != subject.digest:
        return f"{signed.source} is about {statement.digest}, this bundle is {subject.digest}"
    if not subject.is_part and statement.lock_digest != lock.digest:
        return f"{signed.source} is about the lock {statement.lock_digest}, in this bundle is {lock.digest}"
    return None


def _judge_signature(
    subject: Subject, signed: SignedStatement | TrustError | None, now: datetime.datetime
) -> Iterator[Verdict]:
    if signed is None:
        return
    if isinstance(signed, TrustError):
        yield Verdict(rule="signature", ok=False, detail=signed.message)
        return
    yield Verdict(rule="signature", ok=True, detail=f"right, by key {signed.key.fingerprint}")
    problem = statement_problem(subject, signed)
    statement = signed.statement
    yield Verdict(rule="statement", ok=problem is None, detail=problem or f"of release {statement.sequence}")
    if statement.expires:
        is_over = now >= statement.expires
        detail = f"the statement {'was' if is_over else 'is'} good until {_spell(statement.expires)}"
        yield Verdict(
            rule="expires", ok=not is_over, detail=f"{detail}{f', it is {_spell(now)}' if is_over else ''}"
        )


class _PolicyJudge:
    """Asks the rules of one policy."""

    def __init__(
        self, policy: Policy, subject: Subject, signed: SignedStatement | None, now: datetime.datetime
    ) -> None:
        self.policy = policy
        self.lock = subject.lock
        self.signed = signed
        self.now = now
        self.signer: str | None = None

    def verdicts(self) -> Iterator[Verdict]:
        name = self.lock.name
        rule = self.policy.find_rule(name)
        if rule is None:
            yield self._verdict("bundles", False, f"expected a rule for the name {name}, found none")
            return
        yield self._verdict("bundles", True, f"{name} falls under {rule.path}")
        if rule.allowed_signers is not None:
            yield from self._judge_signer(rule, self.policy.signers[rule.allowed_signers])
        asked: list[tuple[str, bool, Callable[[LockedRepo], str | None]]] = [
            ("repos", rule.repos is not None, lambda repo: _repo_problem(repo, rule.repos or ())),
            (
                "hosts",
                rule.hosts is not None
                or (rule.repos is not None and any(repo.origin for repo in self.lock.repos)),
                lambda repo: _host_problem(repo, rule.hosts or ()),
            ),
            ("allow_pickle", not rule.allow_pickle, _pickle_problem),
            ("allow_remote_code", not rule.allow_remote_code, _code_problem),
            ("licenses", rule.licenses is not None, lambda repo: _license_problem(repo, rule)),
        ]
        if rule.licenses is not None:
            words = {word for repo in self.lock.repos if repo.card for word in repo.card.licenses}
            if len(words) > _MOST_LICENSES:
                detail = f"cards name {len(words):,} different licences; at most {_MOST_LICENSES:,} are read"
                yield self._verdict("licenses", False, detail)
                return
        for what, is_asked, problem in asked:
            if is_asked:
                found = [text for repo in self.lock.repos if (text := problem(repo))]
                yield self._verdict(what, not found, name_some(found, separator="; ") or "every repo passes")

    def _judge_signer(self, rule: PolicyRule, signers: Sequence[AllowedSigner]) -> Iterator[Verdict]:
        if self.signed is None:
            is_ok = rule.signature == "optional"
            yield self._verdict(
                "signature", is_ok, "there is none" if is_ok else "expected a right one, found none"
            )
            return
        who, reasons = find_signer(
            signers,
            self.signed.key,
            self.signed.certificate,
            NAMESPACE,
            self.now.timestamp(),
            rule.signers or (),
        )
        self.signer = who
        detail = (
            f"signed by {who}"
            if who
            else f"nobody in {rule.allowed_signers}: {name_some(reasons, separator='; ')}"
        )
        yield self._verdict("signers", who is not None, detail)
        if rule.max_age_days is not None:
            signed_at = self.signed.statement.signed_at
            age = (self.now - signed_at) / datetime.timedelta(days=1)
            detail = f"signed at {_spell(signed_at)}, {max(age, 0):.1f} days ago; at most {rule.max_age_days:g}"
            yield self._verdict("max_age_days", age <= rule.max_age_days, detail)

    def _verdict(self, rule: str, ok: bool, detail: str) -> Verdict:
        return Verdict(rule=rule, ok=ok, detail=detail, policy=str(self.policy.source))


def _host_problem(repo: LockedRepo, patterns: Sequence[str]) -> str | None:
    host = host_of_url(repo.origin.url) if repo.origin else ""
    if not host or any(match_list(host, pattern) for pattern in patterns):
        return None
    return f"{repo.repo_id} is of {host}, none of {', '.join(patterns) or 'the hosts, of which the policy names none'}"


def _repo_problem(repo: LockedRepo, patterns: Sequence[str]) -> str | None:
    if repo.origin:
        return None
    for name in (repo.repo_id, *repo.aliases):
        if not any(match_list(name, pattern) for pattern in patterns):
            other = f", another name of {repo.repo_id}," if name != repo.repo_id else ""
            return f"{name}{other} is none of {', '.join(patterns)}"
    return None


def _pickle_problem(repo: LockedRepo) -> str | None:
    found = [file.path for file in repo.files if is_pickle(file.path)]
    if found:
        return f"{repo.repo_id} has {name_some(found)}"
    return f"{repo.repo_id} is marked allow_pickle" if repo.allow_pickle else None


def _code_problem(repo: LockedRepo) -> str | None:
    found = [file.path for file in repo.files if file.path.lower().endswith((".py", ".pyc", ".so"))]
    if found:
        return f"{repo.repo_id} has {name_some(found)}"
    return f"{repo.repo_id} is marked trust_remote_code" if repo.trust_remote_code else None


def _license_problem(repo: LockedRepo, rule: PolicyRule) -> str | None:
    asked = rule.licenses
    assert asked is not None
    known = asked.known.get(repo.repo_id)
    # A card that lists several does not say which holds for what: all must pass.
    found = (known,) if known else repo.card.licenses if repo.card else ()
    if not found:
        return f"{repo.repo_id}: no licence of it is known; the policy can name it under licenses.known"
    for expression in found:
        if fault := _expression_fault(expression, asked.allowed, asked.forbidden):
            return f"{repo.repo_id}{fault}"
    return None


@functools.lru_cache(2 * _MOST_LICENSES)
def _expression_fault(expression: str, allowed: tuple[str, ...] | None, forbidden: tuple[str, ...]) -> str | None:
    try:
        is_ok = is_acceptable(expression, allowed=allowed, forbidden=forbidden)
    except UnreadableLicenseError as error:
        return f": {error}"
    return None if is_ok else f" has {expression}"


def _where(verdict: Verdict) -> str:
    return f" ({verdict.policy})" if verdict.policy else ""


def _spell(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
