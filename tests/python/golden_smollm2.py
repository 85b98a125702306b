"""Writes tests/data/smollm2_ia2.json: the loss of IA2 on the real model SmolLM2-135M-Instruct, and its gradients, from transformers and PEFT.

    OMP_NUM_THREADS=1 python tests/python/golden_smollm2.py .ia2/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

In float64, one example. The LoRA adapter and the targets are waves that the test makes again from their formulas (`wave`), so that nothing large
is stored; of each gradient its norm and its product with a wave are.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import golden_families
import golden_family_steps
import make_golden  # noqa: F401  (lifts casts of transformers)
import peft
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

RANK, ALPHA = 2, 4.0
PROMPT, RESPONSE = "Text: a warm and funny film\nLabel:", " positive\nText: dull from the first minute"


def wave(shape, frequency, phase, size):
    """`size sin(frequency i + phase)` at the i-th number, rounded to float32."""
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (size * (frequency * places + phase).sin()).float().double().view(shape)


def main(file):
    torch.set_num_threads(1)
    file = pathlib.Path(file).resolve()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float64, attn_implementation="eager").eval()
    golden_family_steps.angles_in_float64(model)
    model.requires_grad_(False)
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "k_proj", "o_proj"], task_type="CAUSAL_LM")).double().eval()
    weights = {key.replace(".default", "").removeprefix("base_model.model."): p for key, p in model.named_parameters() if "lora_" in key}
    with torch.no_grad():
        for index, (key, weight) in enumerate(sorted(weights.items())):
            weight.copy_(wave(weight.shape, 7.31, index, 0.06 if "lora_A" in key else 0.03))
    prompt, response = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (PROMPT, RESPONSE))
    layers, hidden = model.config.num_hidden_layers, model.config.hidden_size
    targets = wave((layers, len(response), hidden), 0.37, 1.0, 0.2)
    values = {}
    for i, layer in enumerate(golden_families.layers_of(model)):
        layer.self_attn.register_forward_hook(lambda _m, _i, output, i=i: values.__setitem__(i, output[0]))
    golden_families.logits_of(model, torch.tensor([prompt + response]))
    at = slice(len(prompt) - 1, len(prompt) - 1 + len(response))
    loss = functional.mse_loss(torch.stack([values[i][0, at] for i in range(layers)]), targets) * layers
    loss.backward()
    gradients = {key: [weight.grad.norm().item(), (weight.grad * wave(weight.shape, 0.11, 0.0, 1.0)).sum().item()]
                 for key, weight in sorted(weights.items())}
    out = pathlib.Path(__file__).resolve().parents[1] / "data" / "smollm2_ia2.json"
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps([float(f'{value:.10g}') for value in pair])}" for key, pair in gradients.items())
    out.write_text(f'{{"prompt": {json.dumps(prompt)}, "response": {json.dumps(response)}, "loss": {loss.item():.12g}, '
                   f'"gradients": {{\n{rows}\n}}}}\n')


if __name__ == "__main__":
    main(sys.argv[1])
