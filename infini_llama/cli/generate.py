"""`infini-llama generate`: continue a text, word by word, on stdout."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from infini_llama.cli import checkpoint as folder
from infini_llama.cli.numbers import SEED, RealRange


@click.command("generate")
@folder.checkpoint_argument
@click.option("--prompt", help="Text to continue [default: the text on stdin].")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option(
    "--temperature",
    type=RealRange(0),
    default=0.0,
    show_default=True,
    help="0 takes the likeliest token; above 0, tokens are sampled.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed for sampling.")
def command(checkpoint: Path, prompt: str | None, max_new_tokens: int, temperature: float, seed: int) -> None:
    """Continue a text until the model ends it, or for --max-new-tokens.

    Prompt and answer may be of any length: the state of the model does not grow.

    \b
    Example:
      infini-llama generate run/checkpoint-120 --prompt "The import system" --max-new-tokens 1000
    """
    written = sys.stdin.buffer.read() if prompt is None else prompt.encode(errors="surrogateescape")
    try:
        text = written.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"the prompt is not UTF-8: byte {written[error.start]:#04x} at {error.start}"
        ) from error
    model, tokenizer = folder.load(checkpoint)
    import torch

    from infini_llama.tasks.generate import decode_stream, stream

    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise click.UsageError("the prompt is empty; the model needs at least one token")
    tokens = stream(
        model,
        torch.tensor(ids),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        stop=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(seed),
    )
    for piece in decode_stream(tokens, tokenizer):
        click.echo(piece, nl=False)
        sys.stdout.flush()
    click.echo()
