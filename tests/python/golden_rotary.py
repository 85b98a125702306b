"""The rotary angles of transformers, as golden files: frequencies, and cosines and sines far into a context.

`make_golden.py` calls `write`; `python golden_rotary.py FILE` writes this one file alone.
"""

import sys

import safetensors.torch
import torch
from transformers import LlamaConfig, Qwen3Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
# name -> (config, embedding, head_dim, rope_parameters)
CASES = {
    "llama3_32": (LlamaConfig, LlamaRotaryEmbedding, 64, dict(LLAMA3, factor=32.0)),
    "llama3_8": (LlamaConfig, LlamaRotaryEmbedding, 128, dict(LLAMA3, factor=8.0)),
    "qwen3": (Qwen3Config, Qwen3RotaryEmbedding, 128, dict(rope_type="default", rope_theta=1e6)),
    "plain": (LlamaConfig, LlamaRotaryEmbedding, 80, dict(rope_type="default", rope_theta=1e4)),
    "linear": (LlamaConfig, LlamaRotaryEmbedding, 64, dict(rope_type="linear", rope_theta=1e4, factor=3.0)),
}
POSITIONS = [0, 1, 600, 6001, 40959, 131071]


def rotary():
    tensors = {"positions": torch.tensor(POSITIONS)}
    for name, (config, embedding, head_dim, parameters) in CASES.items():
        settings = config(hidden_size=4 * head_dim, num_attention_heads=4, head_dim=head_dim, max_position_embeddings=131072,
                          rope_parameters=parameters)
        module = embedding(settings)
        cos, sin = module(torch.zeros(1), tensors["positions"].unsqueeze(0))
        half = head_dim // 2
        assert torch.equal(cos[..., :half], cos[..., half:])
        tensors |= {f"{name}.frequencies": module.inv_freq, f"{name}.cos": cos[0, :, :half], f"{name}.sin": sin[0, :, :half]}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def write(path, write_tensors):
    write_tensors(path, rotary())


if __name__ == "__main__":
    safetensors.torch.save_file(rotary(), sys.argv[1])
