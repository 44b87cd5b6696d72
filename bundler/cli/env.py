"""`bundle env`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json
from bundler.plan.folders import default_hf_home


class _ForEval(click.Command):
    """A command whose output is evaluated by a shell, which never sees its exit code.

    ``eval "$(false)"`` is a success, so a job would go on without the variables. On failure, stdout therefore stops
    the shell that evaluates it.
    """

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **options: Any) -> click.Context:
        for_shell = "--json" not in args
        try:
            return super().make_context(info_name, args, *rest, **options)
        except click.ClickException as error:
            if for_shell:
                click.echo(stop_shell(error.exit_code))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BaseException as error:
            if not ctx.params.get("as_json"):
                click.echo(stop_shell(getattr(error, "exit_code", 1)))
            raise


def stop_shell(exit_code: int) -> str:
    """Return a line that ends the script which evaluates it; in an interactive shell it only sets the status.

    `exit` would close a person's terminal. `return` is no way for scripts: one that sources the file with the `eval`
    would go on.
    """
    return f"case $- in *i*) (exit {exit_code}) ;; *) exit {exit_code} ;; esac"


@click.command(cls=_ForEval)
@click.argument("name")
@hf_home_option
@json_option
def env(name: str, hf_home: Path | None, as_json: bool) -> None:
    """Print the variables of an offline launch on the installed bundle NAME, as lines for a shell.

    They bring the guard into every Python process as well. Nothing is verified here, and nothing is refused below
    Python: `bundle run` does both. On failure, the lines end the script that evaluates them; in an interactive shell
    they set its status.

    \b
    Example, in a job script that also stops where `bundle` itself is not found:
      bundle verify demo || exit
      settings=$(bundle env demo) || exit
      eval "$settings"
      srun python train.py
    """
    from bundler.home.home import Home
    from bundler.home.view.open import open_view
    from bundler.offline.kernel.network_namespace import own_addresses
    from bundler.offline.launch.writable_overlay import make_overlay
    from bundler.offline.variables import Launch, offline_environment

    bundle = Home(default_hf_home(hf_home)).bundle(name)
    view = open_view(bundle.hf_home, [bundle])
    launch = Launch(allow_net=tuple(str(address) for address in own_addresses()))
    environment = offline_environment(
        bundle.hf_home,
        hub=view.hub,
        datasets=view.datasets,
        overlay=make_overlay(bundle.hf_home, view.datasets, view.files),
        launch=launch,
    )
    if as_json:
        print_json(environment.as_json())
    else:
        click.echo(environment.shell(), nl=False)
