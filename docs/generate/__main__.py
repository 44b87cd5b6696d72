"""`python -m docs.generate`: write the pages that follow from the code; `--check` only tells which are stale."""

from __future__ import annotations

import click

from docs.generate import pages


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; end with exit code 1 if a page is stale.")
@click.pass_context
def main(ctx: click.Context, check: bool) -> None:
    """Write the pages under docs/ that follow from the code."""
    if check:
        found = pages.stale()
        for path in found:
            click.echo(f"{path}: not what the code says; run `make docs`", err=True)
        ctx.exit(1 if found else 0)
    for path in pages.write():
        click.echo(path)


if __name__ == "__main__":
    main()
