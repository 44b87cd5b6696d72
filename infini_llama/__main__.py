"""Make `python -m infini_llama` run the command `infini-llama`; torchrun starts it this way."""

from infini_llama.cli import main

main(prog_name="infini-llama")
