"""The Hub of the programs: ``python -m tests.programs.repos DIR``, in their environment.

What the libraries themselves write: a Llama of a few thousand numbers with its tokenizer, a model of pictures, a
diffusion pipeline, a GGUF file, and datasets of a few rows.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import gguf
import torch
from datasets import Dataset, Features, Image, Value
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image as Pictures
from transformers import LlamaForCausalLM

from tests.matrix.repos import causal_models, embedder, processors, tokenizers

# Name in transformers -> name in a GGUF file, of a Llama's layer 0 and of the whole.
_TENSORS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(model: LlamaForCausalLM, path: Path) -> None:
    """Write a Llama as a GGUF file, with the keys that transformers reads."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    for name, tensor in model.state_dict().items():
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            known = f"blk.{layer}.{_TENSORS[part]}"
        else:
            known = _TENSORS[stem]
        writer.add_tensor(f"{known}.weight", tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


SCALING = """
import torch
from sentence_transformers.base.modules import Module


class Scaling(Module):
    \"\"\"Multiplies an embedding by a number that is learned.\"\"\"

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, features, **options):
        return {**features, "sentence_embedding": features["sentence_embedding"] * self.scale}

    def save(self, path, *arguments, **options):
        pass

    @classmethod
    def load(cls, *arguments, **options):
        return cls()
"""


def scaled_embedder(root: Path) -> None:
    """A sentence-transformers model whose last module is Python of its own repo."""
    embedder(root)
    folder = root / "org/scaled"
    (root / "org/embedder").rename(folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": len(modules), "name": "scaling", "path": "", "type": "scaling.Scaling"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "scaling.py").write_text(SCALING)


def diffusion(root: Path) -> None:
    """A pipeline that draws eight pixels by eight."""
    unet = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=4)).save_pretrained(root / "org/diffusion")


def datasets(root: Path) -> None:
    """Texts to train on, questions to evaluate with, and pictures in Parquet."""
    rows = {
        "org/texts": [{"text": "the quick brown fox jumps over the lazy dog"}] * 8,
        "org/questions": [
            {"question": "the quick brown", "answer": "fox"},
            {"question": "the lazy", "answer": "dog"},
        ],
        "org/pairs": [{"anchor": "the quick brown", "positive": "fox"}, {"anchor": "the lazy", "positive": "dog"}],
    }
    for name, lines in rows.items():
        folder = root / "datasets" / name
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    picture = io.BytesIO()
    Pictures.new("RGB", (8, 8), "red").save(picture, "PNG")
    folder = root / "datasets/org/photos"
    folder.mkdir(parents=True)
    row = {"image": [{"bytes": picture.getvalue(), "path": None}], "caption": ["the fox"]}
    features = Features({"image": Image(), "caption": Value("string")})
    Dataset.from_dict(row, features=features).to_parquet(folder / "train.parquet")


def build(root: Path) -> None:
    """Write all repos below `root`."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for part in (causal_models, tokenizers, processors, scaled_embedder, diffusion, datasets):
        part(root)
    (root / "hub.yaml").write_text("version: 1\nrenames: {old-tiny: org/tiny}\n")
    (root / "org/gguf").mkdir()
    write_gguf(LlamaForCausalLM.from_pretrained(root / "org/tiny"), root / "org/gguf/tiny.gguf")
    (root / "org/gguf/other.gguf").write_bytes(b"GGUF")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
