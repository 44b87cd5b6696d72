from __future__ import annotations

import pytest
import torch

from infini_llama.model.memory import (
    Memory,
    associate,
    empty_memory,
    memory_dtype,
    novelty,
    read_memory,
    scan_delta,
    scan_linear,
    sigma,
)


def test_sigma_is_elu_plus_one() -> None:
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)
    torch.testing.assert_close(sigma(x), torch.nn.functional.elu(x) + 1, rtol=0, atol=1e-15)


def test_sigma_stays_positive_where_elu_plus_one_cancels() -> None:
    x = torch.tensor([-40.0])
    assert (torch.nn.functional.elu(x) + 1).item() == 0
    assert sigma(x).item() == pytest.approx(4.248e-18, rel=1e-3)


def test_sigma_has_a_gradient_of_one_at_zero() -> None:
    x = torch.zeros(1, requires_grad=True)
    sigma(x).backward()
    assert x.grad is not None
    assert x.grad.item() == 1


def test_sigma_has_the_first_and_second_derivatives_of_elu() -> None:
    x = torch.tensor([-3.0, -0.5, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sigma, x)
    assert torch.autograd.gradgradcheck(sigma, x)


@pytest.mark.parametrize(
    ("model", "memory"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_memory_is_never_narrower_than_float32(model: torch.dtype, memory: torch.dtype) -> None:
    assert memory_dtype(model) == memory
    assert empty_memory(1, 1, 2, dtype=model, device=torch.device("cpu")).normaliser.dtype == memory


def test_a_normaliser_of_512_segments_of_2048_loses_nothing() -> None:
    """In bfloat16 the same sum stops at half of it."""
    keys = torch.zeros(1, 512, 2048, 1, 1)
    carried = empty_memory(1, 1, 1, dtype=torch.bfloat16, device=torch.device("cpu"))
    _, after = scan_linear(sigma(keys), keys, carried, torch.ones(1, 512, dtype=torch.bool), None)
    assert after.normaliser.item() == 512 * 2048


def test_an_empty_memory_reads_as_zero_with_a_finite_gradient() -> None:
    queries = torch.rand(1, 3, 1, 1, 2, requires_grad=True)
    memory = empty_memory(1, 1, 2, dtype=torch.float32, device=torch.device("cpu"))
    recalled = read_memory(sigma(queries), memory, torch.tensor([False]))
    assert torch.equal(recalled, torch.zeros(1, 3, 1, 1, 2))
    recalled.sum().backward()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()


def test_the_linear_memory_returns_a_value_by_its_key() -> None:
    keys = torch.eye(4).mul(60).sub(30).reshape(1, 4, 1, 4)
    values = torch.arange(16.0).reshape(1, 4, 1, 4)
    recalled = read_memory(sigma(keys).unsqueeze(-2), associate(sigma(keys), values), torch.tensor([True]))
    torch.testing.assert_close(recalled.squeeze(-2), values)


def test_the_delta_rule_does_not_write_again_what_it_knows() -> None:
    keys = torch.eye(4).mul(60).sub(30).reshape(1, 4, 1, 4)
    values = torch.rand(1, 4, 1, 4)
    memory = associate(sigma(keys), values)
    left = novelty(memory, sigma(keys), values, torch.tensor([True]))
    assert left.abs().max() < 1e-5


def test_a_binding_that_the_delta_rule_writes_twice_reads_at_half_its_value() -> None:
    """A property of the rule as published: z grows by what M does not. The linear rule has no such loss."""
    keys, values = torch.zeros(1, 1, 1, 1, 4), torch.ones(1, 1, 1, 1, 4)
    yes = torch.ones(1, 2, dtype=torch.bool)
    twice_keys, twice_values = keys.expand(1, 2, 1, 1, 4), values.expand(1, 2, 1, 1, 4)
    carried = empty_memory(1, 1, 4, dtype=torch.float32, device=torch.device("cpu"))
    _, delta = scan_delta(sigma(twice_keys), twice_values, carried, yes, None, torch.tensor([[False, True]]))
    _, linear = scan_linear(sigma(twice_keys), twice_values, carried, yes, None)
    query = sigma(keys[:, 0]).unsqueeze(-2)
    assert read_memory(query, delta, yes[:, 0]).unique().tolist() == [0.5]
    assert read_memory(query, linear, yes[:, 0]).unique().tolist() == [1.0]


def test_with_keys_that_are_all_alike_the_delta_rule_takes_the_first_segment_away_again() -> None:
    """Why queries and keys must not start near 0, where sigma is 1 for all of them: there is nothing to learn from."""
    values = torch.rand(1, 3, 5, 1, 4, dtype=torch.float64, requires_grad=True)
    keys = torch.zeros(1, 3, 5, 1, 4, dtype=torch.float64)
    present = torch.tensor([[False, True, True]])
    carried = empty_memory(1, 1, 4, dtype=torch.float64, device=torch.device("cpu"))
    before, _ = scan_delta(sigma(keys), values, carried, torch.ones_like(present), None, present)
    (gradient,) = torch.autograd.grad(before.matrix[:, 2].sum(), values)
    assert gradient[0, 0].abs().max() < 1e-12
    assert gradient[0, 1].abs().min() > 0.1


def random_segments() -> tuple[torch.Tensor, torch.Tensor, Memory, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(2, 5, 3, 2, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    carried = associate(sigma(keys[:, 0]), values[:, 1])
    complete = torch.tensor([[True] * 5, [True, True, False, False, False]])
    return sigma(keys), values, carried, complete


def test_the_linear_scan_equals_writing_segment_after_segment() -> None:
    keys, values, memory, complete = random_segments()
    before, after = scan_linear(keys, values, memory, complete, None)
    for n in range(5):
        torch.testing.assert_close(before.matrix[:, n], memory.matrix, rtol=0, atol=1e-12)
        torch.testing.assert_close(before.normaliser[:, n], memory.normaliser, rtol=0, atol=1e-12)
        memory = memory.plus(associate(keys[:, n], values[:, n]).where(complete[:, n]))
    torch.testing.assert_close(after.matrix, memory.matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scan", ["linear", "delta"])
def test_a_scan_forgets_what_was_written_before_a_document_start(scan: str) -> None:
    keys, values, carried, _ = random_segments()
    complete, present = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    # Row 0 starts a document at segment 2, row 1 at segment 0.
    runs = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    present[0, 2] = present[1, 0] = False
    if scan == "linear":
        before, _ = scan_linear(keys, values, carried, complete, runs)
    else:
        before, _ = scan_delta(keys, values, carried, complete, runs, present)
    assert (before.normaliser[0, 2] == 0).all()
    assert (before.normaliser[1, 0] == 0).all()
    torch.testing.assert_close(before.normaliser[0, 4], keys[0, 2:4].sum((0, 1)))
    torch.testing.assert_close(before.normaliser[0, 1], carried.normaliser[0] + keys[0, 0].sum(0))
