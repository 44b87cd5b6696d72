"""Keep a process tree off the network, and prove it.

environment.py    the variables of an offline launch, as a pure function
stand_ins.py      writable folders where HF_HOME is read-only
guard.py          inside Python: refuses and notes connections; `site/` brings it into every Python process
asking.py         who asked for the network, from the stack
lacking.py        what the bundles lack of what was asked for, and the line of the manifest that brings it
isolation.py      below Python: a network namespace with loopback only
kernel_counts.py  what the kernel refused in that namespace
launch.py         starts a command with all of that, passes signals and the exit code on
attempts.py       reads what the guards have noted
report.py         says at the end what was verified, in force and seen
enforce.py        the same for a process that is running already
"""

from __future__ import annotations

from bundler.offline.enforce import enforce_offline

__all__ = ["enforce_offline"]
