"""Writes tests/data/scores.json: how likely transformers finds given continuations.

    python tests/python/golden_scores.py STORIES > tests/data/scores.json

STORIES is the folder of the real model `stories260K` (SentencePiece), which is not copied here; the other models are those of tests/golden.
`ids`: samples of token ids and the log-likelihood of each response token. `text`: the query and each answer tokenised *together*, split where the
query's own tokens end, with demonstrations before the query; the tokens, their log-likelihoods, and for labels the probability among them.
All in float64, one sequence at a time, without a cache.
"""

import json
import random
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_grad_enabled(False)


def likelihoods(model, prompt, response):
    logits = model(torch.tensor([prompt + response])).logits[0].double().log_softmax(-1)
    return [logits[len(prompt) - 1 + place, token].item() for place, token in enumerate(response)]


def ids():
    draw, cases = random.Random(0), {}
    for name in ["llama_grouped_tied", "qwen3_grouped_tied"]:
        model = AutoModelForCausalLM.from_pretrained(Path("tests/golden") / name, dtype=torch.float64)
        shared = [draw.randrange(64) for _ in range(20)]
        prompts = [shared + [draw.randrange(64) for _ in range(draw.randint(1, 9))] for _ in range(6)] + [[5]]
        cases[name] = []
        for prompt in prompts:
            for length in [1, 3, 1, 7]:
                response = [draw.randrange(64) for _ in range(length)]
                cases[name].append({"prompt": prompt, "response": response, "log_likelihoods": likelihoods(model, prompt, response)})
    return cases


def text(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    queries = [
        "Once upon a time, there was a little girl. She was", "Tom lost his toy. He was", "The dog got a big bone. The dog felt",
        "Text: it was a fine day\nFeeling:", "Text: the boy fell down and cried\nFeeling:", "Lily saw a bird. Lily is not", "Ben was so",
    ]
    shown = "Text: we had cake and played\nFeeling: happy\n\n"
    cases = []
    for labels in [[" happy", " sad"], ["0", "1"], [" 0", " 1"], ["happy", "sad"]]:
        for query in queries:
            for before in ["", shown]:
                prompt = tokenizer(before + query).input_ids
                answers = []
                for label in labels + [" a little bit sad."]:
                    whole = tokenizer(before + query + label).input_ids
                    assert whole[: len(prompt)] == prompt, (query, label)
                    response = whole[len(prompt) :]
                    answers.append({"text": label, "ids": response, "log_likelihoods": likelihoods(model, prompt, response)})
                # Where the labels differ.
                first, second = (answer["ids"] for answer in answers[:2])
                place = next(place for place, pair in enumerate(zip(first, second)) if pair[0] != pair[1])
                read = torch.tensor([answer["log_likelihoods"][place] for answer in answers[:2]], dtype=torch.float64)
                case = {"before": before, "query": query, "labels": labels, "answers": answers}
                cases.append(case | {"p": read.softmax(0).tolist(), "mass": read.exp().sum().item()})
    return cases


json.dump({"ids": ids(), "text": text(sys.argv[1])}, sys.stdout, indent=None, separators=(",", ":"))
print()
