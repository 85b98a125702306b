"""Objectives against PyTorch and PEFT: tests/golden/objectives. Called by make_golden.py, which hands over its helpers.

For each checkpoint with a LoRA adapter in tests/golden/training: targets (random activations at two kinds of hook points and
random distributions), and for each case the loss of each example, the gradient of their mean in every LoRA tensor, the losses
along five Adam steps and the tensors after them, all in float64. And for prompt tuning (PEFT's, random embeddings): the loss of
each example and its gradient in the embeddings, once at the response positions and once at the positions that the authors'
code reads, which does not count the virtual tokens in front.
"""

import math

import peft
import torch
from torch.nn import functional

import golden_training

KEPT = 5  # largest probabilities kept by the top-k case
VIRTUAL = 4  # virtual tokens of prompt tuning
# PyTorch's own float32 gradients must come this close to its float64 ones, or a test in float32 would measure rounding.
FLOAT32_TOLERANCE = 8e-6
DRAWS = 40  # of which the one is taken where it comes closest
HOOKS = {"self_attn": "self_attn", "mlp": "mlp"}


def cosine_distance(got, target):
    return sum((1 - functional.cosine_similarity(a, t, dim=-1)).mean() for a, t in zip(got, target))


def squared(got, target):
    return functional.mse_loss(got, target) * len(got)  # as the authors write it


def normalised(got, target):
    return sum(((a - t) ** 2).mean() / (t ** 2).mean() for a, t in zip(got, target))


def weighted(layers, weights):
    return lambda got, target: sum(w * functional.mse_loss(got[i], target[i]) for i, w in zip(layers, weights))


def spread(target):
    """The largest probabilities, and the mass they leave spread evenly over the other ids."""
    values, ids = target.topk(KEPT, dim=-1)
    rest = (1 - values.sum(-1, keepdim=True)) / (target.shape[-1] - KEPT)
    return rest.expand_as(target).scatter(-1, ids, values)


def divergence(logits, target):
    return functional.kl_div(logits.log_softmax(-1), target, reduction="batchmean")


# name -> what is compared at which hook points, and how; beta is the weight of cross-entropy
CASES = {
    "sft": dict(beta=1.0),
    "ia2": dict(at="self_attn", distance=squared, beta=0.0),
    "ia2_cosine": dict(at="self_attn", distance=cosine_distance, beta=0.0),
    "ia2_normalised": dict(at="self_attn", distance=normalised, beta=0.0),
    "ia2_layers": dict(at="self_attn", distance=weighted([0, 2], [0.5, 2.0]), beta=0.0),
    "ia2_mlp": dict(at="mlp", distance=squared, beta=0.0),
    "ia2_sft_0.3": dict(at="self_attn", distance=squared, beta=0.3),
    "ia2_sft_0.8": dict(at="self_attn", distance=squared, beta=0.8),
    "soft": dict(soft=lambda target: target),
    "soft_top": dict(soft=spread),
}


def forward(tools, model, ids):
    """Logits, and the outputs of both kinds of hook points by layer, at every place the decoder computes."""
    values, handles = {}, []
    layers = tools.trunk(model).layers
    for kind, name in HOOKS.items():
        for i, layer in enumerate(layers):
            def keep(_module, _inputs, output, key=(kind, i)):
                values[key] = output[0] if isinstance(output, tuple) else output
            handles.append(getattr(layer, name).register_forward_hook(keep))
    try:
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits, {kind: torch.stack([values[kind, i][0] for i in range(len(layers))]) for kind in HOOKS}


def rotary_in_float64(model):
    """transformers' rotary angles are float32 even in a float64 model: Adam, which divides small gradients by themselves, would show it."""
    for module in model.modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            config = module.config
            rope = config.rope_parameters
            assert rope["rope_type"] == "default"
            half = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
            frequencies = rope["rope_theta"] ** -half

            def angles(x, position_ids, frequencies=frequencies):
                freqs = position_ids[..., None].double() * frequencies
                emb = torch.cat((freqs, freqs), dim=-1)
                return emb.cos().to(x.dtype), emb.sin().to(x.dtype)

            module.forward = angles
    return model


def example_loss(case, logits, got, ids, prompt, targets, at, cross_at=None):
    """One example; `at` are the places compared, `cross_at` those whose cross-entropy is taken."""
    if "soft" in case:
        return divergence(logits[at], case["soft"](targets["probabilities"]))
    loss = 0.0
    if case["beta"] < 1:
        loss = (1 - case["beta"]) * case["distance"](got[case["at"]][:, at], targets[case["at"]])
    if case["beta"] > 0:
        loss = loss + case["beta"] * functional.cross_entropy(logits[cross_at or at], ids[prompt:])
    return loss


def places(prompt, response, shift=0):
    return slice(shift + prompt - 1, shift + prompt - 1 + response)


def losses(tools, model, case, examples, targets, compared=0, crossed=0):
    out = []
    for ids, prompt, response, target in zip(examples, golden_training.PROMPTS, golden_training.RESPONSES, targets):
        logits, got = forward(tools, model, ids)
        at, cross_at = places(prompt, response, compared), places(prompt, response, crossed)
        out.append(example_loss(case, logits, got, ids, prompt, target, at, cross_at))
    return torch.stack(out)


def prompt_tuned(tools, root, name, embeddings):
    base = rotary_in_float64(tools.open_model(root / name))
    base.requires_grad_(False)
    model = peft.get_peft_model(base, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL)).double().eval()
    weight = model.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(embeddings)
    return model, weight


