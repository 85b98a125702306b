#!/usr/bin/env python3
"""The frames in this folder, from the folders that `examples/study` wrote.

    python3 data/studies/condense.py NAME MODEL=FOLDER [MODEL=FOLDER ..]

writes NAME.csv (the chosen runs), NAME_means.csv (means and standard deviations over the runs), NAME_asim.csv (asim of each layer, mean over
the runs) and NAME_effects.csv (of `evidence.json`: the effects on accuracy and smooth ECE against SFT). MODEL is the name in the column `model`.
Numbers are rounded to six digits. Standard library only.
"""
import csv
import json
import statistics
import sys
from pathlib import Path

COLUMNS = (
    "task evaluated_on ood n run method learning_rate beta found accuracy ece_equal_width_15 smooth_ece asim distance_to_icl drift drift_elsewhere "
    "icl_before icl_after forgetting query_tokens parameters training_tokens target_tokens total_seconds failed"
).split()
MEANS = "accuracy ece_equal_width_15 smooth_ece asim distance_to_icl drift forgetting query_tokens total_seconds".split()
EFFECTS = "method baseline value difference lower upper p p_holm mixed_difference mixed_p strata runs rows".split()


def short(value):
    """A number with at most six digits; anything else as it is."""
    if value is None:
        return ""
    try:
        number = float(value)
    except ValueError:
        return value
    return str(value) if str(value).lstrip("-").isdigit() else f"{number:.6g}"


def evaluation(row):
    return row["evaluated_on"] if row["task"] == row["evaluated_on"] else f"{row['task']} → {row['evaluated_on']}"


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def grouped(rows, key):
    groups = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def numbers(rows, column):
    return [float(row[column]) for row in rows if row.get(column) not in (None, "", "null")]


def write(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    print(f"{len(rows)} rows in {path}")


def main(name, studies):
    here = Path(__file__).parent
    runs, means, layers, effects = [], [], [], []
    for model, folder in studies:
        chosen = [row for row in read(folder / "frame.csv") if row["chosen"] == "true"]
        runs += [[model] + [short(row.get(column)) for column in COLUMNS] for row in chosen]
        for (where, n, method), rows in grouped(chosen, lambda row: (evaluation(row), row["n"], row["method"])).items():
            line = [model, where, n, method, len(rows)]
            for column in MEANS:
                values = numbers(rows, column)
                line.append(short(statistics.mean(values)) if values else "")
                line.append(short(statistics.stdev(values)) if len(values) > 1 else "")
            means.append(line)
        inside = [row for row in read(folder / "asim.csv") if row["ood"] == "false"]
        for (where, n, method, layer), rows in grouped(inside, lambda row: (evaluation(row), row["n"], row["method"], row["layer"])).items():
            values = numbers(rows, "asim")
            if values:
                layers.append([model, where, n, method, layer, len(values), short(statistics.mean(values))])
        evidence = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
        for effect in evidence["effects"]:
            if effect["value"] in ("accuracy", "smooth_ece"):
                effects.append([model] + [short(effect.get(column)) for column in EFFECTS])
    write(here / f"{name}.csv", ["model"] + COLUMNS, runs)
    write(here / f"{name}_means.csv", ["model", "evaluation", "n", "method", "runs"] + [c for m in MEANS for c in (m, m + "_std")], means)
    write(here / f"{name}_asim.csv", ["model", "evaluation", "n", "method", "layer", "runs", "asim"], layers)
    write(here / f"{name}_effects.csv", ["model"] + EFFECTS, effects)


if __name__ == "__main__":
    if len(sys.argv) < 3 or any("=" not in pair for pair in sys.argv[2:]):
        sys.exit(__doc__)
    main(sys.argv[1], [(pair.rsplit("=", 1)[0], Path(pair.rsplit("=", 1)[1])) for pair in sys.argv[2:]])
