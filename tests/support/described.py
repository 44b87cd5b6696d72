"""A lock with everything that a bill of materials has words for."""

from __future__ import annotations

from dataclasses import replace

from bundler.plan.lock import Card, Lock
from tests.support.bundles import lock_of, locked_repo


def described_lock() -> Lock:
    """A model with a tokenizer entry, pickle weights and code; its base; a prepared dataset."""
    files = {"pytorch_model.bin": b"x", "config.json": b"{}"}
    model = replace(
        locked_repo("org/m", files, aliases=["m"]),
        trust_remote_code=True,
        card=Card(licenses=("apache-2.0", "llama3"), base_models=("org/base", "org/gone"), datasets=("org/d",)),
    )
    return lock_of(
        replace(model, kind="tokenizer", files=model.files[:1]),
        model,
        locked_repo("org/base", {"b": b"b"}),
        locked_repo("org/d", {"d.txt": b"d"}, kind="dataset", prepared={"default/0.0.0/h/d.arrow": b"arrow"}),
    )
