"""`python -m bundler` is the command `bundle`."""

from bundler.cli import main

main(prog_name="bundle")
