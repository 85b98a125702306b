"""What running notebooks (notebooks.py) lets pass and what not, without a kernel. Prints like cargo's tests."""

import contextlib
import copy
import io
import sys
import tempfile
import traceback
from pathlib import Path
from unittest import mock

import nbformat

import notebooks


def notebook(*outputs: str, cells=None, **settings):
    """A notebook whose cells show these texts; `cells` their metadata, `settings` the notebook's own."""
    made = nbformat.v4.new_notebook()
    made.metadata["title"] = "kept"
    if settings:
        made.metadata["ia2"] = settings
    for place, text in enumerate(outputs):
        cell = nbformat.v4.new_code_cell(f"cell {place}", metadata={"ia2": (cells or {}).get(place, {})})
        cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": text}, execution_count=7)] if text else []
        made.cells += [nbformat.v4.new_markdown_cell("said"), cell]
    return made


class Run:
    """`notebooks.run` on a committed notebook, where each execution gives the next of `results`: texts with the seconds of each cell."""

    def __init__(self, committed, *results, compare=True, write=False, here=()):
        results = list(results)

        def execute(given, _folder, _name, stop_early):
            texts, seconds = results.pop(0)
            made = copy.deepcopy(given)
            for cell, text in zip(notebooks.code_cells(made), texts):
                cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": text})]
            return notebooks.Execution(made, [], [seconds] * len(texts), 20.0, 20.0 + seconds * len(texts))

        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            path = folder / "project/notebooks/some.ipynb"
            path.parent.mkdir(parents=True)
            for place in here:
                (folder / "project" / place).mkdir(parents=True)
            nbformat.write(committed, path)
            before, printed = path.read_text(), io.StringIO()
            try:
                with contextlib.redirect_stdout(printed), mock.patch.object(notebooks, "execute", execute):
                    notebooks.run(path, folder / "out", folder / "project", compare, write)
                self.problem = ""
            except notebooks.Problem as problem:
                self.problem = str(problem)
            self.printed, self.left = printed.getvalue(), len(results)
            self.written = nbformat.read(path, as_version=4) if path.read_text() != before else None


def outputs_have_to_be_those_committed():
    assert not Run(notebook("loss 0.1234", "8 rows"), (["loss 0.12338", "8 rows"], 1)).problem
    assert "cell 2: 8 became 9" in Run(notebook("loss 0.1234", "8 rows"), (["loss 0.1234", "9 rows"], 1)).problem
    assert "nothing is committed" in Run(notebook(""), (["8 rows"], 1)).problem
    assert not Run(notebook("0.5", cells={0: {"band": 0.1}}), (["0.55"], 1)).problem
    assert not Run(notebook("0.5", cells={0: {"compare": False}}), (["gone"], 1)).problem


def a_second_execution_is_made_where_the_notebook_asks_for_it():
    fine = Run(notebook("1", twice=True), (["1"], 120), (["1"], 3))
    assert not fine.problem and fine.left == 0 and "120.0 s, and 3.0 s the second time" in fine.printed, fine.printed
    assert Run(notebook("1"), (["1"], 120), (["1"], 3)).left == 1
    assert Run(notebook("1", twice=False), (["1"], 120), (["1"], 3)).left == 1
    # Where the first is wrong already, the second is still looked at: both are told of at once.
    both = Run(notebook("1", twice=True), (["2"], 1), (["3"], 1)).problem
    assert "cell 1: 1 became 2" in both and "second execution, cell 1: 2 became 3" in both, both
    written = Run(notebook("1", twice=True), (["2"], 9), (["3"], 1), compare=False, write=True)
    assert "second execution" in written.problem and written.written is None


def a_second_execution_has_to_be_quick():
    assert not notebooks.too_slow(120, 39) and notebooks.too_slow(120, 41)
    assert not notebooks.too_slow(1, 19.9) and notebooks.too_slow(1, 20.1) and notebooks.too_slow(30, 21)
    slow = Run(notebook("1", twice=True), (["1"], 120), (["1"], 60)).problem
    assert "60.0 s, the first 120.0 s" in slow and "kept on disk" in slow, slow


