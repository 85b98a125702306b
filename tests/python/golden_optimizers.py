"""Optimisers, schedules and clipping of PyTorch and transformers, and the authors' order of steps, as golden files.

`make_golden.py` calls `write`. The authors' training loop (aamixsh/ia2, commit 8fee5ab, scripts/train_unified.py) goes through a shuffled
epoch one example at a time, adds the gradients of loss / min(batch, N), steps after every min(batch, N) examples counted from the epoch's
beginning, and does not clear what is left of the epoch.
"""

import torch
from torch.nn.utils import clip_grad_norm_
from transformers import optimization

import golden_training

PARAMETERS, STEPS, RATE = 37, 12, 2e-3
CASES = {
    "adam": (torch.optim.Adam, {}, None),
    "adam_betas": (torch.optim.Adam, dict(betas=(0.8, 0.95), eps=1e-3), None),
    "adamw": (torch.optim.AdamW, dict(weight_decay=0.1), None),
    "adamw_clipped": (torch.optim.AdamW, dict(betas=(0.5, 0.9), weight_decay=0.01), 2.0),
}
SCHEDULES = {
    "constant": lambda optimizer, warm_up, steps: optimization.get_constant_schedule_with_warmup(optimizer, warm_up),
    "linear": optimization.get_linear_schedule_with_warmup,
    "cosine": optimization.get_cosine_schedule_with_warmup,
}
# The order in which the library shuffles three examples with seed 3, epoch by epoch (tests/training_loop checks it).
ORDERS = [[0, 2, 1], [1, 2, 0], [0, 1, 2], [2, 1, 0]]
BATCH = 2


def optimizers():
    g = torch.Generator().manual_seed(11)
    start = torch.randn(PARAMETERS, generator=g, dtype=torch.float64)
    # of very different sizes, so that epsilon and clipping matter
    gradients = torch.randn(STEPS, PARAMETERS, generator=g, dtype=torch.float64) * torch.logspace(-4, 0, PARAMETERS, dtype=torch.float64)
    gradients[::3] *= 5
    tensors = dict(start=start, gradients=gradients)
    for name, (kind, settings, clip) in CASES.items():
        weight = start.clone().requires_grad_(True)
        optimizer = kind([weight], lr=RATE, **settings)
        scheduler = optimization.get_cosine_schedule_with_warmup(optimizer, 3, STEPS)
        after, rates = [], []
        for gradient in gradients:
            weight.grad = gradient.clone()
            if clip is not None:
                clip_grad_norm_([weight], clip)
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
            after.append(weight.detach().clone())
        tensors[f"{name}.after"] = torch.stack(after)
        tensors["rates"] = torch.tensor(rates, dtype=torch.float64)
    return tensors


def schedules():
    tensors = {}
    for name, make in SCHEDULES.items():
        for warm_up, steps in [(0, 20), (5, 20), (7, 7), (30, 20)]:
            optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=RATE)
            scheduler = make(optimizer, warm_up, steps)
            rates = []
            for _ in range(25):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            tensors[f"schedule.{name}.{warm_up}.{steps}"] = torch.tensor(rates, dtype=torch.float64)
    return tensors


def authors_steps(tools, root, name):
    """The weights after each step of the authors' loop, and how many examples each step took."""
    model, weights, examples, targets = golden_training.open_case(tools, root, name)
    optimizer = torch.optim.Adam(weights.values(), lr=1e-2)
    accumulation = min(BATCH, len(examples))
    taken, waiting, norms = [], 0, []
    for order in ORDERS:
        accumulated = 0
        for example in order:
            loss = golden_training.losses(tools, model, "sft", examples, targets)[example]
            (loss / accumulation).backward()
            accumulated += 1
            waiting += 1
            if accumulated % accumulation == 0:
                norms.append(torch.cat([p.grad.flatten() for p in weights.values()]).norm())
                optimizer.step()
                optimizer.zero_grad()
                taken.append(waiting)
                waiting = 0
    after = {f"after.{key}": p.detach().clone() for key, p in weights.items()}
    return dict(orders=torch.tensor(ORDERS), taken=torch.tensor(taken), gradient_norms=torch.stack(norms), **after)


def write(tools, root, names):
    tools.write_tensors(root / "optimizers.safetensors", {**optimizers(), **schedules()})
    for name in names:
        tools.write_tensors(root / "training" / name / "authors.safetensors", authors_steps(tools, root, name))
