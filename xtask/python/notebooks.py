"""Runs notebooks in the real kernel, compares what they show with what is committed, and makes pages of them.

    notebooks.py NOTEBOOK --out FOLDER [--project FOLDER] [--compare] [--write]

What their texts say of the outputs is checked as well, by `said.py`.

Writes FOLDER/NAME.ipynb, NAME.html and NAME.txt (the last table shown by a cell tagged `result`).

A notebook fails when a cell ends in an error (of compilation, a `?` that failed, a panic), writes to standard error, shows a picture or a table
as Rust's `{:?}`, or never ends. With --compare it also fails when a cell shows something else than it did when it was committed:

* text must be the same, frames of tables and spaces aside;
* whole numbers must be the same, others must agree to three significant digits;
* times and rates are not compared, nor is what is printed or shown while a cell runs;
* images and pages must be there.

A cell's metadata can loosen that:  "ia2": {"band": 0.1}  numbers may differ by 0.1 (by 0.1 of their size where that is more);
"ia2": {"compare": false}  only the kinds of output are compared;  "ia2": {"stderr": true}  standard error is expected.

The code in the answer to an exercise (```rust in a Markdown cell with  "ia2": {"answer": ".."}) is run in its place, and what it shows is compared with
that text by the same rules.

A notebook's own metadata can ask for more:

* "ia2": {"twice": true}  it is executed a second time, with what the first left on disk: the outputs must be the same by the rules above;
* "ia2": {"keeps": "target/figures/runs"}  the second time, the .json files in this folder must be found and left as they are;
* "ia2": {"beside": ["../shared/data/sst2"]}  files that its committed outputs depend on, relative to the project. Where one is absent it
  has to run, but its outputs are not compared, and a line `SKIPPED: ..` says so;
* "ia2": {"needs": [".ia2/models/smollm2"]}  files that it cannot run without. Where one is absent the notebook is skipped, with such a line.
"""

import argparse
import copy
import math
import queue
import re
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter

import said

START_TIMEOUT = 600  # seconds; a kernel whose library has been edited compiles it first
CELL_TIMEOUT = 1200
KEYS = {"twice", "keeps", "beside", "needs"}

