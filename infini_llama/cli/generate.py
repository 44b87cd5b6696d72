"""`infini-llama generate`: go on with a text, word by word, on stdout."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from infini_llama.cli import checkpoint as folder


@click.command("generate")
@folder.checkpoint_argument
@click.option("--prompt", help="Text to go on with [default: what stands on stdin].")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="0 takes the likeliest token; above, tokens are drawn.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn.")
def command(checkpoint: Path, prompt: str | None, max_new_tokens: int, temperature: float, seed: int) -> None:
    """Go on with a text until the model ends it or --max-new-tokens are out.

    Prompt and answer may be of any length: the state of the model does not grow.

    \b
    Example:
      infini-llama generate run/checkpoint-120 --prompt "The import system" --max-new-tokens 1000
    """
    text = sys.stdin.read() if prompt is None else prompt
    model, tokenizer = folder.load(checkpoint)
    import torch

    from infini_llama.tasks.generate import stream, words

    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise click.UsageError("the prompt is empty; the model needs a token to go on with")
    tokens = stream(
        model,
        torch.tensor(ids),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        stop=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(seed),
    )
    for piece in words(tokens, tokenizer):
        click.echo(piece, nl=False)
        sys.stdout.flush()
    click.echo()
