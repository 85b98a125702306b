"""How quick the notebook kernel is: `cargo xtask bench kernel`.

    kernel_bench.py PROJECT [--rounds N]

Starts the kernel N times, then executes every notebook once, each with a kernel of its own. Prints a table: seconds and what is aimed at.
"""

import argparse
import math
import statistics
from pathlib import Path

import nbformat

import kernel_memory
import notebooks
from kernel import Kernel

# Quick cells of every kind: values, the library's values, printing.
CELLS = ["let a = 1 + 1;", "a * 2", 'let name = format!("{a}");', "name.len()", "let t = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));"]
CELLS += ["let s = t.sum(Kind::Float).double_value(&[]);", "&t", 'println!("{s}");', 'let task = Task::open("sentiment")?;', "&task"]


def sessions(rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Of each session: start to first result, the first variable after it; and all quick cells that follow."""
    first, variable, warm = [], [], []
    for number in range(1, rounds + 1):
        kernel = Kernel()
        first.append(kernel.start)
        variable.append(kernel.run("let begun = 1;", quiet=True).seconds)
        warm += [kernel.run(cell, quiet=True).seconds for cell in CELLS]
        memory = [kernel_memory.status(process)[0] for process in (kernel.manager.provisioner.pid, kernel.child())]
        print(
            f"kernel {number} of {rounds}: first result after {first[-1]:.1f} s, first variable {variable[-1]:.1f} s more; "
            f"memory {memory[0]:.0f} MB, of the process that runs the cells {memory[1]:.0f} MB",
            flush=True,
        )
        kernel.end()
    return first, variable, warm


def within(times: list[float], part: float) -> float:
    """What the given part of the times does not exceed."""
    return sorted(times)[max(0, math.ceil(part * len(times)) - 1)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    first, variable, warm = sessions(arguments.rounds)
    cells = []
    for path in sorted((arguments.project / "notebooks").glob("*.ipynb")):
        run = notebooks.execute(nbformat.read(path, as_version=4), path.parent, path.stem, stop_early=True)
        if run.found:
            raise SystemExit("\n".join(run.found))
        print(f"{path.stem}: {run.report()}", flush=True)
        # The first cell waits for rust-analyzer, which is the row above.
        cells += run.times[1:]
    rows = [
        (f"kernel start to first result, median of {len(first)}", statistics.median(first), "20"),
        (f"the first variable after it, median of {len(variable)}", statistics.median(variable), ""),
        (f"quick cells, median of {len(warm)}", statistics.median(warm), "0.8"),
        ("quick cells, 90 in 100 within", within(warm, 0.9), "1.5"),
        (f"the notebooks' own cells with their work, median of {len(cells)}", statistics.median(cells), "0.8"),
        ("the notebooks' own cells with their work, 90 in 100 within", within(cells, 0.9), "1.5"),
    ]
    print("\n| | s | aim |\n|---|---|---|")
    for name, time_, aim in rows:
        print(f"| {name} | {time_:.2f} | {aim} |")


if __name__ == "__main__":
    main()
