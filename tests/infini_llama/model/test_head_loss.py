"""The loss in groups of tokens: the numbers of the loss that it stands for, and no surprise for who wants logits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.loss.loss_utils import ForCausalLMLoss

from infini_llama import InfiniLlamaForCausalLM
from infini_llama.data import IGNORED
from infini_llama.model import head_loss
from tests.infini_llama.conftest import MakeModel

# More than one group, and the last one not full.
TOKENS = 2 * head_loss._TOKENS + 37
VOCABULARY = 61


@pytest.fixture
def rows() -> Tensor:
    """Return hidden states `(2, TOKENS / 2 or so, 16)` in float64."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, TOKENS // 2, 16, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    """Return labels of `rows`, some of them missing."""
    generator = torch.Generator().manual_seed(3)
    found = torch.randint(VOCABULARY, (2, TOKENS // 2), generator=generator)
    return found.masked_fill(torch.rand(found.shape, generator=generator) < 0.2, IGNORED)


def written_out(rows: Tensor, head: nn.Linear, targets: Tensor, count: Tensor | int | None) -> Tensor:
    """Return the loss by way of all logits at once."""
    total = functional.cross_entropy(head(rows).flatten(0, 1), targets.flatten(), reduction="sum")
    return total / ((targets != IGNORED).sum() if count is None else count)


@pytest.mark.parametrize("count", [None, 1000, torch.tensor(1000)], ids=["mean", "number", "tensor"])
@pytest.mark.parametrize("shifted", [False, True], ids=["labels", "shift_labels"])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_loss_and_gradients_are_those_of_all_logits(
    rows: Tensor, labels: Tensor, count: Any, shifted: bool, bias: bool
) -> None:
    head = nn.Linear(16, VOCABULARY, bias=bias).double()
    targets = labels if shifted else functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    inputs = (rows, *head.parameters())
    expected = written_out(rows, head, targets, count)
    expected_gradients = torch.autograd.grad(expected, inputs)
    found = head_loss.causal_lm_loss(
        rows, head, labels, shift_labels=targets if shifted else None, num_items_in_batch=count
    )
    gradients = torch.autograd.grad(found, inputs)
    torch.testing.assert_close((found, gradients), (expected, expected_gradients), rtol=0, atol=1e-12)


def test_rows_without_any_label_have_the_loss_that_transformers_gives_them(rows: Tensor) -> None:
    head = nn.Linear(16, VOCABULARY, bias=False).double()
    nothing = torch.full(rows.shape[:2], IGNORED)
    assert head_loss.causal_lm_loss(rows, head, nothing).isnan()
    assert head_loss.causal_lm_loss(rows, head, nothing, num_items_in_batch=7).item() == 0


@pytest.fixture
def training(make_model: MakeModel) -> InfiniLlamaForCausalLM:
    """Return a model in float32 that is being trained."""
    return make_model().float().train()


def step(model: InfiniLlamaForCausalLM, tokens: Tensor, **kwargs: Any) -> tuple[Tensor, list[Tensor]]:
    """Return the loss of a step and the gradients of all parameters."""
    loss = model(tokens, labels=tokens, use_cache=False, **kwargs).loss
    return loss, list(torch.autograd.grad(loss, list(model.parameters())))


def test_a_training_step_without_logits_is_the_one_with_them(
    training: InfiniLlamaForCausalLM, tokens: Tensor
) -> None:
    torch.testing.assert_close(step(training, tokens, skip_logits=True), step(training, tokens), rtol=0, atol=1e-6)


def test_a_loss_comes_without_logits_for_who_asks(training: InfiniLlamaForCausalLM, tokens: Tensor) -> None:
    assert training(tokens, labels=tokens, skip_logits=True).logits is None
    assert training.eval()(tokens, labels=tokens, skip_logits=True).logits is None


def test_logits_are_there_unless_somebody_asks_for_a_loss_without(
    training: InfiniLlamaForCausalLM, tokens: Tensor
) -> None:
    shape = (2, 29, VOCABULARY)
    assert training(tokens, skip_logits=True).logits.shape == shape
    assert training(tokens, labels=tokens).logits.shape == shape
    assert training.eval()(tokens, labels=tokens).logits.shape == shape


def test_a_head_that_somebody_hooked_is_called(training: InfiniLlamaForCausalLM, tokens: Tensor) -> None:
    seen = []
    training.lm_head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    training(tokens, labels=tokens, skip_logits=True)
    assert seen == [(2, 29, VOCABULARY)]


def test_a_head_that_somebody_replaced_is_called(training: InfiniLlamaForCausalLM, tokens: Tensor) -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    plain = training.lm_head
    training.lm_head = Doubled(plain.in_features, VOCABULARY, bias=False)
    training.lm_head.weight = plain.weight
    doubled = training(tokens, labels=tokens, skip_logits=True).loss
    with torch.no_grad():
        plain.weight *= 2
    training.lm_head = plain
    torch.testing.assert_close(doubled, training(tokens, labels=tokens, skip_logits=True).loss, rtol=0, atol=1e-5)


def test_a_loss_function_of_the_users_is_called(training: InfiniLlamaForCausalLM, tokens: Tensor) -> None:
    training.loss_function = lambda logits, labels, **_: logits.sum() * 0 + labels.sum()
    assert training(tokens, labels=tokens, skip_logits=True).loss == tokens.sum()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions_than_float32_and_bfloat16_go_by_way_of_logits(
    make_model: MakeModel, tokens: Tensor, dtype: torch.dtype
) -> None:
    assert make_model().to(dtype).train()(tokens, labels=tokens, skip_logits=True).logits.dtype == dtype


class LargestArray(TorchDispatchMode):
    """Notes the most numbers that any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in pytree.tree_leaves(result):
            self.numbers = max(self.numbers, x.numel() if isinstance(x, Tensor) else 0)
        return result


