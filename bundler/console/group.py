"""A click group that turns errors into messages and exit codes, in one place, for both commands of this project."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from bundler.console.ending import Ended
from bundler.console.options import JSON_ASKED_FOR
from bundler.console.output import print_json
from bundler.console.standard_streams import exit_code_of_failed_output
from bundler.errors import BundleError
from bundler.files.access import explain
from bundler.text.wording import close_names, on_screen

_GO_ON = "finished work is kept: run the same command again to continue"


class ErrorGroup(click.Group):
    """A group whose errors end in documented exit codes."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            if (code := exit_code_of_failed_output()) and not end.code:
                raise SystemExit(code) from None
            raise

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **options: Any) -> click.Context:
        try:
            return super().make_context(info_name, args, *rest, **options)
        except OSError as error:
            # `bundle --help` prints here. Any OSError that is not about the standard streams is a bug.
            if code := exit_code_of_failed_output(error):
                raise click.exceptions.Exit(code) from error
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # click itself knows only commands that are imported already.
            if suggestion := close_names(args[0], self.list_commands(ctx)):
                raise click.UsageError(f"{error.message.rstrip('.')}{suggestion}", ctx) from error
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BundleError as error:
            self._fail(ctx, error)
        except Ended as end:
            self._end(ctx, f"ended by {end}; {_GO_ON}", 128 + end.number)
        except KeyboardInterrupt:
            self._end(ctx, f"interrupted; {_GO_ON}", 130)
        except OSError as error:
            if code := exit_code_of_failed_output(error):
                ctx.exit(code)
            if failure := explain(error):
                self._fail(ctx, failure)
            raise

    def _fail(self, ctx: click.Context, error: BundleError) -> None:
        if ctx.meta.get(JSON_ASKED_FOR):
            value = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
            with contextlib.suppress(OSError):
                print_json({"error": value})
        self._end(ctx, f"error: {error}", error.exit_code)

    @staticmethod
    def _end(ctx: click.Context, text: str, code: int) -> None:
        # If the message cannot be printed, the exit code still tells.
        with contextlib.suppress(OSError):
            click.echo(on_screen(text), err=True)
        ctx.exit(code)
