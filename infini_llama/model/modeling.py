"""Infini-Llama: a Llama whose attention keeps a compressive memory from segment to segment (arXiv 2404.07143).

The difference from Llama is in `infini_llama.model.attention`; the code here passes a `SegmentLayout` and layer states
to it.

Rule book:

* with an empty memory the output is local attention alone, so one segment gives the same as a stock Llama, whatever the
  gates;
* M and z are in float32 (float64 for a float64 model) under any autocast;
* RoPE positions count from the start of the segment, so a stream may have any length; only differences of positions
  matter;
* `position_ids` are not used as positions: as in transformers' packed rows, they show where documents start.

Not supported: tensor and pipeline parallel plans; flex attention; a mask that is not `(rows, tokens)`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaMLP,
    LlamaModel,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from infini_llama.model.attention import InfiniLlamaAttention, local_mask
from infini_llama.model.cache import InfiniCache, LayerState
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.gate import NEW_GATE, OLD_GATE, MemoryGate
from infini_llama.model.head_loss import can_skip_logits, causal_lm_loss
from infini_llama.model.inputs import (
    check_cache,
    check_export,
    check_generation,
    take_columns,
    take_documents,
    take_position,
)
from infini_llama.model.position import StreamPosition
from infini_llama.model.rope import Rotation
from infini_llama.model.segments import SegmentLayout


class InfiniLlamaDecoderLayer(LlamaDecoderLayer):
    """A Llama block with `InfiniLlamaAttention`; a function from state to state."""

    def __init__(self, config: InfiniLlamaConfig, layer_idx: int) -> None:
        # Skip LlamaDecoderLayer.__init__, which would build an attention that is not used.
        super(LlamaDecoderLayer, self).__init__()
        self.hidden_size = config.hidden_size
        self.self_attn = InfiniLlamaAttention(config, layer_idx)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> tuple[Tensor, LayerState | None]:  # type: ignore[override]
        """Return the block's output `(B, T, hidden_size)` and new state; takes the arguments of the attention."""
        attended, _, state = self.self_attn(self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states)), state


class InfiniLlamaPreTrainedModel(LlamaPreTrainedModel):
    """The properties of all Infini-Llama models that transformers asks for."""

    config_class = InfiniLlamaConfig
    config: InfiniLlamaConfig
    _no_split_modules = ["InfiniLlamaDecoderLayer"]  # noqa: RUF012  (the base class declares them so)
    _supports_flex_attn = False
    _can_compile_fullgraph = False
    # Makes transformers refuse assisted decoding: what was written to the memory cannot be removed.
    _is_stateful = True
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": InfiniLlamaDecoderLayer,
        "attentions": InfiniLlamaAttention,
    }

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # For custom code the base class skips modules without parameters of their own, such as the attention, because
        # custom code may overwrite loaded parameters. `_init_weights` here does not overwrite them.
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, MemoryGate):
            init.constant_(module.bias, self.config.gate_init)
        if isinstance(module, InfiniLlamaAttention):
            # Start queries and keys at variance 1; Llama's own range gives that only for wide models. Near 0, sigma is
            # 1 for all of them: all keys read and write the same, the delta rule exactly removes all earlier segments,
            # and there is no gradient that would change this.
            std = max(self.config.initializer_range, self.config.hidden_size**-0.5)
            init.normal_(module.q_proj.weight, std=std)
            init.normal_(module.k_proj.weight, std=std)

    @classmethod
    def from_pretrained(cls, *args: Any, key_mapping: dict[str, str] | None = None, **kwargs: Any) -> Any:
        """Load a model as any transformers model; also one of version 0.1.0, whose gates had another name."""
        return super().from_pretrained(*args, key_mapping={OLD_GATE: NEW_GATE} | (key_mapping or {}), **kwargs)

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recompute layers in the backward pass; arguments as for any transformers model.

        Raises:
            ValueError: Reentrant checkpointing is asked for, which has no gradient for the state between calls.
        """
        options = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        if options["use_reentrant"]:
            raise ValueError(
                "reentrant checkpointing would lose the memory's gradient; set use_reentrant to False"
            )
        super().activation_checkpointing_enable(options, every_n_layers, offload)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Return False, so that `generate` does not make a cache of its own, which has no memory."""
        return False