def open_adapted(tools, root, name, dtype=torch.float64):
    base = tools.open_model(root / name, dtype)
    base.requires_grad_(False)
    model = peft.PeftModel.from_pretrained(base, root / "training" / name / "adapter", is_trainable=True).to(dtype).eval()
    return model, {key.replace(".default", ""): p for key, p in model.named_parameters() if "lora_" in key}


def gradients(tools, model, weights, case, examples, targets):
    for p in weights.values():
        p.grad = None
    each = losses(tools, model, case, examples, targets)
    each.mean().backward()
    # Some adapters lie behind all that is compared.
    return each.detach(), {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in weights.items()}


def draw_targets(tools, root, name, examples):
    """Random targets, those of several draws on which float32 is most precise."""
    exact, exact_weights = open_adapted(tools, root, name)
    rotary_in_float64(exact)
    plain, plain_weights = open_adapted(tools, root, name, torch.float32)
    config = tools.trunk(exact).config
    layers, hidden, vocab = config.num_hidden_layers, config.hidden_size, tools.VOCAB
    draws = dict(
        self_attn=lambda n, g: torch.randn(layers, n, hidden, generator=g),
        mlp=lambda n, g: torch.randn(layers, n, hidden, generator=g),
        probabilities=lambda n, g: (2 * torch.randn(n, vocab, generator=g).double()).softmax(-1).float(),
    )
    best = {}
    for key, draw in draws.items():
        cases = [case for case in CASES.values() if (case.get("at") or ("probabilities" if "soft" in case else None)) == key]
        for attempt in range(DRAWS):
            g = tools.generator(f"{attempt} {key} {name}")
            # Both precisions and both languages start from the same float32 numbers.
            drawn = [draw(n, g) for n in golden_training.RESPONSES]
            plain_targets, targets = ([{key: value.to(dtype)} for value in drawn] for dtype in (torch.float32, torch.float64))
            worst = 0.0
            for case in cases:
                expected, there = gradients(tools, exact, exact_weights, case, examples, targets)
                ours, here = gradients(tools, plain, plain_weights, case, examples, plain_targets)
                worst = max([worst, tools.deviation(ours, expected)] + [tools.deviation(here[n], there[n]) for n in there])
            if key not in best or worst < best[key][0]:
                best[key] = (worst, targets)
        assert best[key][0] < FLOAT32_TOLERANCE, (name, key, best[key][0])
    return [{key: best[key][1][i][key] for key in draws} for i in range(len(golden_training.RESPONSES))]


def write(tools, root, name):
    examples = tools.random_examples("training " + name, [p + r for p, r in zip(golden_training.PROMPTS, golden_training.RESPONSES)])
    targets = draw_targets(tools, root, name, examples)
    g = tools.generator("embeddings of " + name)

    def padded(key):  # token before layer for padding, then [example, layer, token, hidden]
        return tools.pad([t[key].transpose(0, 1) for t in targets]).transpose(1, 2).float()

    golden = dict(
        input_ids=tools.pad(examples), lengths=torch.tensor([len(ids) for ids in examples]),
        prompt_lengths=torch.tensor(golden_training.PROMPTS), self_attn=padded("self_attn"), mlp=padded("mlp"),
        probabilities=tools.pad([t["probabilities"] for t in targets]).float(), kept=torch.tensor([KEPT]),
    )
    for key, case in CASES.items():
        model, weights = open_adapted(tools, root, name)
        rotary_in_float64(model)
        optimiser = torch.optim.Adam(weights.values(), lr=golden_training.RATE, betas=(0.9, 0.999), eps=1e-8)
        trajectory = []
        for step in range(golden_training.STEPS):
            each, gradient = gradients(tools, model, weights, case, examples, targets)
            trajectory.append(each.mean())
            if step == 0:
                golden[f"{key}.example_losses"] = each
                golden |= {f"{key}.gradient.{n}": value for n, value in gradient.items()}
            optimiser.step()
        with torch.no_grad():
            trajectory.append(losses(tools, model, case, examples, targets).mean())
        golden[f"{key}.losses"] = torch.stack(trajectory)
        golden |= {f"{key}.after.{n}": p.detach().clone() for n, p in weights.items()}
        assert trajectory[-1] < trajectory[0], (name, key, trajectory)

    embeddings = torch.randn(VIRTUAL, tools.trunk(model).config.hidden_size, generator=g).double() * 0.5
    golden["prompt_tuning.embeddings"] = embeddings.float()
    for key in ("ia2", "ia2_sft_0.3", "soft", "soft_top"):
        for which, compared in (("right", VIRTUAL), ("paper", 0)):
            model, weight = prompt_tuned(tools, root, name, embeddings)
            # PEFT takes cross-entropy, in both cases at the response positions.
            each = losses(tools, model, CASES[key], examples, targets, compared=compared, crossed=VIRTUAL)
            each.mean().backward()
            golden[f"prompt_tuning.{which}.{key}.example_losses"] = each.detach()
            golden[f"prompt_tuning.{which}.{key}.gradient"] = weight.grad.clone()
    # Otherwise the two would test the same.
    right, paper = (golden[f"prompt_tuning.{which}.ia2.example_losses"] for which in ("right", "paper"))
    assert tools.deviation(paper, right) > 0.01
    assert all(math.isfinite(v) for tensor in golden.values() for v in tensor.double().flatten().tolist())
    tools.write_tensors(root / "objectives" / f"{name}.safetensors", golden)
