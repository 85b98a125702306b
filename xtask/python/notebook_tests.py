"""What running notebooks (notebooks.py) lets pass and what not, without a kernel. Prints like cargo's tests."""

import contextlib
import copy
import io
import json
import sys
import tempfile
import traceback
from pathlib import Path
from unittest import mock

import nbformat

import notebooks
import said


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
    """`notebooks.run` on a committed notebook, where each execution gives the next of `results`: texts, the seconds of each cell, and files for the folder `runs`."""

    def __init__(self, committed, *results, compare=True, write=False, here=()):
        results = list(results)

        def execute(given, notebooks_folder, _name, stop_early):
            texts, seconds, *files = results.pop(0)
            for place, text in (files[0] if files else {}).items():
                file = notebooks_folder.parent / "runs" / place
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
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


def a_second_execution_finds_what_the_first_kept():
    def problem(first, second):
        return Run(notebook("1", twice=True, keeps="runs"), (["1"], 1, first), (["1"], 1, second)).problem

    assert not problem({"a.json": "1", "b/c.json": "1"}, {"other.txt": "1"})
    assert "had 0 files" in problem({}, {})
    assert "had 1 files" in problem({"a.json": "1"}, {"b.json": "1"})
    assert "the second wrote 1" in problem({"a.json": "1"}, {"a.json": "1"})


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
    for settings in [{"twise": True}, {"twice": 1}, {"keeps": "runs"}, {"twice": True, "keeps": 1}, {"beside": "../shared"}, {"beside": [1]}, {"needs": "it"}]:
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


TABLE = """
                  SFT            SFT            IA2
task  N  accuracy (%)            ECE            ECE
────  ─  ────────────  ─────────────  ─────────────
SST2  2   52.9 (10.5)          0.266  **0.308 (1)**
      4          58.7  1,234.5 (0.2)              –
a note below: 99
"""


def told(text, *checks, constants=(), answer=None, code="few_shot(8, 0)"):
    """What is wrong with this text after a cell that shows a table, and one that shows a figure in words."""
    made = nbformat.v4.new_notebook()
    metadata = {"ia2": {"checks": list(checks), "constants": list(constants)} | ({} if answer is None else {"answer": answer})}
    made.cells = [nbformat.v4.new_code_cell(code, id="table"), nbformat.v4.new_code_cell("", id="picture"), nbformat.v4.new_markdown_cell(text, id="own", metadata=metadata)]
    for cell, shows in zip(made.cells, (TABLE, "[figure] SFT: 0.1 to 0.4, mean 0.25; IA2: −0.16, mean 0.5")):
        cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": shows})]
    return said.problems(made)


def a_number_in_a_text_has_to_come_from_somewhere():
    assert "nothing vouches for `0.25`" in told("asim is 0.25")[0]
    assert "nothing vouches for `52`" in told("and 52 % of them")[0] and "`−0.16`" in told("is −0.16 here")[0]
    assert not told("asim is 0.25", constants=["0.25"])
    assert "the constant `0.25` is not in it" in told("asim is 0.26", constants=["0.25", "0.26"])[0]
    # Settings stand in the code; code, formulas and addresses are none of a text's claims.
    assert not told("eight examples, N = 8, `0.3`, $x = 0.3$, $$0.3$$ [a](b0.3.html) arXiv:2509.22621 SmolLM2-135M\n```rust\nf(0.3)\n```")
    for share in ("nine in ten", "four queries in ten", "about half of", "one time in three", "twice"):
        assert told(f"{share} of all"), share


