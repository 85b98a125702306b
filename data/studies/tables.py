#!/usr/bin/env python3
"""The tables in README.md and data/studies/README.md, from the frames in this folder and `coverage.txt`.

    python3 data/studies/tables.py           print them
    python3 data/studies/tables.py --write   write each behind its mark `<!-- table NAME -->`
    python3 data/studies/tables.py --check   fail if a file has another

A cell is a mean over the runs of one test, or, where the column says so, over runs and tasks. Standard library only.
"""
import csv
import statistics
import sys
from pathlib import Path

import coverage

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

SMOL, QWEN = "SmolLM2-135M", "Qwen2.5-Coder-0.5B"
REAL = {"SST2": "SST-2", "PoemS": "Poem", "STF": "StrategyQA", "AGN": "AG News"}


def frame(name):
    with open(HERE / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def show(value, digits=2, zero="0"):
    """2 for 2.4 of no digits, .50 for 0.5 of two, – for none."""
    if value is None or value == 0:
        return "–" if value is None else zero
    text = f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def mean(rows, column):
    """None where one of them has no value."""
    return statistics.mean(float(row[column]) for row in rows) if rows and all(row[column] for row in rows) else None


class Test:
    """Accuracy and ECE of one test."""

    def __init__(self, title, task, on=None, model=None):
        self.title, self.task, self.on, self.model = title, task, on or task, model

    def cell(self, rows):
        rows = [row for row in rows if row["task"] == self.task and row["evaluated_on"] == self.on and self.model in (None, row["model"])]
        return f"{show(mean(rows, 'accuracy'), zero='.00')} / {show(mean(rows, 'ece_equal_width_15'), zero='.00')}" if rows else "–"


class Mean:
    """A column's mean over runs, tasks and, if none is named, models; in distribution."""

    def __init__(self, title, column, digits=2, model=None):
        self.title, self.column, self.digits, self.model = title, column, digits, model

    def cell(self, rows):
        rows = [row for row in rows if row["ood"] == "false" and self.model in (None, row["model"])]
        return show(mean(rows, self.column), self.digits)


class Effect:
    """The difference from SFT with its 95 % interval, and a star where it holds after Holm's correction."""

    def __init__(self, title, value, model):
        self.title, self.value, self.model = title, value, model

    def cell(self, rows):
        row = next((row for row in rows if row["value"] == self.value and row["model"] == self.model and row["difference"]), None)
        if row is None:
            return "–"
        difference, lower, upper = (show(float(row[name]), 3, zero=".000") for name in ("difference", "lower", "upper"))
        plus = "+" if difference != ".000" and float(row["difference"]) > 0 else ""
        star = r" \*" if row["p_holm"] and float(row["p_holm"]) < 0.05 else ""
        return f"{plus}{difference} ({lower} to {upper}){star}"


def effects(value):
    return [Effect(f"{short}, N = {n}", value, f"{model}, N = {n}") for model, short in ((SMOL, "SmolLM2"), (QWEN, "Qwen")) for n in (4, 16)]


def real(model):
    return [Test(f"{name}, N = {n}", task, model=f"{model}, N = {n}") for n in (4, 16) for task, name in REAL.items()]


def with_asim(model):
    return [*real(model), *(Mean(f"asim, N = {n}", "asim", model=f"{model}, N = {n}") for n in (4, 16))]


def costs(model, forgetting=True):
    columns = [
        ("asim", "asim", 2), ("KL to ICL", "distance_to_icl", 2), ("drift", "drift", 2), ("drift elsewhere", "drift_elsewhere", 2),
        ("forgetting", "forgetting", 2), ("parameters", "parameters", 0), ("tokens trained on", "training_tokens", 0),
        ("tokens for targets", "target_tokens", 0), ("seconds", "total_seconds", 1), ("tokens per query", "query_tokens", 0),
    ]  # fmt: skip
    return [Mean(title, column, digits, model) for title, column, digits in columns if forgetting or column not in ("drift_elsewhere", "forgetting")]


ALL = (
    "zero-shot|ICL|ICL, contextual calibration|ICL, batch calibration|task vector|function vector|mean-difference steering|SFT|SFT + temperature|"
    "SFT on ICL|soft labels|self-distillation|cartridge|IA2|IA2 → SFT|SFT → IA2|IA2 + SFT"
).split("|")
FEW = "zero-shot|ICL|SFT|IA2|IA2 → SFT|cartridge".split("|")
NAMES = {"ICL, batch calibration": "ICL, batch calibration (uses the test queries)"}

# Name: file, first cell, frame, columns, methods.
TABLES = {
    "bundled": ("README.md", "accuracy / ECE", "tiny-icl", [
        Test("shortcut_contrary", "shortcut", "shortcut_contrary"), Test("topic", "topic"), Test("answer (free)", "answer"),
        Test("sentiment", "sentiment"), Mean("asim with ICL (all five tasks)", "asim"),
    ], FEW[1:]),
    "real": ("README.md", "accuracy / ECE", "real-models", [
        Test("SmolLM2: SST-2, N = 4", "SST2", model=f"{SMOL}, N = 4"), Test("AG News, 4", "AGN", model=f"{SMOL}, N = 4"),
        Test("SST-2, 16", "SST2", model=f"{SMOL}, N = 16"),
        Test("Qwen: SST-2, 4", "SST2", model=f"{QWEN}, N = 4"), Test("AG News, 4", "AGN", model=f"{QWEN}, N = 4"),
        Test("SST-2, 16", "SST2", model=f"{QWEN}, N = 16"), Test("AG News, 16", "AGN", model=f"{QWEN}, N = 16"),
    ], FEW),
    "tiny-icl": ("data/studies/README.md", "accuracy / ECE (15 bins of equal width)", "tiny-icl", [
        Test("shortcut_contrary", "shortcut", "shortcut_contrary"), Test("topic", "topic"), Test("choice", "choice"), Test("answer (free)", "answer"),
        Test("sentiment", "sentiment"),
    ], ALL),
    "tiny-icl costs": ("data/studies/README.md", "tiny-icl, N = 8", "tiny-icl", costs("tiny-icl"), ALL),
    "smollm2": ("data/studies/README.md", "accuracy / ECE, SmolLM2", "real-models", with_asim(SMOL), ALL),
    "qwen": ("data/studies/README.md", "accuracy / ECE, Qwen", "real-models", with_asim(QWEN), ALL),
    "smollm2 costs": ("data/studies/README.md", "SmolLM2, N = 4", "real-models", costs(f"{SMOL}, N = 4"), ALL),
    "qwen costs": ("data/studies/README.md", "Qwen, N = 4", "real-models", costs(f"{QWEN}, N = 4", forgetting=False), ALL),
    "tiny-icl effects": ("data/studies/README.md", "from SFT, over all tests", "tiny-icl_effects", [
        Effect("accuracy", "accuracy", "tiny-icl"), Effect("smooth ECE", "smooth_ece", "tiny-icl"),
    ], ALL),
    "accuracy": ("data/studies/README.md", "accuracy, from SFT", "real-models_effects", effects("accuracy"), ALL),
    "smooth ECE": ("data/studies/README.md", "smooth ECE, from SFT", "real-models_effects", effects("smooth_ece"), ALL),
}  # fmt: skip


def table(first, name, columns, methods):
    rows = frame(name)
    models = {column.model for column in columns if column.model}
    rows = [row for row in rows if not models or row["model"] in models]
    lines = [[first] + [column.title for column in columns]]
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        if own:
            lines.append([NAMES.get(method, method)] + [column.cell(own) for column in columns])
    head, *body = [f"| {' | '.join(line)} |\n" for line in lines]
    return head + "|---" * (len(columns) + 1) + "|\n" + "".join(body)


def placed(text, name, new):
    """The text with this as the table that follows the mark."""
    before, mark, after = text.partition(f"<!-- table {name} -->\n")
    if not mark:
        sys.exit(f"no `<!-- table {name} -->`")
    lines = after.splitlines(keepends=True)
    start = next((place for place, line in enumerate(lines) if line.strip()), 0)
    end = next((place for place, line in enumerate(lines) if place >= start and not line.startswith("|")), len(lines))
    rest = "".join(lines[end:])
    return before + mark + "".join(lines[:start]) + new + ("" if rest.startswith("\n") else "\n") + rest


def main(arguments):
    differ = []
    made = [(name, file, table(*rest)) for name, (file, *rest) in TABLES.items()]
    made += [(name, "data/studies/README.md", text) for name, text in zip(("coverage", "power"), coverage.tables(HERE / "coverage.txt"))]
    for name, file, new in made:
        if not arguments:
            print(f"{name} ({file})\n{new}")
            continue
        path = ROOT / file
        old = path.read_text(encoding="utf-8")
        text = placed(old, name, new)
        if text != old and arguments == ["--write"]:
            path.write_text(text, encoding="utf-8")
        elif text != old:
            differ.append(f"table `{name}` of {file} is not that of the frames: `python3 data/studies/tables.py --write`")
    sys.exit("\n".join(differ) or None)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--write"], ["--check"]):
        sys.exit(__doc__)
    main(sys.argv[1:])
