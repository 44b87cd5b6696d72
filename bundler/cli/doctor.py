"""`bundle doctor`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json
from bundler.plan.folders import default_hf_home
from bundler.text.wording import counted

PROBLEMS_FOUND = 16
_WORDS = {"ok": "ok", "note": "note", "warning": "WARNING", "problem": "PROBLEM"}


@click.command()
@hf_home_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, hf_home: Path | None, as_json: bool) -> None:
    """Look at this environment as the Hugging Face libraries will see it, and say what to do.

    Switches, endpoint, proxies, certificates, token, the cache and its bundles, the file system, isolation. Nothing is
    changed; tokens and passwords are not shown. A proxy, or the Hub's address, is asked for a connection unless offline
    mode is on. Ends with exit code 16 if there is a problem; warnings do not count.

    \b
    Example, on a login node and in a job:
      bundle doctor
      srun bundle doctor --hf-home /shared/hf --json
    """
    from bundler.doctor.examine import examine

    findings = examine(os.environ, default_hf_home(hf_home))
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        print_json({"ok": not problems, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{_WORDS[finding.state]:<8} {finding.check:<13} {finding.message}")
            if finding.advice:
                click.echo(f"{'':<22} -> {finding.advice}")
        warnings = sum(finding.state == "warning" for finding in findings)
        click.echo(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    ctx.exit(PROBLEMS_FOUND if problems else 0)