def a_quoted_number_has_to_be_that_of_the_output():
    def row(says, row, column, **more):
        return {"says": says, "cell": "table", "row": row, "column": column, **more}

    def find(says, *find, **more):
        return {"says": says, "cell": "picture", "find": list(find), **more}

    assert not told("mean 0.25 it is", find("mean 0.25", "SFT: ", "mean "))
    assert not told("it is −0.2", find("−0.2", "IA2: ")) and not told("25 % of", find("25 %", "mean ", times=100))
    assert "the output has 0.25" in told("mean 0.26 it is", find("mean 0.26", "SFT: ", "mean "))[0]
    assert "the text does not say it" in told("nothing", find("mean 0.25", "mean "))[0]
    assert "`medium` is not there" in told("mean 0.25", find("mean 0.25", "medium"))[0]
    assert "there is no cell `x`" in told("mean 0.25", find("mean 0.25", "mean ", cell="x"))[0]
    # By its row and column, a repeated name filled in, whatever marks it.
    assert not told("52.9 %", row("52.9 %", ["SST2", "2"], ["SFT", "accuracy (%)"])) and not told("59 %", row("59 %", ["SST2", "4"], "accuracy (%)"))
    assert not told("0.308", row("0.308", "2", ["IA2", "ECE"])) and not told("1,234.5", row("1,234.5", "4", ["SFT", "ECE"]))
    assert "2 values stand in" in told("0.308", row("0.308", "2", "ECE"))[0] and "0 values stand in" in told("99", row("99", "8", "ECE"))[0]
    # Rules, with and without a number in the text.
    assert not told("it stays at chance, half", find("stays at chance", "IA2: ", "mean ", **{"is": "0.5 +- 0.05"}), constants=["half"])
    assert "(above 0.3)`" not in told("it is high", find("is high", "SFT: ", "mean ", **{"is": "above 0.3"}))[0]
    assert "the output has 0.25" in told("it is high", find("is high", "SFT: ", "mean ", **{"is": "above 0.3"}))[0]
    assert "is no rule" in told("it is high", find("is high", "mean ", **{"is": "high"}))[0]
    assert not told("SST2 first", row("SST2 first", "2", "task", **{"is": "it contains SST2"})) and told("S first", row("S first", "2", "task", **{"is": "it contains FinS"}))
    assert "says 2 numbers" in told("0.25 or 0.5", find("0.25 or 0.5", "mean "))[0]
    assert "a check has" in told("0.25", {"says": "0.25", "cell": "picture"})[0]
    assert "metadata `ia2` has ['chekcs']" in said.problems(notebook("1", cells={0: {"chekcs": []}}))[0]


def answers_of_exercises_are_run_and_quoted():
    text = "accuracy is 0.41\n```rust\naccuracy(0.41)\n```\nand\n```rust\nagain()\n```"
    check = {"says": "0.41", "cell": "own", "find": ["it is "]}
    assert not told(text, check, answer="it is 0.412") and "the output has 0.5" in told(text, check, answer="it is 0.5")[0]

    class Client:
        """A kernel that shows each cell's own source."""

        def __init__(self, given, **_):
            self.given = given

        def setup_kernel(self):
            return contextlib.nullcontext()

        def execute_cell(self, cell, place):
            # Updates of what it shows are written into the notebook's cell of this number.
            assert self.given.cells[place] is cell
            cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": cell.source})]

    before = notebook("1")
    before.cells.append(nbformat.v4.new_markdown_cell(text, metadata={"ia2": {"answer": "old"}}))
    with mock.patch.object(notebooks, "NotebookClient", Client), mock.patch.object(notebooks, "late_output"), contextlib.redirect_stdout(io.StringIO()):
        done = notebooks.execute(before, Path(), "some", stop_early=False)
    last = done.notebook.cells[-1]
    assert last.cell_type == "markdown" and last.source == text and last.metadata["ia2"]["answer"] == "accuracy(0.41)\n\nagain()\n", last
    assert "the answer to an exercise: the text changed" in notebooks.changes(before, done.notebook, "is committed")[-1]


def a_text_that_its_outputs_do_not_bear_out_fails_the_notebook():
    wrong = notebook("asim 0.5")
    wrong.cells[0].source = "asim is 0.75"
    assert "nothing vouches for `0.75`" in Run(wrong, (["asim 0.5"], 1)).problem
    # New outputs are written all the same: the text can then follow them.
    done = Run(wrong, (["asim 0.6"], 1), compare=False, write=True)
    assert "says otherwise than its outputs" in done.problem and notebooks.shown(notebooks.code_cells(done.written)[0])[0] == "asim 0.6"


def the_committed_notebooks_say_what_they_show():
    for path in sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb")):
        found = said.problems(json.loads(path.read_text(encoding="utf-8")))
        assert not found, "\n".join([path.name, *found])


def main() -> int:
    tests = [
        a_number_in_a_text_has_to_come_from_somewhere,
        a_quoted_number_has_to_be_that_of_the_output,
        answers_of_exercises_are_run_and_quoted,
        a_text_that_its_outputs_do_not_bear_out_fails_the_notebook,
        the_committed_notebooks_say_what_they_show,
        outputs_have_to_be_those_committed,
        a_second_execution_is_made_where_the_notebook_asks_for_it,
        a_second_execution_finds_what_the_first_kept,
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
