"""`policy.yaml`: which bundles may be installed and run on a machine.

    version: 1
    rules:
      - bundles: ["prod-*"]                    # names, with * and ?
        signature: required                    # or optional; required unless said
        allowed_signers: allowed_signers       # as ssh-keygen(1) has it; beside this file
        signers: [release@example.org]         # whom of them; default all
        max_age_days: 90                       # since it was signed
        repos: ["openai-community/*"]          # organisations and repos; default all
        hosts: ["download.pytorch.org"]        # of other files; default all, and none where repos are given
        allow_pickle: false                    # files that can run code when they are loaded
        allow_remote_code: false               # Python of repos
        home_stamps: false                     # a launch hashes what the home's owner says to have hashed
        licenses: {allowed: [Apache-2.0, MIT]} # SPDX; or forbidden; known: {org/repo: MIT} where a card is not enough
      - bundles: ["*"]
        signature: optional

Rule book:

* of one file, the first rule whose `bundles` match decides; a bundle that none matches is refused;
* what a rule does not allow of signatures, pickles and Python is refused; of repos, ages and licences all is allowed
  where nothing is said;
* a machine's own policy, `/etc/bundle/policy.yaml`, always holds. A user's (`--policy`, else BUNDLE_POLICY) holds
  besides: a bundle must pass both, so that a user can ask for more and never for less.

Every fault of a file is reported with its key path and line, all in one error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from bundler.errors import PolicyError
from bundler.plan.names import is_repo_id
from bundler.text.documents import document_address
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.reader import Reader
from bundler.text.rules import Key, Rule, key
from bundler.text.text_file import MAX_BYTES, NotATextFileError, parse_yaml, read_text_file
from bundler.text.trees import YamlTree
from bundler.text.wording import quoted
from bundler.trust.licenses import UnreadableLicenseError, parse_expression
from bundler.trust.paths import policy_paths
from bundler.trust.ssh.allowed_signers import (
    AllowedSigner,
    NotAListOfSignersError,
    match_list,
    read_allowed_signers,
)
from bundler.trust.ssh.public_key import PublicKey

# A line for each signer is read in a moment, unlike YAML.
_MAX_SIGNERS_BYTES = 1 << 20

_EXAMPLE = f"a policy with every key: {document_address('OFFLINE_MODE.md#who-is-trusted')}"


class InvalidPolicyError(InvalidFileError, PolicyError):
    """A policy with its faults."""

    next_step = _EXAMPLE


class InvalidSignersError(InvalidFileError, PolicyError):
    """A list of signers with its faults."""

    next_step = "`man ssh-keygen`, ALLOWED SIGNERS, says what a line is"


def _license_problem(text: str) -> str | None:
    try:
        parse_expression(text)
    except UnreadableLicenseError as error:
        return str(error)
    return None


def _pattern_problem(text: str) -> str | None:
    if not text or any(char in text for char in ", !\t"):
        return f"expected a name, with * and ? for any characters, found {quoted(text)}"
    return None


def _repo_problem(text: str) -> str | None:
    return None if is_repo_id(text) else f"expected a repo such as org/name, found {quoted(text)}"


def _given_problem(items: tuple[str, ...]) -> str | None:
    return None if items else "expected at least one, found none: it would match nothing"


_License = Annotated[str, Rule(check=_license_problem)]
_Pattern = Annotated[str, Rule(check=_pattern_problem)]
_Repo = Annotated[str, Rule(check=_repo_problem)]
_GIVEN = Key(check=_given_problem)


@dataclass(frozen=True, kw_only=True)
class LicenseRule:
    """What licences repos may have.

    Attributes:
        allowed: Licences that may be; null for all that are not forbidden.
        forbidden: Licences that may not be.
        known: Licences by repo, as whoever writes the policy has found them; they take the place of what a card claims.
    """

    allowed: tuple[_License, ...] | None = None
    forbidden: tuple[_License, ...] = ()
    known: Mapping[_Repo, _License] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PolicyRule:
    """What is asked of bundles of some names.

    Attributes:
        bundles: Patterns of names.
        signature: Whether a bundle must be signed. Where a signature is optional, one that is there must be right.
        allowed_signers: The list of signers: a path, from the policy's own folder.
        signers: Whose signature is accepted, of those in the list; default all of them.
        max_age_days: How long a signature is accepted after it was made; default for ever.
        repos: Patterns of the repos that may be in a bundle; default all.
        hosts: Patterns of the hosts that other files in it may come from; default all, and none where `repos` is given.
        allow_pickle: Whether files may be in it that can run code when they are loaded.
        allow_remote_code: Whether Python of repos may be in it.
        licenses: What licences its repos may have.
        home_stamps: Whether a launch believes root and the home's owner what they say that they have hashed.
        path: Where the rule stands.
    """

    bundles: tuple[_Pattern, ...] = key(about=_GIVEN)
    signature: Literal["required", "optional"] = "required"
    allowed_signers: str | None = None
    signers: tuple[str, ...] | None = key(None, _GIVEN)
    max_age_days: float | None = key(None, above=0)
    repos: tuple[_Pattern, ...] | None = key(None, _GIVEN)
    hosts: tuple[_Pattern, ...] | None = key(None, _GIVEN)
    allow_pickle: bool = False
    allow_remote_code: bool = False
    licenses: LicenseRule | None = None
    home_stamps: bool = False
    path: str = key("", Key(filled_with="path"))

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong between keys that are each right."""
        if self.allowed_signers is None and self.signature == "required":
            yield "allowed_signers", "missing; a signature that is required must be somebody's in a list"
        for name, value in (("signers", self.signers), ("max_age_days", self.max_age_days)):
            if self.allowed_signers is None and value is not None:
                yield name, "says nothing without allowed_signers: anybody can sign"

    def matches(self, name: str) -> bool:
        """Tell whether the rule is about bundles of this name."""
        return any(match_list(name, pattern) for pattern in self.bundles)


