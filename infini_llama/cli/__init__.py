"""The command `infini-llama`: a click group that imports a command's module only when that command is used.

Rule book:

* nothing here or in a command's module imports torch or a Hugging Face library before the network is shut and the
  bundle is verified, because those libraries read their switches when they are imported;
* fast checks come first: a misspelt key should be reported before a bundle of 100 GB is hashed;
* results go to stdout, everything else to stderr; errors end in the exit codes of `bundler.errors`.
"""

from __future__ import annotations

import importlib

import click

from bundler import __version__
from bundler.console.group import ErrorGroup
from bundler.text.documents import describe_exit_codes

# The help texts are here so that `infini-llama --help` need not import the commands.
COMMANDS = {
    "keys": "Every key of the configuration, with meaning, type, range and default.",
    "prepare": "Tokenize raw text before a training, and report what it holds.",
    "train": "Train on raw text, from a verified bundle.",
    "report": "Write the page of a run again, from its metrics.",
    "convert": "Convert a Llama checkpoint of a verified bundle to an Infini-Llama.",
    "export": "Write the model of a checkpoint in shards to files that any transformers program loads.",
    "generate": "Continue a text, in memory that does not grow.",
    "eval": "Perplexity with and without the memory, by segment.",
    "recall": "Train small models on a task that only the memory can solve.",
}


class CommandGroup(ErrorGroup):
    """A group whose commands are the functions `command` in modules with the commands' names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"infini_llama.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=describe_exit_codes(),
)
@click.version_option(__version__, prog_name="infini-llama")
def main() -> None:
    """Train an Infini-Llama from a verified bundle, with the network shut, and test what it has learnt."""