@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16", "autocast"])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_in_bfloat16_the_loss_is_that_of_all_logits_and_only_a_group_of_them_exists(
    rows: Tensor, labels: Tensor, autocast: bool, bias: bool
) -> None:
    torch.manual_seed(4)
    vocabulary, dtype = 997, torch.float32 if autocast else torch.bfloat16
    head, hidden = nn.Linear(16, vocabulary, bias=bias).to(dtype), rows.detach().to(dtype).requires_grad_()
    inputs = (hidden, *head.parameters())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert head_loss.can_skip_logits(head, ForCausalLMLoss, hidden)
        expected = ForCausalLMLoss(head(hidden), labels, vocabulary)
        with LargestArray() as largest:
            found = head_loss.causal_lm_loss(hidden, head, labels)
            gradients = torch.autograd.grad(found, inputs)
    assert largest.numbers <= head_loss._TOKENS * vocabulary < rows.shape[0] * rows.shape[1] * vocabulary
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    exact_head = copy.deepcopy(head).double()
    exact_hidden = hidden.detach().double().requires_grad_()
    targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    loss = written_out(exact_hidden, exact_head, targets, None)
    exact = torch.autograd.grad(loss, (exact_hidden, *exact_head.parameters()))
    for one, other, right in zip(gradients, torch.autograd.grad(expected, inputs), exact, strict=True):
        assert one.dtype == other.dtype
        # Both round to bfloat16 a few times, in another order.
        ours, theirs = ((x.double() - right).abs().max().item() for x in (one, other))
        assert ours < 2 * theirs < 0.1 * right.abs().max().item()


def test_a_step_in_autocast_without_logits_is_nearly_the_one_with_them(
    training: InfiniLlamaForCausalLM, tokens: Tensor
) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert training(tokens, labels=tokens, skip_logits=True).logits is None
        (found, ours), (expected, theirs) = (step(training, tokens, skip_logits=skip) for skip in (True, False))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    for one, other in zip(ours, theirs, strict=True):
        scale = max(other.abs().max().item(), 1e-6)
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=3e-2)


def test_a_torch_that_lacks_the_operation_goes_by_way_of_logits(
    training: InfiniLlamaForCausalLM, tokens: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it = training(tokens, labels=tokens, skip_logits=True).loss
    monkeypatch.delattr(functional, "linear_cross_entropy")
    without = training(tokens, labels=tokens, skip_logits=True)
    assert without.logits is not None
    torch.testing.assert_close(without.loss, with_it, rtol=0, atol=1e-6)
