"""Temperature and nucleus as transformers applies them: the probabilities that tokens are drawn with.

`make_golden.py` calls `write`; `python golden_sampling.py FILE` writes this one file alone.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

LOGITS = [
    [2.0, 1.5, 1.0, 0.0, -1.0, -3.0],
    [0.3, 5.0, -2.0, 4.0, 4.5, 0.0],
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
]
SETTINGS = [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.9), (1.0, 0.5), (0.7, 0.8), (2.0, 0.35), (1.0, 0.01)]


def write(path):
    cases = []
    for logits in LOGITS:
        for temperature, top_p in SETTINGS:
            scores = TemperatureLogitsWarper(temperature)(None, torch.tensor([logits], dtype=torch.float64))
            scores = TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
            probabilities = [round(p, 12) for p in scores.softmax(-1)[0].tolist()]
            cases.append(dict(logits=logits, temperature=temperature, top_p=top_p, probabilities=probabilities))
    Path(path).write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")


if __name__ == "__main__":
    write(sys.argv[1])
