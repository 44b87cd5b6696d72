"""What a bundle must pass on its way into a home, and what is kept of it there.

Rule book:

* all but the digest of a stream, which comes last, is asked before anything is written; the digest is asked before
  anything is published;
* the signature is kept after the receipt and before the pointer moves: a launch by the pointer finds it;
* the release is remembered last: what was not installed is not the least that is taken.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import IntegrityError, TrustError
from bundler.format.reader import BundleReader
from bundler.format.source import Source
from bundler.home.exclusive import Note
from bundler.home.trust.kept import keep_signature, read_kept_signature
from bundler.home.trust.release import check_release, remember_release
from bundler.plan.lock import Lock
from bundler.trust.judge import Judgement, Subject, judge
from bundler.trust.policy import Policy, listed_authorities, listed_keys, load_policies
from bundler.trust.signature_file import SignedStatement, find_signature


@dataclass
class Judged:
    """One bundle before the door of one home.

    Attributes:
        hf_home: The home.
        lock: The bundle's lock.
        digest: Its digest; None of a stream.
        signed: Its signature and statement; why they cannot be used; or None.
        policies: Those that hold here.
        on_note: Told what a person should know of and is no error.
    """

    hf_home: Path
    lock: Lock
    digest: str | None
    signed: SignedStatement | TrustError | None
    policies: Sequence[Policy]
    on_note: Note

    @classmethod
    def open(
        cls, bundle: Source, hf_home: Path, signature: Path | None, policy: Path | None, on_note: Note
    ) -> Judged:
        """Read what is needed to decide.

        Args:
            bundle: The bundle.
            hf_home: The home.
            signature: Its signature; default the one beside it, else the one that was kept when it was installed.
            policy: A policy that must hold besides the machine's.
            on_note: Told what a person should know of and is no error.

        Raises:
            PolicyError: A policy is malformed.
        """
        digest = bundle.whole_digest if isinstance(bundle, BundleReader) else None
        policies = load_policies(policy)
        signed = find_signature(
            bundle.place, signature, keys=listed_keys(policies), authorities=listed_authorities(policies)
        )
        if signed is None and digest is not None:
            signed = read_kept_signature(hf_home, bundle.lock.name, digest, policies)
        return cls(hf_home, bundle.lock, digest, signed, policies, on_note)

    @property
    def _right(self) -> SignedStatement | None:
        return self.signed if isinstance(self.signed, SignedStatement) else None

    def check(self, *, allow_rollback: bool) -> None:
        """Make sure that the bundle may come in, as far as can be told before it is read.

        Args:
            allow_rollback: Let an older one in.

        Raises:
            TrustError: It may not.
            IntegrityError: It cannot be told what was installed before.
        """
        self._judge(self.digest).raise_if_refused()
        try:
            check_release(self.hf_home, self.lock.name, self._right.statement if self._right else None)
        except (TrustError, IntegrityError) as error:
            if not allow_rollback:
                raise
            self.on_note(f"{error.message}; taken by --allow-rollback")

    def check_digest(self, digest: str) -> None:
        """Make sure that the whole bundle is the one that was judged, once all of it was read.

        Raises:
            TrustError: It is not.
        """
        if self.digest is None and self.signed is not None:
            self._judge(digest).raise_if_refused()

    def keep_signature(self) -> None:
        """Keep the signature beside the receipt."""
        if self._right is not None:
            keep_signature(self.hf_home, self._right)

    def keep(self) -> None:
        """Keep the signature, and remember the release: the bundle is installed."""
        if self._right is not None:
            self.keep_signature()
            remember_release(self.hf_home, self._right.statement)

    def _judge(self, digest: str | None) -> Judgement:
        now = datetime.datetime.now(datetime.UTC)
        return judge(Subject(self.lock, digest), self.signed, self.policies, now)
