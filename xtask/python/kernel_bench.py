"""How quick the notebook kernel is: `cargo xtask bench kernel`.

    kernel_bench.py PROJECT [--rounds N]

Starts the kernel N times, then executes every notebook once, each with a kernel of its own. Prints a table: seconds and what is aimed at.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import start_new_kernel

import notebooks

# Quick cells of every kind: values, the library's values, printing.
CELLS = ["let a = 1 + 1;", "a * 2", 'let name = format!("{a}");', "name.len()", "let t = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));"]
CELLS += ["let s = t.sum(Kind::Float).double_value(&[]);", "&t", 'println!("{s}");', 'let task = Task::open("sentiment")?;', "&task"]


def seconds(client, code: str) -> float:
    began = time.monotonic()
    reply = client.execute_interactive(code, output_hook=lambda _: None, timeout=notebooks.CELL_TIMEOUT)
    if reply["content"]["status"] != "ok":
        raise SystemExit(f"the cell failed: {code}")
    return time.monotonic() - began


def sessions(rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Of each session: start to first result, the first variable after it; and all quick cells that follow."""
    first, variable, warm = [], [], []
    for number in range(1, rounds + 1):
        began = time.monotonic()
        manager, client = start_new_kernel(kernel_name="ia2", startup_timeout=notebooks.START_TIMEOUT)
        seconds(client, "1 + 1")
        first.append(time.monotonic() - began)
        variable.append(seconds(client, "let begun = 1;"))
        warm += [seconds(client, cell) for cell in CELLS]
        print(f"kernel {number} of {rounds}: first result after {first[-1]:.1f} s, first variable {variable[-1]:.1f} s more", flush=True)
        client.stop_channels()
        manager.shutdown_kernel()
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
