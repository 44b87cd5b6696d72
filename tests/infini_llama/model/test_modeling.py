from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from infini_llama import InfiniCache, InfiniLlamaConfig, InfiniLlamaForCausalLM
from infini_llama.model.rope import rotate
from tests.infini_llama.conftest import MakeModel, aligned
from tests.infini_llama.model import reference

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-9}
UPDATES = pytest.mark.parametrize("update", ["linear", "delta"])


def stock(model: InfiniLlamaForCausalLM) -> LlamaForCausalLM:
    """Return a stock Llama with the same weights."""
    config = {key: value for key, value in model.config.to_dict().items() if key in LlamaConfig().to_dict()}
    llama = LlamaForCausalLM(LlamaConfig(**config | {"model_type": "llama"})).double().eval()
    missing, unexpected = llama.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert all(name.endswith("self_attn.gate.bias") for name in unexpected)
    return llama


@UPDATES
def test_equals_the_literal_loop_over_heads_segments_and_queries(
    make_model: MakeModel, tokens: torch.Tensor, update: str
) -> None:
    model = make_model(memory_update=update)
    expected = torch.stack([reference.logits(model, row) for row in tokens])
    torch.testing.assert_close(model(tokens).logits, expected, **EXACT)


@UPDATES
def test_gradients_equal_those_of_the_literal_loop(
    make_model: MakeModel, tokens: torch.Tensor, update: str
) -> None:
    model = make_model(memory_update=update)
    model(tokens).logits.square().sum().backward()
    vectorised = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.stack([reference.logits(model, row) for row in tokens]).square().sum().backward()
    literal = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert vectorised.keys() == literal.keys() == dict(model.named_parameters()).keys()
    for name, gradient in literal.items():
        # Relative to the largest entry: gradients here reach 1e5.
        scale = float(gradient.abs().max())
        torch.testing.assert_close(vectorised[name] / scale, gradient / scale, **EXACT)


@pytest.mark.parametrize("length", [1, 5, 8])
def test_one_segment_equals_a_stock_llama_whatever_the_gates(
    make_model: MakeModel, tokens: torch.Tensor, length: int
) -> None:
    model = make_model()
    torch.testing.assert_close(model(tokens[:, :length]).logits, stock(model)(tokens[:, :length]).logits, **EXACT)


@UPDATES
def test_closed_gates_equal_a_llama_that_sees_one_segment_at_a_time(
    make_model: MakeModel, tokens: torch.Tensor, update: str
) -> None:
    model = make_model(memory_update=update)
    for layer in model.model.layers:
        torch.nn.init.constant_(layer.self_attn.gate.bias, float("-inf"))
    llama = stock(model)
    expected = torch.cat([llama(part).logits for part in tokens.split(8, dim=1)], dim=1)
    torch.testing.assert_close(model(tokens).logits, expected, **EXACT)


def test_an_open_gate_sees_the_segments_before(make_model: MakeModel, tokens: torch.Tensor) -> None:
    model, other = make_model(), tokens.clone()
    other[:, 3] = (other[:, 3] + 1) % 61
    difference = (model(tokens).logits - model(other).logits).abs().amax(dim=(0, 2))
    assert (difference[:3] == 0).all()
    assert (difference[3:] > 1e-6).all()


@UPDATES
@pytest.mark.parametrize("cuts", [[1, 28], [7, 1, 1, 20], [8, 8, 13], [3, 17, 9], [1] * 29])
def test_a_stream_cut_anywhere_equals_one_pass(
    make_model: MakeModel, tokens: torch.Tensor, update: str, cuts: list[int]
) -> None:
    model = make_model(memory_update=update)
    cache = InfiniCache(model.config.num_hidden_layers)
    parts = [model(part, past_key_values=cache).logits for part in tokens.split(cuts, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens).logits, **EXACT)