class InfiniLlamaModel(InfiniLlamaPreTrainedModel, LlamaModel):
    """The decoder without its head."""

    def __init__(self, config: InfiniLlamaConfig) -> None:
        # Skip LlamaModel.__init__, which would build layers that are not used.
        super(LlamaModel, self).__init__(config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(InfiniLlamaDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()  # type: ignore[no-untyped-call]

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: InfiniCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        document_ids: Tensor | None = None,
        share_segments: bool = False,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder over `(B, T)` more tokens.

        Args:
            input_ids: `(B, T)` tokens; give either these or `inputs_embeds`.
            attention_mask: `(B, T)`, or with further columns in front for earlier tokens; 0 for padding, on any side.
            position_ids: `(B or 1, T)`, as `generate` and padding-free collators give them; see
                `infini_llama.model.inputs`.
            past_key_values: The state of the stream so far; it is advanced. It is used under gradient checkpointing
                too, and gradients flow into it unless it was detached.
            inputs_embeds: `(B, T, hidden_size)` instead of `input_ids`.
            use_cache: Whether to return a state if none was given.
            document_ids: `(B, T)`, non-negative. Where they change, the memory is emptied and a new segment starts.
            share_segments: Whether it starts inside the running segment instead; T must then be whole segments.
            output_attentions: Whether to return the local attention's weights, `(B, heads, T, R + T)` per layer; only
                the eager implementation has them.
            **kwargs: For the attention: `row_share` where other ranks hold other segments of the rows, `write_spread`.

        Raises:
            ValueError: Both or neither of `input_ids` and `inputs_embeds` are given; mask or documents have another
                shape; or a share of rows is to keep a state.
            TypeError: `past_key_values` is the cache of another model.
        """
        hidden_states = self._embed(input_ids, inputs_embeds)
        check_export(attention_mask=attention_mask, position_ids=position_ids, document_ids=document_ids)
        given = check_cache(past_key_values)
        document_ids = take_documents(document_ids, position_ids, attention_mask, given, kwargs)
        cache = InfiniCache(len(self.layers)) if given is None and use_cache else given
        before = take_position(hidden_states, cache, kwargs.get("row_share"))
        layout = self._lay_out(hidden_states, before, attention_mask, document_ids, share_segments)
        rotation = Rotation(self.rotary_emb, layout, hidden_states)
        mask = local_mask(layout, hidden_states.shape[1], self.config._attn_implementation, hidden_states.dtype)
        states: list[Any] = []
        for index, layer in enumerate(self.layers):
            hidden_states, state = layer(
                hidden_states,
                layout=layout,
                rotation=rotation,
                local_mask=mask,
                state=None if cache is None else cache.layers[index].state,
                keep_state=cache is not None,
                want_weights=self.config.output_attentions if output_attentions is None else output_attentions,
                **kwargs,
            )
            states.append(state)
        if cache is not None:
            cache.advance(states, layout.after, hidden_states.shape[1])
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), past_key_values=cache)

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Return the input of the first layer, `(B, T, hidden_size)`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected exactly one of input_ids and inputs_embeds")
        embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return nn.functional.dropout(embedded, self.config.embedding_dropout, self.training)

    def _lay_out(
        self,
        hidden_states: Tensor,
        before: StreamPosition,
        mask: Tensor | None,
        documents: Tensor | None,
        share: bool,
    ) -> SegmentLayout:
        """Return the layout of the tokens; mask and documents are the caller's."""
        rows, tokens = hidden_states.shape[:2]
        return SegmentLayout.build(
            self.config.segment_length,
            before,
            tokens,
            mask=take_columns(mask, "attention_mask", rows, tokens),
            documents=take_columns(documents, "document_ids", rows, tokens),
            share=share,
        )


class InfiniLlamaForCausalLM(InfiniLlamaPreTrainedModel, LlamaForCausalLM):
    """Infini-Llama with a language-model head: trains, generates, saves and loads as any transformers model."""

    def __init__(self, config: InfiniLlamaConfig) -> None:
        # Skip LlamaForCausalLM.__init__, which would build a Llama that is not used.
        super(LlamaForCausalLM, self).__init__(config)
        self.model = InfiniLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def _validate_generation_mode(self, generation_mode: Any, generation_config: Any, options: Any) -> None:
        check_generation(generation_config.cache_implementation)
        super()._validate_generation_mode(generation_mode, generation_config, options)  # type: ignore[misc]

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse continuous batching: it needs the keys and values of all tokens, which are not kept here.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "continuous batching pages keys and values of all tokens, and an Infini-Llama keeps only a memory and one "
            "segment; use `generate`, whose rows may differ in length (left padding)"
        )

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: InfiniCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        document_ids: Tensor | None = None,
        skip_logits: bool = False,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the model over `(B, T)` more tokens; see `InfiniLlamaModel.forward` for shapes and errors.

        Args:
            input_ids: Tokens.
            attention_mask: 0 for padding.
            position_ids: They show where documents start.
            past_key_values: The state of the stream so far.
            inputs_embeds: Embeddings instead of tokens.
            labels: `(B, T)`, the tokens themselves, -100 where no token is to be predicted; if given, the loss is
                computed.
            use_cache: Whether to return a state.
            logits_to_keep: For how many of the last tokens, or for which, to compute logits; 0 for all.
            document_ids: The document of each token.
            skip_logits: With `labels`: leave `logits` None if the loss can be computed without them, in less time and
                memory (see `infini_llama.model.head_loss`). Our trainer sets it; other training loops read the logits.
            output_attentions: Whether to return the local attention's weights.
            **kwargs: `shift_labels` and `num_items_in_batch` for the loss; `share_segments`; others for the local
                attention.
        """
        if output_attentions is not None:
            # Passed on only if given: None would override the configuration's value.
            kwargs["output_attentions"] = output_attentions
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            document_ids=document_ids,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        hidden_states = outputs.last_hidden_state[:, kept]

        loss, logits = self._compute_loss(hidden_states, labels, skip_logits, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _compute_loss(
        self, hidden_states: Tensor, labels: Tensor | None, skip_logits: bool, **kwargs: Any
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the loss, or None without labels; and the logits, or None if they can be skipped."""
        if labels is not None and skip_logits and can_skip_logits(self.lm_head, self.loss_function, hidden_states):
            return causal_lm_loss(hidden_states, self.lm_head, labels, **kwargs), None
        logits = self.lm_head(hidden_states)
        if labels is None:
            return None, logits
        loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return loss, logits


AutoConfig.register("infini_llama", InfiniLlamaConfig, exist_ok=True)
AutoModel.register(InfiniLlamaConfig, InfiniLlamaModel, exist_ok=True)
AutoModelForCausalLM.register(InfiniLlamaConfig, InfiniLlamaForCausalLM, exist_ok=True)
