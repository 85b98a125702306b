"""LoRA adapters trained by PyTorch and PEFT: tests/golden/training. Called by make_golden.py, which hands over its helpers."""

import json
import math

import peft
import torch
from torch.nn import functional

RANK, ALPHA, SITES = 4, 8, ["q_proj", "k_proj", "o_proj"]
PROMPTS, RESPONSES = [6, 11, 19], [1, 4, 7]  # tokens of each example
STEPS, RATE = 5, 1e-2


def write_adapter(tools, root, name):
    """A LoRA adapter with a non-zero B, saved by PEFT."""
    folder = root / "training" / name / "adapter"
    torch.manual_seed(0)
    base = tools.open_model(root / name, torch.float32)
    model = peft.get_peft_model(base, peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=SITES, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"))
    g = tools.generator("adapter of " + name)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "lora_" in key:
                noise = torch.randn(weight.shape, generator=g)
                weight.copy_(0.3 * noise if "lora_B" in key else noise / math.sqrt(weight.shape[1]))
    model.peft_config["default"].base_model_name_or_path = "../../../" + name
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # PEFT's empty model card
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = sorted(config["target_modules"])  # a Python set: its order changes from run to run
    tools.write_json(folder / "adapter_config.json", config)
    return folder


def open_adapted(tools, root, name, adapter):
    base = tools.open_model(root / name)
    base.requires_grad_(False)
    model = peft.PeftModel.from_pretrained(base, adapter, is_trainable=True).double().eval()
    weights = {key.replace(".default", ""): p for key, p in model.named_parameters() if "lora_" in key}
    assert all(p.dtype == torch.float64 and p.requires_grad for p in weights.values())
    return model, weights


def losses(tools, model, objective, examples, targets):
    """One loss per example; response activation t and the prediction of response token t sit at prompt - 1 + t."""
    out = []
    for ids, prompt, response, target in zip(examples, PROMPTS, RESPONSES, targets):
        values = tools.run(model, ids[None])
        at = slice(prompt - 1, prompt - 1 + response)
        if objective == "sft":
            out.append(functional.cross_entropy(values["logits"][0, at], ids[prompt:]))
        else:
            layers = tools.trunk(model).config.num_hidden_layers
            got = torch.stack([values[f"self_attn.{i}"][0, at] for i in range(layers)])  # [layer, token, hidden]
            out.append(functional.mse_loss(got, target) * layers)
    return torch.stack(out)


def write(tools, root, name):
    adapter = write_adapter(tools, root, name)
    examples = tools.random_examples("training " + name, [p + r for p, r in zip(PROMPTS, RESPONSES)])
    model, weights = open_adapted(tools, root, name, adapter)
    config = tools.trunk(model).config
    g = tools.generator("targets of " + name)
    targets = [torch.randn(config.num_hidden_layers, n, config.hidden_size, generator=g).float().double()
               for n in RESPONSES]

    golden = dict(
        input_ids=tools.pad(examples), lengths=torch.tensor([len(ids) for ids in examples]),
        prompt_lengths=torch.tensor(PROMPTS), response_lengths=torch.tensor(RESPONSES),
        # token before layer for padding, then [example, layer, token, hidden]
        targets=tools.pad([t.transpose(0, 1) for t in targets]).transpose(1, 2).float(),
        logits=tools.run_ragged(model, examples)["logits"].float(),
    )
    for objective in ("sft", "ia2"):
        model, weights = open_adapted(tools, root, name, adapter)
        optimiser = torch.optim.Adam(weights.values(), lr=RATE, betas=(0.9, 0.999), eps=1e-8)
        trajectory = []
        for step in range(STEPS):
            each = losses(tools, model, objective, examples, targets)
            optimiser.zero_grad()
            each.mean().backward()
            trajectory.append(each.mean().detach())
            if step == 0:
                golden[f"{objective}.example_losses"] = each.detach()
                golden |= {f"{objective}.gradient.{key}": p.grad.clone() for key, p in weights.items()}
            optimiser.step()
        with torch.no_grad():
            trajectory.append(losses(tools, model, objective, examples, targets).mean())
        golden[f"{objective}.losses"] = torch.stack(trajectory)
        golden |= {f"{objective}.after.{key}": p.detach().clone() for key, p in weights.items()}
        assert trajectory[-1] < trajectory[0], (name, objective, trajectory)
    tools.write_tensors(root / "training" / name / "golden.safetensors", golden)


def open_case(tools, root, name):
    """The adapted model with what the training cases teach it."""
    model, weights = open_adapted(tools, root, name, root / "training" / name / "adapter")
    targets = [torch.zeros(tools.trunk(model).config.num_hidden_layers, n, tools.trunk(model).config.hidden_size) for n in RESPONSES]
    return model, weights, tools.random_examples("training " + name, [p + r for p, r in zip(PROMPTS, RESPONSES)]), targets
