"""What an offline launch has to say at its end: to a person on stderr, to a script as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.files.atomic import atomic_write
from bundler.offline.guard.attempts import Attempt, group_attempts
from bundler.offline.launch.launch import Completed
from bundler.text.wording import and_more, counted

REPORT_VERSION = 1
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class VerifiedBundle:
    """A bundle that was verified before the launch.

    Attributes:
        name: Its name.
        digest: Its digest.
        files: Files that were checked.
        size_bytes: Bytes that were hashed.
        quick: Whether only names, links and sizes were compared.
        stamped_bytes: Bytes that were hashed earlier, and have not changed since.
    """

    name: str
    digest: str
    files: int
    size_bytes: int
    quick: bool
    stamped_bytes: int = 0

    @property
    def how(self) -> str:
        """How its content was looked at: full, stamped or quick."""
        return "quick" if self.quick else "stamped" if self.stamped_bytes else "full"


@dataclass(frozen=True, kw_only=True)
class LaunchReport:
    """The whole launch.

    Attributes:
        hf_home: The cache that it ran on.
        bundles: What was verified in it.
        command: What was run.
        completed: How it ended.
        expected: Targets, as HOST:PORT, whose refusal `--strict` lets pass.
        hidden: Variables with secrets that it did not get.
    """

    hf_home: Path
    bundles: tuple[VerifiedBundle, ...]
    command: Sequence[str]
    completed: Completed
    expected: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def expected_counts(self) -> dict[str, int]:
        """How often each expected target was refused, where it is known by name."""
        counts = dict.fromkeys(self.expected, 0)
        for count, target in [
            *((1, _expected_form(attempt, self.expected)) for attempt in self.completed.refused),
            *((denial.count, denial.target) for denial in self.completed.denials),
        ]:
            if target in counts:
                counts[target] += count
        return counts

    @property
    def speaks_for(self) -> str:
        """For what the figures, and with them `--strict`, speak."""
        done = self.completed
        if done.isolation.inherited:
            return "what the guard saw inside Python; the kernel's figure is in the report of the outer launch"
        if done.isolation.supervised:
            return "every program of the launch"
        if done.kernel_refused is not None:
            return "every program of the launch, but for raw sockets and namespaces of its own"
        return "Python's own sockets, as far as the notes of the guard were left alone; the kernel counts nothing"

    def strict_failure(self) -> str | None:
        """Return why `--strict` fails this launch, or None."""
        done = self.completed
        unexpected = done.attempts - sum(self.expected_counts.values())
        reasons = [f"{counted(unexpected, 'attempt')} at the network"] if unexpected else []
        reasons += [f"{counted(len(done.uncounted), 'thing')} that nobody could count"] if done.uncounted else []
        return " and ".join(reasons) or None

    def text(self) -> str:
        """Return the report for a person."""
        done = self.completed
        verified = ", ".join(
            f"{b.name} {b.digest}{'' if b.how == 'full' else f' ({b.how})'}" for b in self.bundles
        )
        if done.isolation.inherited:
            kernel = "what the kernel refuses is in the report of the outer launch"
        elif done.kernel_refused is None:
            kernel = "the kernel did not count: connections of compiled code would not show here"
        else:
            kernel = f"{done.kernel_refused} refused by the kernel, in any program"
        if done.lost:
            kernel += f"; {done.lost} in Python whose notes are gone"
        if done.inner_refused:
            kernel += f"; {done.inner_refused} refused by the kernel in launches inside this one"
        lines = [
            "offline report",
            f"  verified   {verified}",
            f"  isolation  {done.isolation.kind}: {done.isolation.detail}",
            f"  attempts   {done.attempts}: {len(done.refused)} seen by the guard inside Python; {kernel}",
        ]
        if self.hidden:
            lines.append(f"  hidden     {', '.join(self.hidden)} (--pass-env NAME lets one through)")
        groups = group_attempts(done.refused)
        refused = []
        for count, attempt in groups:
            wanted = f", for {attempt.wanted}" if attempt.wanted else ""
            refused.append(f"{count} x {attempt.target}{wanted}, by {attempt.where}")
        listed = and_more(refused, more="more code lines; --report FILE lists all")
        denials = sorted(done.denials, key=lambda denial: -denial.count)
        denied = []
        for denial in denials:
            command = " ".join(" ".join(denial.argv).split()) or "an unknown program"
            shown = command if len(command) <= _SHOWN_CHARACTERS else command[:_SHOWN_CHARACTERS] + "…"
            denied.append(f"{denial.count} x {denial.target}, by process {denial.pid}: {shown}")
        listed += and_more(denied, more="more targets; --report FILE lists all")
        listed += [f"unknown: {text}" for text in done.uncounted]
        listed += [f"expected: {count} x {target}" for target, count in self.expected_counts.items()]
        lines += [f"    {line}" for line in listed]
        if done.isolation.kind == "netns" and (done.kernel_refused or 0) > sum(d.count for d in done.denials):
            lines.append("    `--isolate seccomp` names targets and programs of what the kernel refuses")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """Return the report as a JSON object; OFFLINE_MODE.md documents its keys."""
        done = self.completed
        return {
            "report_version": REPORT_VERSION,
            "hf_home": str(self.hf_home),
            "bundles": [
                {
                    "name": b.name,
                    "digest": b.digest,
                    "files": b.files,
                    "hashed_bytes": b.size_bytes,
                    "stamped_bytes": b.stamped_bytes,
                    "how": b.how,
                    "quick": b.quick,
                }
                for b in self.bundles
            ],
            "command": list(self.command),
            "exit_code": done.exit_code,
            "hidden": list(self.hidden),
            "isolation": {
                "kind": done.isolation.kind,
                "detail": done.isolation.detail,
                "allow_net": [str(network) for network in done.isolation.reach.networks],
            },
            "attempts": {
                "total": done.attempts,
                "python": len(done.refused),
                "kernel": done.kernel_refused,
                "inner": done.inner_refused,
                "lost": done.lost,
                "uncounted": list(done.uncounted),
                "expected": [{"target": target, "count": count} for target, count in self.expected_counts.items()],
                "speaks_for": self.speaks_for,
                "refused": [attempt.as_json() for attempt in done.refused],
                "kernel_refused": [denial.as_json() for denial in done.denials],
            },
        }

    def write(self, path: Path) -> None:
        """Write the JSON form to `path`, whole or not at all."""
        atomic_write(path, (json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n").encode())


def _expected_form(attempt: Attempt, expected: Sequence[str]) -> str:
    """Return the expected target that an attempt in Python is about: a look-up of its name is, too."""
    if attempt.event.startswith("get"):
        host = attempt.target.rpartition(":")[0] or attempt.target
        return next((t for t in expected if t.rpartition(":")[0] in (host, attempt.target)), attempt.target)
    return attempt.target
