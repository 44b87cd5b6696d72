"""`python -m infini_llama` is the command `infini-llama`; torchrun starts it so."""

from infini_llama.cli import main

main(prog_name="infini-llama")
