"""How a Llama is trained, converted and trained on, for `make bench-converted`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from benchmarks.train.passkey.records import digest_of
from benchmarks.train.passkey.training import Stage


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained and asked.

    Attributes:
        shape: Keys of the Llama's configuration.
        window: The Llama's, and the segment of the converted model, in bytes.
        steps: Of the Llama's training.
        rows: Rows of prose in each of them.
        gate_init: Logit of the gates where training goes on.
        spread: `memory_write_spread` there.
        rate: Highest learning rate there of all parameters but the gates.
        gate_rate: Highest learning rate of the gates: from so far shut they have a long way.
        stages: Of the training that goes on.
        lengths: Of the rows with passkeys.
        depths: Places of the passkeys.
        keys: Passkeys for each figure.
    """

    shape: tuple[tuple[str, int], ...]
    window: int
    steps: int
    rows: int
    gate_init: float
    spread: float
    rate: float
    gate_rate: float
    stages: tuple[Stage, ...]
    lengths: tuple[int, ...] = (5_120, 16_384, 131_072)
    depths: tuple[float, ...] = (0.0, 0.5, 1.0)
    keys: int = 4

    @property
    def digest(self) -> str:
        """Tells records of this plan from those of another."""
        return digest_of(asdict(self))

    @property
    def llama(self) -> str:
        """Name of the Llama's folder: plans that differ only in what comes after have one Llama."""
        return f"llama-{digest_of([self.shape, self.window, self.steps, self.rows])}"


_SHUT = Plan(
    shape=(
        ("hidden_size", 64),
        ("intermediate_size", 192),
        ("num_hidden_layers", 2),
        ("num_attention_heads", 4),
    ),
    window=128,
    steps=1000,
    rows=32,
    gate_init=-4.0,
    spread=5.0,
    rate=5e-3,
    gate_rate=3e-2,
    stages=(
        Stage(length=128, rows=64, steps=500, introduced=False, spread=(0.0, 0.0), prose_rows=16),
        Stage(
            length=256,
            rows=32,
            steps=700,
            introduced=False,
            led=False,
            spread=(0.0, 0.0),
            prose_rows=8,
            local_rows=8,
        ),
        Stage(length=640, rows=16, steps=350, spread=(0.0, 1.0), prose_rows=4, local_rows=8),
        Stage(length=1280, rows=8, steps=150, prose_rows=2, local_rows=8),
        Stage(length=5120, rows=4, steps=100, prose_rows=1, local_rows=8),
    ),
)

# Half open, the memory has a gradient from the start, and the Llama's perplexity is lost until it has learnt.
PLANS = (_SHUT, replace(_SHUT, gate_init=0.0))
