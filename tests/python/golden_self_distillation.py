"""On-policy self-distillation on three families that differ most: `families/<case>/steps/self_distillation.safetensors`. Called by golden_families.py.

The student is the model with the LoRA of `steps/adapter`, the teacher the model without it (in the case `live` the student itself, without
gradients), which reads a context before each prompt. All in float64 with float64 rotary angles: the loss of each example, and the gradient of
their mean in every LoRA tensor. The divergences are written with PyTorch's `kl_div`, as in TRL's `experimental.sdft`.
"""

import math

import golden_family_steps
import torch
from torch.nn import functional

PROMPTS, RESPONSES, CONTEXTS = golden_family_steps.PROMPTS, golden_family_steps.RESPONSES, [7, 11, 17]
TOP = 5
CASES = {"reverse": ("reverse", None, "base"), "forward": ("forward", None, "base"), "js": ("js", None, "base"),
         "reverse_top": ("reverse", TOP, "base"), "forward_top": ("forward", TOP, "base"), "js_top": ("js", TOP, "base"),
         "live": ("reverse", None, "live")}


def kl(p, q):
    """KL(p || q) of each token, from log-probabilities."""
    return functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)


def divergence(which, student, teacher):
    if which == "reverse":
        return kl(student, teacher)
    if which == "forward":
        return kl(teacher, student)
    mixture = torch.logaddexp(student, teacher) - math.log(2)
    return (kl(teacher, mixture) + kl(student, mixture)) / 2


def with_tail(logs):
    held = logs.logsumexp(-1, keepdim=True).clamp(max=-1e-7)
    return torch.cat([logs, torch.log(-torch.expm1(held))], -1)


def losses(families, name, student, teacher, examples, contexts, which, top):
    out = []
    for ids, context, prompt, response in zip(examples, contexts, PROMPTS, RESPONSES):
        ours = families.run(name, student, ids[None])["logits"][0, prompt - 1:prompt - 1 + response].log_softmax(-1)
        with torch.no_grad():
            seen = torch.cat([context, ids])
            at = len(context) + prompt - 1
            theirs = families.run(name, teacher, seen[None])["logits"][0, at:at + response].log_softmax(-1)
        if top:
            chosen = ours.topk(top, -1).indices
            ours, theirs = with_tail(ours.gather(-1, chosen)), with_tail(theirs.gather(-1, chosen))
        out.append(divergence(which, ours, theirs).mean())
    return torch.stack(out)


def write(tools, families, folder, name):
    place = folder / "steps" / "adapter"
    student, weights = golden_family_steps.open_adapted(families, folder, place, torch.float64)
    base = golden_family_steps.angles_in_float64(families.open_model(folder, torch.float64))
    examples = families.random_examples(tools, "self-distillation " + name, [p + r for p, r in zip(PROMPTS, RESPONSES)])
    contexts = families.random_examples(tools, "contexts of self-distillation " + name, CONTEXTS)
    golden = dict(
        input_ids=tools.pad(examples), lengths=torch.tensor([len(ids) for ids in examples]), prompt_lengths=torch.tensor(PROMPTS),
        contexts=tools.pad(contexts), context_lengths=torch.tensor(CONTEXTS), top=torch.tensor(TOP))
    for case, (which, top, teacher) in CASES.items():
        for p in weights.values():
            p.grad = None
        each = losses(families, name, student, base if teacher == "base" else student, examples, contexts, which, top)
        each.mean().backward()
        golden[f"{case}.example_losses"] = each.detach()
        golden |= {f"{case}.gradient.{n}": p.grad.float() for n, p in weights.items()}
    tools.write_tensors(folder / "steps" / "self_distillation.safetensors", golden)
