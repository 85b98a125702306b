"""Writes the random checkpoint that `cargo xtask bench` measures with, in the Hugging Face layout.

    python tests/python/make_bench_model.py target/bench-model

A Qwen3 of 39,855,616 parameters (159 MB, float32): hidden 512, 8 layers, 8 query and 4 key-value heads of head_dim 64,
MLP 2048, vocabulary 8192, untied output, 4096 positions. Speed does not depend on what the weights say, so they are
the initial ones of seed 0. The tokenizer knows the words `t0` ... `t8191` and nothing else.
`--tiny` writes one of 2 layers, hidden 64 and the same vocabulary, to try the bench itself.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import tokenizers
import torch
import transformers

VOCAB = 8192


def word_tokenizer():
    vocabulary = {f"t{i}": i for i in range(VOCAB)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="t0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    size = dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8,
                num_key_value_heads=4, head_dim=64)
    if args.tiny:
        size = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = transformers.Qwen3Config(
        vocab_size=VOCAB, max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0), dtype="float32", **size)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)

    # written next to its place and renamed, so that an interrupted run leaves no half checkpoint
    args.folder.parent.mkdir(parents=True, exist_ok=True)
    partial = args.folder.with_name(args.folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    word_tokenizer().save(str(partial / "tokenizer.json"))
    shutil.rmtree(args.folder, ignore_errors=True)
    partial.rename(args.folder)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters in {args.folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
