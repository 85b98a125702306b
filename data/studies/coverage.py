"""The tables of simulated coverage for tables.py, from the lines that `examples/coverage` wrote.

Shares are of 95 % intervals that hold the truth (of tests: one less the share that reject). Standard library only.
"""
from pathlib import Path


def read(path):
    """Part, number of studies, design, and the groups of numbers, of each line."""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        head, *groups = [group.split() for group in line.split("|")]
        yield head[0], int(head[1]), [float(word) for word in head[2:]], groups


def span(values):
    shares = [100 * value for value in values]
    return f"{len(shares)} | {min(shares):.1f} to {max(shares):.1f} %" if shares else "0 | not run yet"


def tables(path):
    """Of intervals and tests, and of power."""
    lines = list(read(path))
    effects = [(design, groups) for part, _, design, groups in lines if part == "effects"]
    share = lambda rows, group: (float(groups[group][0]) for _, groups in rows if groups[group][0] != "–")
    runs, sizes = (lambda design: design[1]), (lambda design: design[4])
    calibration = [(design, groups) for part, _, design, groups in lines if part == "calibration"]
    means = [(design, groups) for part, _, design, groups in lines if part == "tasks"]
    rows = [
        ("a difference by `crossed_mean`: t interval over runs and rows", share(effects, 0)),
        ("the same by draws (`crossed_bootstrap`)", share(effects, 1)),
        ("mixed model of differences, one task, 3 runs", share([row for row in effects if runs(row[0]) == 3], 2)),
        ("mixed model of differences, one task, 5 or 10 runs", share([row for row in effects if runs(row[0]) > 3], 2)),
        ("mixed model of differences, mean over 3 or 4 tasks (`mixed_mean`)", share(means, 0)),
        ("debiased calibration error, true error 0", (float(groups[0][1]) for design, groups in calibration if design[1] == 0)),
        ("debiased calibration error, true error .03 to .3", (float(groups[0][1]) for design, groups in calibration if design[1] > 0)),
        ("*not used:* percentile bootstrap of ECE, true error 0 or .03", (float(groups[1][0]) for design, groups in calibration if design[1] < 0.1)),
        ("*not used:* mixed model of outcomes, method + (1 \\| run) + (1 \\| row)", share(effects, 3)),
        ("*not used:* t test over each N of each run, two N", share([row for row in effects if sizes(row[0]) > 1], 4)),
        ("*not used:* interval over test rows alone", share(effects, 5)),
    ]
    intervals = "| 95 % interval or test | designs | holds the truth |\n|---|---|---|\n"
    intervals += "".join(f"| {name} | {span(values)} |\n" for name, values in rows)
    powers = "| power of 1 task: runs, rows, spread by run and by row, effect (logits) | true difference | predicted, mean | found |\n|---|---|---|---|\n"
    for part, _, design, groups in lines:
        if part == "power":
            powers += f"| {', '.join(f'{number:g}' for number in design)} | {groups[0][0]} | {groups[1][0]} | {groups[2][0]} |\n"
    return intervals, powers
