"""`bundle env`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cache import default_hf_home
from bundler.cli.output import hf_home_option, json_option, print_json


@click.command()
@click.argument("name")
@hf_home_option
@json_option
def env(name: str, hf_home: Path | None, as_json: bool) -> None:
    """Print the variables of an offline launch on the installed bundle NAME, as lines for a shell.

    They bring the guard into every Python process as well. Nothing is verified here, and nothing is refused below
    Python: `bundle run` does both.

    \b
    Example, in a job script:
      bundle verify demo && eval "$(bundle env demo)"
      srun python train.py
    """
    from bundler.installed import InstalledBundle
    from bundler.offline.environment import Launch, offline_environment
    from bundler.offline.network_namespace import own_addresses
    from bundler.offline.stand_ins import stand_ins_for

    home = InstalledBundle.open(name, default_hf_home(hf_home)).hf_home
    launch = Launch(allow_net=tuple(str(address) for address in own_addresses()))
    environment = offline_environment(home, stand_ins=stand_ins_for(home), launch=launch)
    if as_json:
        print_json(environment.as_json())
    else:
        click.echo(environment.shell(), nl=False)
