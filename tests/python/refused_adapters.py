"""Adapters that PEFT writes and this library does not support, and some that it must open: `refused_adapters.py CHECKPOINT FOLDER`.

One folder per case. `tests/adapters/peft.rs` opens each and reads what it says (`IA2_TEST_PYTHON`); the keys and settings there are those
found here.
"""

import sys
import warnings
from pathlib import Path

import peft
import torch
import transformers

warnings.simplefilter("ignore")
SITES = ["q_proj", "down_proj"]


def lora(**settings):
    return peft.LoraConfig(**(dict(r=2, lora_alpha=4, target_modules=SITES) | settings), task_type="CAUSAL_LM")


# name -> (settings, arguments of save_pretrained)
CASES = {
    "plain": (lambda: lora(), {}),
    "tying_without_need": (lambda: lora(ensure_weight_tying=True), {}),
    "lm_head": (lambda: lora(target_modules=SITES + ["lm_head"]), {"save_embedding_layers": False}),
    "lm_head_alone": (lambda: lora(target_modules=["lm_head"]), {"save_embedding_layers": False}),
    "lm_head_as_peft_saves_it": (lambda: lora(target_modules=SITES + ["lm_head"]), {}),
    "lm_head_tied": (lambda: lora(target_modules=SITES + ["lm_head"], ensure_weight_tying=True), {"save_embedding_layers": False}),
    "embedding": (lambda: lora(target_modules=SITES + ["embed_tokens"]), {"save_embedding_layers": False}),
    "embeddings_saved": (lambda: lora(), {"save_embedding_layers": True}),
    "modules_to_save": (lambda: lora(modules_to_save=["lm_head"]), {}),
    "modules_to_save_tied": (lambda: lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True), {}),
    "layer_replication": (lambda: lora(layer_replication=[[0, 2], [1, 3]]), {}),
    "tokens": (lambda: lora(trainable_token_indices=[3, 5]), {}),
    "bias": (lambda: lora(bias="lora_only"), {}),
    "pickle": (lambda: lora(), {"safe_serialization": False}),
    "ia3_lm_head": (lambda: peft.IA3Config(target_modules=["k_proj", "lm_head"], feedforward_modules=[], task_type="CAUSAL_LM"), {}),
}


def main(checkpoint, folder):
    for name, (config, arguments) in CASES.items():
        torch.manual_seed(0)
        base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        try:
            peft.get_peft_model(base, config()).save_pretrained(Path(folder) / name, **arguments)
        except Exception as error:  # a case that this PEFT does not know says so and is not there
            print(f"{name}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