def what_lies_beside_decides_whether_outputs_are_compared():
    committed = notebook("a story", beside=["../shared/model", "../shared/data"])
    both = ["../shared/model", "../shared/data"]
    assert "the text changed" in Run(committed, (["another"], 1), here=both).problem
    fine = Run(committed, (["a story"], 1), here=both)
    assert not fine.problem and "SKIPPED" not in fine.printed
    alone = Run(committed, (["another"], 1), here=both[:1])
    lines = [line for line in alone.printed.splitlines() if "SKIPPED: " in line]
    assert not alone.problem and len(lines) == 1 and "`../shared/data`" in lines[0] and "shared/model" not in lines[0], alone.printed
    refused = Run(committed, (["another"], 1), compare=False, write=True)
    assert "not written" in refused.problem and refused.written is None


def what_a_notebook_needs_decides_whether_it_runs():
    committed = notebook("1", needs=[".ia2/models/real"])
    assert "cell 1: 1 became 2" in Run(committed, (["2"], 1), here=[".ia2/models/real"]).problem
    absent = Run(committed, (["2"], 1))
    assert not absent.problem and absent.left == 1 and "SKIPPED: notebook some: it needs `.ia2/models/real`" in absent.printed, absent.printed
    refused = Run(committed, (["2"], 1), compare=False, write=True)
    assert "not written" in refused.problem and refused.written is None


def writing_keeps_the_outputs_and_the_settings():
    done = Run(notebook("1", twice=True, beside=["../shared"]), (["2"], 1), (["2"], 1), compare=False, write=True, here=["../shared"])
    assert not done.problem
    assert done.written.metadata["ia2"] == {"twice": True, "beside": ["../shared"]} and done.written.metadata["title"] == "kept"
    cell = notebooks.code_cells(done.written)[0]
    assert notebooks.shown(cell)[0] == "2" and cell.execution_count == 1
    assert Run(notebook("1"), (["2"], 1)).written is None


def misspelt_settings_are_refused():
    for settings in [{"twise": True}, {"twice": 1}, {"beside": "../shared"}, {"beside": [1]}, {"needs": "it"}]:
        assert "metadata `ia2`" in Run(notebook("1", **settings), (["1"], 1)).problem, settings


def a_picture_has_to_show_itself():
    def problems(**data):
        cell = nbformat.v4.new_code_cell("figure")
        cell.outputs = [nbformat.v4.new_output("execute_result", {kind.replace("_", "/"): text for kind, text in data.items()})]
        return notebooks.problems_of(cell)

    for text in ("Figure(Bar chart of accuracy)", "Some(Figure(Lines))", "Figures { figures: [Figure(a)] }", "(Table(2 rows x 3 columns), 1)"):
        assert "not as itself" in problems(text_plain=text)[0], text
    assert not problems(text_plain="[figure] Bar chart", text_html="<img>", image_png="aa")
    assert not problems(text_plain="Figure(the name of a row)", text_html="<table>")
    assert not problems(text_plain="Study(12 runs)")


def times_are_reported():
    line = next(line for line in Run(notebook("1", "2"), (["1", "2"], 1.5)).printed.splitlines() if "median" in line)
    assert "some: 23.0 s" in line and "2 cells 3.0 s: median 1.50 s, 90 in 100 within 1.50 s" in line, line


def main() -> int:
    tests = [
        outputs_have_to_be_those_committed,
        a_second_execution_is_made_where_the_notebook_asks_for_it,
        a_second_execution_has_to_be_quick,
        what_lies_beside_decides_whether_outputs_are_compared,
        what_a_notebook_needs_decides_whether_it_runs,
        writing_keeps_the_outputs_and_the_settings,
        misspelt_settings_are_refused,
        a_picture_has_to_show_itself,
        times_are_reported,
    ]
    failed = 0
    for test in tests:
        try:
            test()
            word = "ok"
        except Exception:
            failed, word = failed + 1, "FAILED"
            traceback.print_exc(file=sys.stdout)
        print(f"test notebooks::{test.__name__} ... {word}", flush=True)
    print(f"\ntest result: {'FAILED' if failed else 'ok'}. {len(tests) - failed} passed; {failed} failed; 0 ignored")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