@dataclass(frozen=True, kw_only=True)
class _PolicyFile:
    version: Literal[1] = key(about=Key(expected="1, the only version this program reads"))
    rules: tuple[PolicyRule, ...]


@dataclass(frozen=True)
class Policy:
    """A policy.

    Attributes:
        source: The file.
        rules: Its rules, in order.
        signers: The lists that its rules name, by what they call them.
    """

    source: Path
    rules: tuple[PolicyRule, ...]
    signers: Mapping[str, list[AllowedSigner]]

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy and the lists of signers that it names.

        Raises:
            PolicyError: One of them is malformed, or not there: nothing may be decided by what is left.
            AccessError: One of them cannot be read.
        """
        text = _read(path, "policy", InvalidPolicyError)
        reader = Reader(YamlTree())
        read = reader.read(_PolicyFile, parse_yaml(text, str(path), InvalidPolicyError))
        if read is None or reader.faults:
            raise InvalidPolicyError(str(path), reader.faults)
        names = {rule.allowed_signers for rule in read.rules if rule.allowed_signers}
        return cls(path, read.rules, {name: _read_signers(path.parent / name) for name in sorted(names)})

    def find_rule(self, name: str) -> PolicyRule | None:
        """Return the rule that decides about bundles of a name."""
        return next((rule for rule in self.rules if rule.matches(name)), None)


def load_policies(extra: Path | None = None) -> tuple[Policy, ...]:
    """Return the policies that hold here: the machine's, and the user's.

    Args:
        extra: The user's; default that of BUNDLE_POLICY.

    Raises:
        PolicyError: One is malformed, or the user's is not there.
    """
    return tuple(Policy.load(path) for path in policy_paths(extra))


def listed_keys(policies: Iterable[Policy]) -> list[PublicKey]:
    """Return every key that some list of signers has for itself, and not to vouch for others."""
    lists = (signers for policy in policies for signers in policy.signers.values())
    return list(dict.fromkeys(signer.key for signers in lists for signer in signers if not signer.is_authority))


def listed_authorities(policies: Iterable[Policy]) -> list[PublicKey]:
    """Return every key that some list of signers has to vouch for others."""
    lists = (signers for policy in policies for signers in policy.signers.values())
    return list(dict.fromkeys(signer.key for signers in lists for signer in signers if signer.is_authority))


def _read(path: Path, what: str, invalid: type[InvalidFileError], max_bytes: int = MAX_BYTES) -> str:
    try:
        return read_text_file(path, what, max_bytes=max_bytes)
    except FileNotFoundError as error:
        raise invalid(str(path), [Fault("", None, f"expected a {what}, found no file")]) from error
    except NotATextFileError as error:
        raise invalid(str(path), [Fault("", None, str(error))]) from error


def _read_signers(path: Path) -> list[AllowedSigner]:
    try:
        return read_allowed_signers(_read(path, "list of signers", InvalidSignersError, _MAX_SIGNERS_BYTES))
    except NotAListOfSignersError as error:
        raise InvalidSignersError(str(path), [Fault("", line, text) for line, text in error.faults]) from error
