"""The command `bundle`: a click group that imports a command's module only when that command is used.

Rule book:

* a command parses, calls the library and prints; it holds no logic of its own;
* data goes to stdout, everything else to stderr;
* `BundleError` becomes its message and exit code in one place, `bundler.console.group`.

Importing this module imports click and nothing else of weight, so that `bundle --help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import importlib
from typing import Any

import click

from bundler import __version__
from bundler.console.ending import end_when_asked
from bundler.console.group import ErrorGroup
from bundler.text.documents import describe_exit_codes

# name -> (module, attribute, one-line help). The help stands here so that `bundle --help` imports no command.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "record": (
        "bundler.cli.record",
        "record",
        "Run a command online and write the manifest of all that it loads.",
    ),
    "scan": ("bundler.cli.scan", "scan", "Read source code for what it loads, without running it."),
    "init": ("bundler.cli.add", "init", "Begin a manifest."),
    "add": ("bundler.cli.add", "add", "Add repos, and files of other hosts, to a manifest."),
    "lock": ("bundler.cli.lock", "lock", "Resolve a manifest to commits and write its lock."),
    "fetch": ("bundler.cli.fetch", "fetch", "Download, check, prove and pack a manifest into one bundle."),
    "pack": ("bundler.cli.pack", "pack", "Pack a trained model, or a run's checkpoints, into one bundle."),
    "cache": ("bundler.cli.cache", "cache", "Show and clear the folder in which `bundle fetch` stages downloads."),
    "sign": ("bundler.cli.sign", "sign", "Sign a bundle with an SSH key: write BUNDLE.sig beside it."),
    "install": ("bundler.cli.install", "install", "Verify a bundle and unpack it into HF_HOME."),
    "verify": ("bundler.cli.verify", "verify", "Check a bundle file, or an installed bundle, byte by byte."),
    "policy": ("bundler.cli.policy", "policy", "Show what each rule of this machine's policies says of a bundle."),
    "inspect": ("bundler.cli.inspect", "inspect", "Show what a bundle holds without unpacking it."),
    "diff": ("bundler.cli.diff", "diff", "Show what differs between two bundles, locks or installed generations."),
    "sbom": ("bundler.cli.sbom", "sbom", "Write what a bundle holds as a CycloneDX bill of materials."),
    "digest": ("bundler.cli.digest", "digest", "Print the digest of a bundle, to compare with the sender's."),
    "split": ("bundler.cli.split", "split", "Cut a bundle into volumes that fit on smaller media."),
    "join": ("bundler.cli.split", "join", "Make one file of volumes again, the same bytes as before."),
    "parity": (
        "bundler.cli.parity",
        "parity",
        "Write parity of a bundle, from which what is lost on the way is rebuilt.",
    ),
    "repair": ("bundler.cli.parity", "repair", "Rebuild what is lost or damaged of a bundle from its parity."),
    "push": ("bundler.cli.push", "push", "Send a bundle to a registry, with what belongs to it attached."),
    "pull": ("bundler.cli.push", "pull", "Bring the bundle of an address into a file; goes on where it stopped."),
    "cat": ("bundler.cli.cat", "cat", "Write one file of a bundle, or one tensor, to stdout, verified."),
    "list": ("bundler.cli.installed", "list_", "List the installed bundles."),
    "path": ("bundler.cli.path", "path", "Print the verified snapshot folder of a repo or alias."),
    "remove": ("bundler.cli.remove", "remove", "Uninstall a bundle; content that others use stays."),
    "rollback": ("bundler.cli.rollback", "rollback", "Make an older generation of a bundle the current one."),
    "prune": ("bundler.cli.prune", "prune", "Delete generations that are not current, and that nothing runs on."),
    "log": ("bundler.cli.log", "log", "Show what changed in HF_HOME, when and by whom."),
    "doctor": (
        "bundler.cli.doctor",
        "doctor",
        "Look at this environment as the libraries will see it, and say what to do.",
    ),
    "env": ("bundler.cli.env", "env", "Print the variables of an offline launch as export lines."),
    "run": ("bundler.cli.run", "run", "Run a command on verified bundles with the network shut."),
    "serve": (
        "bundler.cli.serve",
        "serve",
        "Serve a folder, an installed cache or a bundle as a read-only Hub.",
    ),
}


class BundleGroup(ErrorGroup):
    """A group whose commands are imported on use."""

    def invoke(self, ctx: click.Context) -> Any:
        with end_when_asked():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(
    cls=BundleGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=describe_exit_codes(),
)
@click.version_option(__version__, prog_name="bundle")
def main() -> None:
    """Carry Hugging Face repos to machines without internet: fetch, verify, install, run offline."""
    # What a command makes is mostly a lock of many files, and stays: to search it for cycles each time that it has
    # grown by 700 objects takes a tenth of the whole.
    gc.set_threshold(50_000)
    # Nor is it searched at the end, when all of it goes.
    atexit.register(gc.freeze)
