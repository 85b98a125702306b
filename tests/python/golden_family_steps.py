"""Objectives and AdamW on three families that differ most: `families/<case>/steps`. Called by golden_families.py.

`adapter/` is PEFT's LoRA on the family's own modules. `golden.safetensors` holds, all in float64 with float64 rotary angles: random
targets at every attention output, and for IA2 and SFT the loss of each example, the gradient of their mean in every LoRA tensor, the losses
along five AdamW steps and the tensors after them.
"""

import math

import peft
import torch
from torch.nn import functional

import golden_adapters

PROMPTS, RESPONSES = [5, 9, 14], [1, 4, 6]  # tokens of each example
STEPS, RATE, DECAY = 5, 1e-2, 0.1
SITES = {"gpt2": ["c_attn", "attn.c_proj", "c_fc"], "gpt_neox": ["query_key_value", "dense", "dense_h_to_4h"],
         "gemma3_text": ["q_proj", "k_proj", "o_proj", "gate_proj"]}
FLOAT32_TOLERANCE = 1.2e-5
DRAWS = 40


def angles_in_float64(model):
    """As golden_objectives.rotary_in_float64, for one embedding or one per kind of layer, perhaps of a part of each head."""
    for module in model.modules():
        if not type(module).__name__.endswith("RotaryEmbedding"):
            continue
        config = module.config
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

        def frequencies(rope, head=head):
            width = int(head * rope.get("partial_rotary_factor", 1.0))
            plain = rope["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
            assert rope["rope_type"] in ("default", "linear")
            return plain / rope.get("factor", 1.0)

        def angles(x, position_ids, layer_type=None, rope=config.rope_parameters):
            freqs = position_ids[..., None].double() * frequencies(rope[layer_type] if layer_type else rope)
            emb = torch.cat((freqs, freqs), dim=-1)
            return emb.cos().to(x.dtype), emb.sin().to(x.dtype)

        module.forward = angles
    return model


def write_adapter(tools, families, folder, name):
    place = folder / "steps" / "adapter"
    torch.manual_seed(0)
    model = peft.get_peft_model(families.open_model(folder, torch.float32), peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=SITES[name], task_type="CAUSAL_LM"))
    golden_adapters.disturb(model, tools.generator("steps of families " + name), magnitude=0.2)
    model.peft_config["default"].base_model_name_or_path = "../.."
    model.save_pretrained(place)
    (place / "README.md").unlink()
    config = tools.json.loads((place / "adapter_config.json").read_text())
    config["target_modules"].sort()
    tools.write_json(place / "adapter_config.json", config)
    return place


def open_adapted(families, folder, place, dtype):
    base = families.open_model(folder, dtype)
    base.requires_grad_(False)
    model = peft.PeftModel.from_pretrained(base, place, is_trainable=True).to(dtype).eval()
    if dtype == torch.float64:
        angles_in_float64(model)
    return model, {key.replace(".default", ""): p for key, p in model.named_parameters() if "lora_" in key}


def losses(families, name, model, objective, examples, targets):
    out = []
    for ids, prompt, response, target in zip(examples, PROMPTS, RESPONSES, targets):
        values = families.run(name, model, ids[None])
        at = slice(prompt - 1, prompt - 1 + response)
        if objective == "sft":
            out.append(functional.cross_entropy(values["logits"][0, at], ids[prompt:]))
        else:
            got = torch.stack([values[f"self_attn.{i}"][0, at] for i in range(len(target))])  # [layer, token, hidden]
            out.append(functional.mse_loss(got, target.to(got.dtype)) * len(target))
    return torch.stack(out)


def gradients(families, name, model, weights, objective, examples, targets):
    for p in weights.values():
        p.grad = None
    each = losses(families, name, model, objective, examples, targets)
    each.mean().backward()
    for p in weights.values():
        # Behind all that is compared: a gradient of zero, which AdamW decays by; PyTorch passes over parameters without one.
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    return each.detach(), {n: p.grad.clone() for n, p in weights.items()}


def draw(tools, families, folder, place, name):
    """Random examples and targets, those of several draws on which float32 is most precise."""
    exact, plain = (open_adapted(families, folder, place, dtype) for dtype in (torch.float64, torch.float32))
    layers = len(families.layers_of(exact[0]))
    best = (math.inf, None, None)
    for attempt in range(DRAWS):
        examples = families.random_examples(tools, f"steps {attempt} {name}", [p + r for p, r in zip(PROMPTS, RESPONSES)])
        g = tools.generator(f"targets {attempt} of families {name}")
        targets = [torch.randn(layers, n, families.HIDDEN, generator=g) for n in RESPONSES]
        worst = 0.0
        for objective in ("sft", "ia2"):
            there, expected = gradients(families, name, *exact, objective, examples, targets)
            here, ours = gradients(families, name, *plain, objective, examples, targets)
            worst = max([worst, tools.deviation(here, there)] + [tools.deviation(ours[n], expected[n]) for n in ours if expected[n].any()])
        if worst < best[0]:
            best = (worst, examples, targets)
    assert best[0] < FLOAT32_TOLERANCE, (name, best[0])
    families.deviations[f"{name} steps"] = best[0]
    return best[1:]


def write(tools, families, folder, name):
    place = write_adapter(tools, families, folder, name)
    examples, targets = draw(tools, families, folder, place, name)
    golden = dict(
        input_ids=tools.pad(examples), lengths=torch.tensor([len(ids) for ids in examples]), prompt_lengths=torch.tensor(PROMPTS),
        self_attn=tools.pad([t.transpose(0, 1) for t in targets]).transpose(1, 2).float())
    for objective in ("sft", "ia2"):
        model, weights = open_adapted(families, folder, place, torch.float64)
        optimiser = torch.optim.AdamW(weights.values(), lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
        trajectory = []
        for step in range(STEPS):
            each, gradient = gradients(families, name, model, weights, objective, examples, targets)
            trajectory.append(each.mean())
            if step == 0:
                golden[f"{objective}.example_losses"] = each
                golden |= {f"{objective}.gradient.{n}": value for n, value in gradient.items()}
            optimiser.step()
        with torch.no_grad():
            trajectory.append(losses(families, name, model, objective, examples, targets).mean())
        golden[f"{objective}.losses"] = torch.stack(trajectory)
        golden |= {f"{objective}.after.{n}": p.detach().clone() for n, p in weights.items()}
        assert all(b < a for a, b in zip(trajectory, trajectory[1:])), (name, objective, trajectory)
    tools.write_tensors(folder / "steps" / "golden.safetensors", golden)
