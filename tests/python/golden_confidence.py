"""Writes tests/data/confidence.json: how sure transformers is of free answers, and how far two next-token distributions lie apart.

    python tests/python/golden_confidence.py > tests/data/confidence.json

`answers`: the bundled model on its task `answer`, four demonstrations before each query: the greedy response, the log-probability of each of its tokens,
the entropy of each step, and which tokens hold the number after the last `####`: the first, and how many.
`distance`: KL(p || q) at each token of these responses, p after the demonstrations, q after the query alone.
`drift`: KL(p || q) between two checkpoints of tests/golden on given ids.
All in float64, one sequence at a time, without a cache.
"""

import json
import random
import re
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_grad_enabled(False)


def logs(model, prompt, response):
    """Log-probabilities over the vocabulary at the places that predict the response."""
    logits = model(torch.tensor([prompt + response[:-1]])).logits[0].double()
    return logits[len(prompt) - 1 :].log_softmax(-1)


def kl(p, q):
    return (p.exp() * (p - q)).sum(-1).tolist()


def answers(model, tokenizer, rows):
    cases = []
    for place in range(0, 60, 5):
        shown, asked = rows[place : place + 4], rows[place + 4]
        before = "".join(row["query"] + row["gold"] + "\n\n" for row in shown)
        prompt = tokenizer(before + asked["query"]).input_ids
        response, text = [], ""
        while len(response) < 16 and "\n\n" not in text and response[-1:] != [tokenizer.eos_token_id]:
            response.append(model(torch.tensor([prompt + response])).logits[0, -1].argmax().item())
            text = tokenizer.decode(prompt + response, skip_special_tokens=True)[len(tokenizer.decode(prompt, skip_special_tokens=True)) :]
        here = logs(model, prompt, response)
        alone = tokenizer(asked["query"]).input_ids
        text = text.split("\n\n")[0]
        start = text.rindex("####") + 4 if "####" in text else None
        first = count = 0
        if start is not None and text[start:].strip():
            start += len(text[start:]) - len(text[start:].lstrip())
            decoded = lambda k: tokenizer.decode(prompt + response[:k], skip_special_tokens=True)[len(tokenizer.decode(prompt, skip_special_tokens=True)) :]
            first = next(k for k in range(1, len(response) + 1) if len(decoded(k)) > start) - 1
            end = start + re.match(r"-?\d[\d.,]*(?<=\d)", text[start:]).end()
            count = next(k for k in range(1, len(response) + 1) if len(decoded(k)) >= end) - first
        cases.append(dict(
            shown=[[row["query"], row["gold"]] for row in shown], query=asked["query"], gold=asked["gold"], ids=response, text=text, answer_first=first, answer_tokens=count,
            log_likelihoods=here[range(len(response)), response].tolist(), entropies=(-(here.exp() * here).sum(-1)).tolist(),
            distance=kl(here, logs(model, alone, response)),
        ))
    return cases


def drift():
    draw = random.Random(0)
    p, q = (AutoModelForCausalLM.from_pretrained(Path("tests/golden") / name, dtype=torch.float64) for name in ("llama_full", "llama_grouped_tied"))
    cases = []
    for length in [1, 4, 9, 2, 1]:
        prompt = [draw.randrange(64) for _ in range(draw.randint(1, 30))]
        response = [draw.randrange(64) for _ in range(length)]
        cases.append(dict(prompt=prompt, response=response, divergence=kl(logs(p, prompt, response), logs(q, prompt, response))))
    return cases


folder = Path("data/models/tiny-icl")
rows = [json.loads(line) for line in Path("data/tasks/answer.jsonl").read_text().splitlines()]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
json.dump({"answers": answers(model, AutoTokenizer.from_pretrained(folder), rows), "drift": drift()}, sys.stdout, separators=(",", ":"))
print()