UNIT = r"(?:ns|µs|us|ms|s|sec|seconds|min|h|(?:[a-z]+)/s|(?:s|ms)/[a-z]+)"
TIME = re.compile(rf"(?<![\w.])\d[\d.,]*\s?{UNIT}(?![\w/])|(?<!\d)\d+:\d\d(?::\d\d)?(?!\d)")
NUMBER = re.compile(r"(?<![A-Za-z_\d.])[-+−]?\d[\d_,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
# A picture or a table as Rust's `{:?}` writes it, where evcxr did not find how it shows itself.
UNSHOWN = re.compile(r"\b(?:Figure\(|Figures \{|Table\(\d+ rows)")
FRAME = re.compile(r"[\s│┌┐└┘─┬┴├┤┼╞╡═╪┆╭╮╰╯]+")


class Problem(Exception):
    """Why a notebook does not pass."""


def shown(cell):
    """What a cell shows as its results: text, and the kinds of everything."""
    results = [output for output in cell.get("outputs", []) if output["output_type"] == "execute_result"]
    text = "\n".join(output["data"].get("text/plain", "") for output in results)
    kinds = sorted({kind for output in results for kind, content in output["data"].items() if content})
    return text, kinds


def differences(committed: str, now: str, band: float | None) -> list[str]:
    """How two texts differ beyond what is allowed."""

    def split(text):
        text = TIME.sub("<time>", text)
        numbers = NUMBER.findall(text)
        words = FRAME.sub(" ", NUMBER.sub("#", text)).strip()
        return words, numbers

    old_words, old_numbers = split(committed)
    new_words, new_numbers = split(now)
    if old_words != new_words:
        return [f"the text changed:\n      before: {clip(old_words)}\n      now:    {clip(new_words)}"]
    found = []
    for old, new in zip(old_numbers, new_numbers):
        if not close(old, new, band):
            found.append(f"{old} became {new}")
    return found


def close(old: str, new: str, band: float | None) -> bool:
    if old == new:
        return True
    a, b = (float(re.sub(r"[_,]", "", number).replace("−", "-")) for number in (old, new))
    size = max(abs(a), abs(b))
    if band is not None:
        return abs(a - b) <= band * max(1.0, size) + 1e-12
    if not any(mark in old + new for mark in ".eE"):
        return False
    third_digit = 10.0 ** (math.floor(math.log10(size)) - 2) if size > 0 else 0.0
    return abs(a - b) <= third_digit * 1.0001 + 1e-7


def clip(text: str, width: int = 300) -> str:
    return text if len(text) <= width else text[:width] + " …"


def problems_of(cell) -> list[str]:
    """What is wrong with a cell's outputs, whatever they were before."""
    settings = cell.metadata.get("ia2", {})
    found = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "error":
            found.append("error: " + clip(re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"]) or output["evalue"]), 2000))
        elif output["output_type"] == "stream":
            if output["name"] == "stderr" and not settings.get("stderr"):
                found.append("standard error: " + clip(output["text"], 2000))
            if "EVCXR_" in output["text"]:
                found.append("a line was left without its end before a result was shown: " + clip(output["text"][-300:]))
        elif set(output["data"]) == {"text/plain"} and UNSHOWN.search(output["data"]["text/plain"]):
            found.append("a picture or table shows as Rust's `{:?}`, not as itself: " + clip(output["data"]["text/plain"]))
    return found


def late_output(client, cell) -> None:
    """evcxr passes standard error on by itself, sometimes after it has said that the cell is done, when nobody listens any more."""
    receive = run_sync(client.kc.iopub_channel.get_msg)
    try:
        while True:
            message = receive(timeout=0.1)
            if message["msg_type"] == "stream":
                cell.outputs.append(nbformat.v4.output_from_msg(message))
    except queue.Empty:
        return


@dataclass
class Execution:
    """One run of a notebook in a kernel of its own: its outputs, what is wrong with them, and how long it took (in seconds)."""

    notebook: nbformat.NotebookNode
    found: list[str]
    times: list[float]  # of each cell
    first_result: float
    total: float

    @property
    def seconds(self) -> float:
        """The time of all cells, without the kernel's start."""
        return sum(self.times)

    def report(self) -> str:
        times = sorted(self.times) or [0.0]
        tenth = times[max(0, math.ceil(0.9 * len(times)) - 1)]
        return (
            f"{self.total:.1f} s; kernel start to first result {self.first_result:.1f} s; "
            f"{len(self.times)} cells {self.seconds:.1f} s: median {statistics.median(times):.2f} s, 90 in 100 within {tenth:.2f} s"
        )


def execute(notebook, folder: Path, name: str, stop_early: bool) -> Execution:
    """Runs a copy of the notebook in the folder; with `stop_early` not beyond a cell with an error."""
    notebook = copy.deepcopy(notebook)
    places = [place for place, cell in enumerate(notebook.cells) if is_code(cell) or said.has_answer(cell)]
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        kernel_name="ia2",
        timeout=CELL_TIMEOUT,
        startup_timeout=START_TIMEOUT,
        allow_errors=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    found, times, first_result, answers = [], [], 0.0, []
    started = time.monotonic()
    with client.setup_kernel():
        for number, place in enumerate(places, 1):
            own = notebook.cells[place]
            cell = own if is_code(own) else nbformat.v4.new_code_cell(said.answer_code(own))
            # The client writes what a cell updates later, such as its progress, into the notebook's cell of this number.
            notebook.cells[place] = cell
            if own is not cell:
                answers.append((place, own, cell))
            begun = time.monotonic()
            title = next(line for line in cell.source.splitlines() if line.strip())
            try:
                client.execute_cell(cell, place)
            except (CellTimeoutError, DeadKernelError) as error:
                reason = f"{error or type(error).__name__}; a line left without its end can hang a cell"
                found.append(f"cell {number} ({clip(title, 60)}): {reason}")
                break
            ended = time.monotonic()
            late_output(client, cell)
            times.append(ended - begun)
            first_result = first_result or ended - started
            print(f"  {name} [{number}/{len(places)}] {ended - begun:6.2f} s  {clip(title, 90)}", flush=True)
            trouble = problems_of(cell)
            found += [f"cell {number} ({clip(title, 60)}): {one}" for one in trouble]
            if trouble and stop_early:
                break
    for place, own, cell in answers:
        notebook.cells[place] = own
        own.metadata["ia2"]["answer"] = shown(cell)[0]
    return Execution(notebook, found, times, first_result, time.monotonic() - started)


def is_code(cell) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if is_code(cell)]


def changes(before, now, what: str) -> list[str]:
    """How the outputs of two notebooks of the same cells differ beyond what their metadata allows; `what` the first one's are."""
    found = []
    for number, (old, new) in enumerate(zip(code_cells(before), code_cells(now)), 1):
        settings = new.metadata.get("ia2", {})
        (old_text, old_kinds), (text, kinds) = shown(old), shown(new)
        if kinds != old_kinds:
            found.append(f"cell {number}: shows {kinds or 'nothing'}, and {old_kinds or 'nothing'} {what}")
        elif settings.get("compare", True):
            found += [f"cell {number}: {one}" for one in differences(old_text, text, settings.get("band"))]
    for old, new in zip(before.cells, now.cells):
        if said.has_answer(old):
            old, new = old.metadata["ia2"], new.metadata["ia2"]
            found += [f"the answer to an exercise: {one}" for one in differences(old["answer"], new["answer"], new.get("band"))]
    return found


def kept(folder: Path) -> dict[Path, int]:
    """When each .json file in a folder was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


def settings_of(notebook) -> tuple[bool, str, list[str], list[str]]:
    """A notebook's `twice`, `keeps`, `beside` and `needs`; a misspelt key would quietly check less."""
    settings = notebook.metadata.get("ia2", {})
    if unknown := set(settings) - KEYS:
        raise Problem(f"    the notebook's metadata `ia2` has {sorted(unknown)}; known are {sorted(KEYS)}")
    twice, keeps = settings.get("twice", False), settings.get("keeps", "")
    beside, needs = settings.get("beside", []), settings.get("needs", [])
    lists = all(isinstance(paths, list) and all(isinstance(path, str) for path in paths) for paths in (beside, needs))
    if not isinstance(twice, bool) or not isinstance(keeps, str) or (keeps and not twice) or not lists:
        form = "{'twice': true or false, 'keeps': path (with twice), 'beside': [paths], 'needs': [paths]}"
        raise Problem(f"    the notebook's metadata `ia2` must be {form}, it is {settings}")
    return twice, keeps, beside, needs


def run(path: Path, out: Path, project: Path, compare: bool, write: bool) -> None:
    committed = nbformat.read(path, as_version=4)
    twice, keeps, beside, needs = settings_of(committed)
    missing = ", ".join(f"`{place}`" for place in needs if not (project / place).exists())
    if missing:
        if write:
            raise Problem(f"    not written: it needs {missing}, not here")
        print(f"SKIPPED: notebook {path.stem}: it needs {missing}, not here", flush=True)
        return
    absent = [place for place in beside if not (project / place).exists()]
    first = execute(committed, path.parent, path.stem, stop_early=not compare)
    notebook, found = first.notebook, list(first.found)
    print(f"  {path.stem}: {first.report()}", flush=True)
    if compare and not found and not absent:
        found += changes(committed, notebook, "is committed")
    if compare:
        found += said.problems(committed)
    if twice and not first.found:
        left = kept(project / keeps) if keeps else {}
        again = execute(committed, path.parent, f"{path.stem}, again", stop_early=not compare)
        print(f"  {path.stem}, again: {again.report()}", flush=True)
        print(f"  {path.stem}: its cells took {first.seconds:.1f} s, and {again.seconds:.1f} s the second time", flush=True)
        found += [f"second execution, {one}" for one in again.found or changes(notebook, again.notebook, "the first time")]
        if keeps and (not left or kept(project / keeps) != left):
            made = len(set(kept(project / keeps).items()) - set(left.items()))
            found.append(f"`{keeps}` had {len(left)} files after the first execution, and the second wrote {made}: is what it makes kept on disk?")

    tidy(notebook)
    out.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out / path.name)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    (out / f"{path.stem}.html").write_text(page, encoding="utf-8")
    results = [shown(cell)[0] for cell in code_cells(notebook) if "result" in cell.metadata.get("tags", [])]
    (out / f"{path.stem}.txt").write_text((results or [""])[-1], encoding="utf-8")

    names = ", ".join(f"`{place}`" for place in absent)
    if write and absent:
        found.append(f"not written: its outputs are to be those with {names}, not here")
    if found:
        raise Problem("\n".join(f"    {one}" for one in found))
    if compare and absent:
        print(f"SKIPPED: notebook {path.stem}: without {names} it ran, but its outputs are not the committed ones: not compared", flush=True)
    if write:
        nbformat.write(notebook, path)
        print(f"  {path.stem}: written with its outputs")
        if untrue := said.problems(notebook):
            raise Problem("\n".join(f"    {one}" for one in ["its text says otherwise than its outputs:", *untrue]))


def tidy(notebook) -> None:
    """Leaves nothing of this run but its outputs."""
    notebook.metadata = {
        **{key: value for key, value in notebook.metadata.items() if key in ("title", "ia2")},
        "kernelspec": {"display_name": "Rust (ia2)", "language": "rust", "name": "ia2"},
        "language_info": {"file_extension": ".rs", "mimetype": "text/rust", "name": "rust", "pygments_lexer": "rust"},
    }
    count = 0
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if is_code(cell):
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = count


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    try:
        run(arguments.notebook.resolve(), arguments.out, arguments.project.resolve(), arguments.compare, arguments.write)
    except Problem as problem:
        print(f"  {arguments.notebook.stem}: FAILED\n{problem}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