def test_rows_that_are_equally_far_are_laid_out_without_reading_a_value_back(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    """As a row of training without padding, a prompt, and every step after it: on a device that holds no values."""
    model, ids = make_model().to("meta"), tokens.to("meta")
    cache = InfiniCache(model.config.num_hidden_layers)
    for part in ids.split([13, *[1] * 16], dim=1):
        assert model(part, past_key_values=cache).logits.shape == (*part.shape, 61)
    cache.batch_repeat_interleave(3)
    assert model(ids[:1].expand(6, -1), past_key_values=cache).logits.shape == (6, 29, 61)
    with pytest.raises(RuntimeError, match="meta"):
        model(ids, attention_mask=torch.ones_like(ids))


@UPDATES
def test_gradients_flow_through_the_cache_as_through_one_pass(
    make_model: MakeModel, tokens: torch.Tensor, update: str
) -> None:
    model = make_model(memory_update=update)
    weight = model.model.layers[0].self_attn.k_proj.weight
    (whole,) = torch.autograd.grad(model(tokens).logits[:, -1].sum(), weight)
    cache = InfiniCache(model.config.num_hidden_layers)
    model(tokens[:, :11], past_key_values=cache)
    (cut,) = torch.autograd.grad(model(tokens[:, 11:], past_key_values=cache).logits[:, -1].sum(), weight)
    torch.testing.assert_close(cut, whole, **EXACT)


def test_a_loss_in_the_last_segment_reaches_the_first_through_the_memory(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    model = make_model(num_hidden_layers=1)
    embeddings = model.model.embed_tokens(tokens).detach().requires_grad_()
    model(inputs_embeds=embeddings).logits[:, -1].sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad[:, :8].abs().amax(dim=2) > 0).all()


def test_a_detached_cache_keeps_the_numbers_and_cuts_the_gradient(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    model = make_model()
    cache = InfiniCache(model.config.num_hidden_layers)
    embeddings = model.model.embed_tokens(tokens[:, :11]).detach().requires_grad_()
    model(inputs_embeds=embeddings, past_key_values=cache)
    cache.detach()
    logits = model(tokens[:, 11:], past_key_values=cache).logits
    torch.testing.assert_close(logits, model(tokens).logits[:, 11:], **EXACT)
    logits.sum().backward()
    assert embeddings.grad is None


@UPDATES
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_padded_row_equals_the_row_alone(
    make_model: MakeModel, tokens: torch.Tensor, update: str, side: str
) -> None:
    model = make_model(memory_update=update)
    row = tokens[0, :19]
    first = {"left": 10, "right": 0, "both": 4}[side]
    padded, mask = tokens.clone(), torch.ones_like(tokens)
    padded[0, first : first + 19] = row
    mask[0], mask[0, first : first + 19] = 0, 1
    logits = model(padded, attention_mask=mask).logits
    torch.testing.assert_close(logits[0, first : first + 19], model(row[None]).logits[0], **EXACT)
    torch.testing.assert_close(logits[1], model(tokens[1:]).logits[0], **EXACT)
    assert logits.isfinite().all()


@UPDATES
def test_a_short_row_beside_a_long_one_keeps_its_gradients_finite(
    make_model: MakeModel, tokens: torch.Tensor, update: str
) -> None:
    model = make_model(memory_update=update)
    mask = torch.ones_like(tokens)
    mask[0, 5:] = 0
    model(tokens, attention_mask=mask).logits[mask.bool()].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@UPDATES
@pytest.mark.parametrize("length", [5, 8, 13, 19])
def test_cached_generation_equals_recomputation(
    make_model: MakeModel, tokens: torch.Tensor, update: str, length: int
) -> None:
    model = make_model(memory_update=update)
    prompt = tokens[:, :length]
    generated = model.generate(prompt, max_new_tokens=21, do_sample=False, pad_token_id=0, eos_token_id=None)
    expected = prompt
    for _ in range(21):
        expected = torch.cat((expected, model(expected).logits[:, -1:].argmax(-1)), dim=1)
    assert generated.tolist() == expected.tolist()


@UPDATES
def test_left_padded_generation_equals_each_row_alone(
    make_model: MakeModel, tokens: torch.Tensor, update: str
) -> None:
    model = make_model(memory_update=update)
    prompt, mask = tokens[:, :13].clone(), torch.ones(2, 13, dtype=torch.long)
    prompt[0, :6], mask[0, :6] = 0, 0
    options: dict[str, Any] = {"max_new_tokens": 21, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    together = model.generate(prompt, attention_mask=mask, **options)
    alone = [model.generate(prompt[:1, 6:], **options), model.generate(prompt[1:], **options)]
    assert together[0, 6:].tolist() == alone[0][0].tolist()
    assert together[1].tolist() == alone[1][0].tolist()


def test_beam_search_with_the_cache_equals_beam_search_without(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    model = make_model()
    options: dict[str, Any] = {"max_new_tokens": 12, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    cached = model.generate(tokens[:, :13], use_cache=True, **options)
    assert cached.tolist() == model.generate(tokens[:, :13], use_cache=False, **options).tolist()


@UPDATES
def test_packed_documents_equal_each_document_alone(
    make_model: MakeModel, tokens: torch.Tensor, update: str
) -> None:
    model = make_model(memory_update=update)
    lengths = [11, 2, 16]
    documents = torch.repeat_interleave(torch.tensor([0, 1, 2]), torch.tensor(lengths)).expand(2, -1)
    expected = torch.cat([model(part).logits for part in tokens.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(model(tokens, document_ids=documents).logits, expected, **EXACT)


def test_packed_documents_may_be_cut_anywhere(make_model: MakeModel, tokens: torch.Tensor) -> None:
    model = make_model()
    documents = torch.stack((torch.arange(29) // 11, torch.arange(29) // 18))
    whole = model(tokens, document_ids=documents).logits
    for cut in range(1, 29):
        cache = InfiniCache(model.config.num_hidden_layers)
        parts = [
            model(tokens[:, piece], document_ids=documents[:, piece], past_key_values=cache).logits
            for piece in (slice(0, cut), slice(cut, None))
        ]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, **EXACT)


@pytest.mark.parametrize("lengths", [[11, 18], [5, 1, 12, 1, 1, 9], [1] * 29])
@pytest.mark.parametrize("use_cache", [False, True])
def test_position_ids_that_do_not_go_on_by_one_start_a_document_even_of_one_token(
    make_model: MakeModel, tokens: torch.Tensor, lengths: list[int], use_cache: bool
) -> None:
    model = make_model()
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    expected = torch.cat([model(part).logits for part in tokens.split(lengths, dim=1)], dim=1)
    packed = model(tokens, position_ids=positions, use_cache=use_cache).logits
    torch.testing.assert_close(packed, expected, **EXACT)


def test_packed_position_ids_part_documents_where_a_stock_llama_parts_them(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    """To 1e-6 only: the third document starts at 7 there and at 0 here, and angles are rounded to float32."""
    model = make_model(segment_length=32)
    positions = torch.tensor([[*range(3), 7, 8, 9, 0, 0, *range(21)]])
    packed, llama = (m(tokens, position_ids=positions, use_cache=False).logits for m in (model, stock(model)))
    torch.testing.assert_close(packed, llama, rtol=0, atol=1e-6)


def test_a_document_of_padding_in_between_changes_nothing(make_model: MakeModel, tokens: torch.Tensor) -> None:
    """Rows as the trainer makes them: each document is filled up to a whole number of segments."""
    model = make_model()
    mask, documents = torch.ones_like(tokens), torch.zeros_like(tokens)
    mask[:, 11:16], documents[:, 16:] = 0, 1
    logits = model(tokens, attention_mask=mask, document_ids=documents).logits
    torch.testing.assert_close(logits[:, :11], model(tokens[:, :11]).logits, **EXACT)
    torch.testing.assert_close(logits[:, 16:], model(tokens[:, 16:]).logits, **EXACT)


@UPDATES
def test_gradient_checkpointing_keeps_the_memory_and_the_gradients(
    make_model: MakeModel, tokens: torch.Tensor, update: str
) -> None:
    def gradient(model: InfiniLlamaForCausalLM) -> torch.Tensor:
        model.train()
        cache = InfiniCache(model.config.num_hidden_layers)
        model(tokens[:, :11], past_key_values=cache)
        loss = model(tokens[:, 11:], past_key_values=cache).logits.square().mean()
        (result,) = torch.autograd.grad(loss, model.model.layers[0].self_attn.v_proj.weight)
        return result

    plain = gradient(make_model(memory_update=update))
    model = make_model(memory_update=update)
    model.activation_checkpointing_enable()
    torch.testing.assert_close(gradient(model), plain, **EXACT)


def test_checkpointing_that_would_lose_the_memorys_gradient_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="would lose the memory's gradient"):
        make_model().activation_checkpointing_enable({"use_reentrant": True})


def test_the_memory_stays_in_float32_under_autocast(tokens: torch.Tensor) -> None:
    model = InfiniLlamaForCausalLM(
        InfiniLlamaConfig(
            vocab_size=61,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            segment_length=8,
        )
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cache = model(tokens).past_key_values
    state = cache.layers[0].state
    assert state.memory.matrix.dtype == state.memory.normaliser.dtype == torch.float32
    assert state.keys.dtype == torch.bfloat16


def test_eager_attention_equals_sdpa(make_model: MakeModel, tokens: torch.Tensor) -> None:
    """To 1e-5 only: the eager softmax of transformers is computed in float32."""
    model = make_model()
    mask = torch.ones_like(tokens)
    mask[0, :7] = 0
    expected = model(tokens, attention_mask=mask).logits[mask.bool()]
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(tokens, attention_mask=mask).logits[mask.bool()], expected, rtol=0, atol=1e-5)


def block_diagonal(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return `(heads, T, T)` from `(heads, t, t)` of consecutive tokens."""
    return torch.stack([torch.block_diag(*heads) for heads in zip(*blocks, strict=True)])


def test_hidden_states_and_attentions_by_row_are_returned_on_request(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    """Of the first layer, whose input no memory has touched, each segment's are those of a stock Llama."""
    model = make_model()
    llama = stock(model)
    for each in (model, llama):
        each.set_attn_implementation("eager")
    output = model(tokens, output_hidden_states=True, output_attentions=True)
    assert [tuple(h.shape) for h in output.hidden_states] == [(2, 29, 32)] * 3
    assert [tuple(a.shape) for a in output.attentions] == [(2, 4, 29, 29)] * 2
    for row, found in zip(tokens, output.attentions[0], strict=True):
        parts = [llama(part[None], output_attentions=True).attentions[0][0] for part in row.split(8)]
        torch.testing.assert_close(found, block_diagonal(parts), rtol=0, atol=1e-6)
    assert model(tokens).attentions is None


def test_attentions_of_padded_rows_packed_documents_and_streams_are_those_of_the_tokens_alone(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    model = make_model()
    model.set_attn_implementation("eager")

    def attentions(ids: torch.Tensor, **options: Any) -> torch.Tensor:
        found: torch.Tensor = model(ids, output_attentions=True, **options).attentions[0]
        return found

    mask = torch.ones_like(tokens)
    mask[0, :6] = 0
    found = attentions(tokens, attention_mask=mask)
    assert found[0, :, 6:, :6].eq(0).all()
    torch.testing.assert_close(found[0, :, 6:, 6:], attentions(tokens[:1, 6:])[0], **EXACT)
    documents = (torch.arange(29) >= 11).long().expand(2, -1)
    parts = [attentions(part)[1] for part in tokens.split([11, 18], dim=1)]
    torch.testing.assert_close(attentions(tokens, document_ids=documents)[1], block_diagonal(parts), **EXACT)
    cache = InfiniCache(model.config.num_hidden_layers)
    model(tokens[:, :11], past_key_values=cache)
    # Eight of the first eleven tokens are in the memory; three are carried on.
    stream = attentions(tokens[:, 11:], past_key_values=cache)
    torch.testing.assert_close(stream, attentions(tokens)[:, :, 11:, 8:], **EXACT)


def test_survives_saving_and_loading_by_the_auto_class(
    make_model: MakeModel, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model = make_model(memory_update="delta")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert isinstance(loaded, InfiniLlamaForCausalLM)
    assert loaded.config.segment_length == 8
    assert torch.equal(aligned(loaded)(tokens).logits, model(tokens).logits)


def test_a_fresh_models_queries_and_keys_have_variance_one_and_all_else_is_as_llamas(
    make_model: MakeModel,
) -> None:
    model = make_model(hidden_size=256, initializer_range=0.02)
    hidden = torch.randn(500, 256, dtype=torch.float64)
    attention = model.model.layers[0].self_attn
    assert [round(p(hidden).std().item(), 1) for p in (attention.q_proj, attention.k_proj)] == [1.0, 1.0]
    assert round(attention.v_proj.weight.std().item(), 3) == 0.02


def test_embeddings_are_dropped_in_training_only(make_model: MakeModel, tokens: torch.Tensor) -> None:
    model = make_model(embedding_dropout=0.5)
    assert torch.equal(model(tokens).logits, model(tokens).logits)
    model.train()
    assert not torch.equal(model(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_embedding_dropout_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(
        StrictDataclassClassValidationError, match="embedding_dropout must be at least 0 and below 1"
    ):
        InfiniLlamaConfig(embedding_dropout=share)


@pytest.mark.parametrize("spread", [-0.1, 17.0])
def test_a_spread_that_is_out_of_range_is_refused(spread: float) -> None:
    with pytest.raises(StrictDataclassClassValidationError, match=r"memory_write_spread must be from 0 to 16\.0"):
        InfiniLlamaConfig(memory_write_spread=spread)


@pytest.mark.parametrize("memory_update", ["linear", "delta"])
def test_in_training_each_segment_is_written_as_often_as_was_drawn(
    make_model: MakeModel, tokens: torch.Tensor, memory_update: str
) -> None:
    """The literal loop, with the numbers that the model will draw; in evaluation, and without a spread, all are 1."""
    spread, segments = 3.0, 4
    model = make_model(memory_update=memory_update, memory_write_spread=spread, num_hidden_layers=1)
    row = tokens[:1]
    torch.testing.assert_close(model(row).logits[0], reference.logits(model, row[0]), rtol=0, atol=1e-9)
    torch.manual_seed(5)
    times = torch.empty(segments, dtype=torch.float64).uniform_(-spread, spread).exp()
    assert times.max() > 5 * times.min()
    torch.manual_seed(5)
    trained = model.train()(row).logits[0]
    torch.testing.assert_close(trained, reference.logits(model, row[0], times=times.tolist()), rtol=0, atol=1e-9)
    assert (trained - reference.logits(model, row[0])).abs().max() > 1e-3


def test_a_spread_that_is_handed_over_stands_for_the_configured_one_in_training(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    model, plain = make_model(memory_write_spread=3.0), make_model()
    handed = torch.tensor(3.0)
    assert torch.equal(plain(tokens, write_spread=handed).logits, plain(tokens).logits)
    logits = []
    for trained, options in (
        (model, {}),
        (plain, {"write_spread": handed}),
        (model, {"write_spread": handed / 2}),
    ):
        torch.manual_seed(5)
        logits.append(trained.train()(tokens, **options).logits)
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])


def test_a_llama_checkpoint_lacks_exactly_the_gates(
    make_model: MakeModel, tokens: torch.Tensor, tmp_path: Path
) -> None:
    llama = stock(make_model())
    llama.save_pretrained(tmp_path)
    config = InfiniLlamaConfig(
        **llama.config.to_dict() | {"model_type": "infini_llama"}, segment_length=8, gate_init=-1.5
    )
    model, info = InfiniLlamaForCausalLM.from_pretrained(
        tmp_path, config=config, dtype=torch.float64, output_loading_info=True
    )
    assert sorted(info["missing_keys"]) == [f"model.layers.{i}.self_attn.gate.bias" for i in range(2)]
    assert not info["unexpected_keys"]
    assert [layer.self_attn.gate.bias.tolist() for layer in model.model.layers] == [[-1.5] * 4] * 2
    torch.testing.assert_close(model(tokens[:, :8]).logits, llama(tokens[:, :8]).logits, **EXACT)


def test_another_models_cache_is_refused(make_model: MakeModel, tokens: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="expected an InfiniCache, which holds a memory, found DynamicCache"):
        make_model()(tokens, past_key_values=DynamicCache())


def test_a_four_dimensional_mask_is_refused(make_model: MakeModel, tokens: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected attention_mask of shape \(2, 29 or more\).*by document_ids"):
        make_model()(tokens, attention_mask=torch.ones(2, 1, 29, 29))


@pytest.mark.parametrize("kind", ["static", "offloaded", "quantized"])
def test_other_kinds_of_cache_are_refused_in_generation(
    make_model: MakeModel, tokens: torch.Tensor, kind: str
) -> None:
    with pytest.raises(ValueError, match=f"expected no cache_implementation, found '{kind}'"):
        make_model().generate(tokens, cache_implementation=kind, max_new_tokens=2)


@pytest.mark.parametrize("options", [{"prompt_lookup_num_tokens": 3}, {"assistant_model": True}])
def test_assisted_decoding_is_refused_since_the_memory_takes_nothing_back(
    make_model: MakeModel, tokens: torch.Tensor, options: dict[str, Any]
) -> None:
    model = make_model()
    if "assistant_model" in options:
        options = {"assistant_model": stock(model)}
    with pytest.raises(ValueError, match="not supported with stateful models"):
        model.generate(tokens[:1], max_new_tokens=4, **options)


def test_continuous_batching_is_refused(make_model: MakeModel, tokens: torch.Tensor) -> None:
    with pytest.raises(NotImplementedError, match="pages keys and values of all tokens"):
        make_model().generate_batch([row.tolist() for row in tokens])


def test_lengths_for_flash_attention_beside_position_ids_change_nothing_and_alone_are_refused(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    model = make_model()
    lengths = {"cu_seq_lens_q": torch.tensor([0, 11, 29]), "max_length_q": 18}
    positions = torch.cat((torch.arange(11), torch.arange(18)))[None]
    expected = model(tokens, position_ids=positions).logits
    assert torch.equal(model(tokens, position_ids=positions, **lengths).logits, expected)
    with pytest.raises(ValueError, match="found cu_seq_lens_q alone"):
        model(tokens, **lengths)


def test_the_state_does_not_grow_with_the_stream(make_model: MakeModel) -> None:
    model = make_model()

    def numbers_held(length: int) -> int:
        cache = model(torch.ones(1, length, dtype=torch.long)).past_key_values
        return sum(x.numel() for layer in cache.layers for x in (*layer.state.memory, *layer.state[1:]))

    assert numbers_held(8 * 100 + 3) == numbers_held(8 + 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rope_and_its_gradient_are_to_the_bit_those_of_transformers(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(2, 2, 3, 40, 16, dtype=dtype, generator=generator)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    angles = torch.rand(2, 40, 8, dtype=dtype, generator=generator).repeat(1, 1, 2) * 6
    cos, sin = angles.cos(), angles.sin()
    expected, _ = apply_rotary_pos_emb(theirs, theirs, cos, sin)  # type: ignore[no-untyped-call]
    found = rotate(ours, cos, sin)
    assert torch.equal(found, expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
