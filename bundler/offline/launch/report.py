"""What an offline launch has to say at its end: to a person on stderr, to a script as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.files.atomic import atomic_write
from bundler.offline.guard.attempts import group_attempts
from bundler.offline.launch.launch import Completed
from bundler.text.wording import and_more

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
    """

    name: str
    digest: str
    files: int
    size_bytes: int
    quick: bool


@dataclass(frozen=True, kw_only=True)
class LaunchReport:
    """The whole launch.

    Attributes:
        hf_home: The cache that it ran on.
        bundles: What was verified in it.
        command: What was run.
        completed: How it ended.
        hidden: Variables with secrets that it did not get.
    """

    hf_home: Path
    bundles: tuple[VerifiedBundle, ...]
    command: Sequence[str]
    completed: Completed
    hidden: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the report for a person."""
        done = self.completed
        verified = ", ".join(f"{b.name} {b.digest}{' (quick)' if b.quick else ''}" for b in self.bundles)
        if done.isolation.inherited:
            kernel = "what the kernel refuses is in the report of the outer launch"
        elif done.kernel_refused is None:
            kernel = "the kernel did not count: connections of compiled code would not show here"
        else:
            kernel = f"{done.kernel_refused} refused by the kernel, in any program"
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
        lines += [f"    {line}" for line in listed]
        if done.kernel_refused and done.isolation.kind == "netns":
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
                "refused": [attempt.as_json() for attempt in done.refused],
                "kernel_refused": [denial.as_json() for denial in done.denials],
            },
        }

    def write(self, path: Path) -> None:
        """Write the JSON form to `path`, whole or not at all."""
        atomic_write(path, (json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n").encode())
