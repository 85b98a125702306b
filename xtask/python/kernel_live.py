"""While a cell runs: values that show themselves and change, and an editor that is answered."""

import base64
import re
import time

import nbformat
from nbclient import NotebookClient

from kernel_interrupts import READY, Watched

SHOWS = """use ia2::display::{Bundle, Live};
let place = Live::new();
print!("half");
for step in 1..=3 {
    place.show(&Bundle::text(format!("step {step} of 3")));
    std::thread::sleep(std::time::Duration::from_millis(300));
}
place.is_live()"""
# Long enough to be shown several times.
TRAINS = """let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(8, 0)?;
let budget = std::time::Duration::from_secs(9);
let run = Training::new(Lora::rank(2), Sft::gold()).epochs(100000).patience(1000000).check_every(20).at_most(budget).run(&Model::open("tiny-icl")?, &split)?;"""
GRID = """let study = Experiment::new(&Model::open("tiny-icl")?).tasks(&["sentiment"]).sizes(&[2, 4]).runs(16).methods(&[Method::Icl, Method::Sft])
    .learning_rates(&[1e-3, 3e-3]).epochs(30).test_at_most(48).compared_at_most(4).folder("live_grid").run()?;"""


def a_value_changes_in_its_place(kernel):
    """At once, in one place, and apart from what is printed."""
    cell = Watched(kernel, SHOWS)
    assert cell.end()["status"] == "ok", cell.error
    kinds = [kind for _, kind, _ in cell.live]
    assert kinds == ["display_data", "update_display_data", "update_display_data"], kinds
    assert len({content["transient"]["display_id"] for _, _, content in cell.live}) == 1
    assert [content["data"] for _, _, content in cell.live] == [{"text/plain": f"step {step} of 3"} for step in (1, 2, 3)]
    times = [when for when, _, _ in cell.live]
    assert times[2] - times[0] > 0.4 and cell.stdout == "half\n", (times, cell.stdout)


def progress_is_one_element(kernel):
    """A bar, numbers and the loss curve, at most every two seconds; no lines."""
    cell = Watched(kernel, TRAINS)
    assert cell.end()["status"] == "ok", cell.error
    assert not cell.stdout, cell.stdout
    times = [when for when, _, _ in cell.live]
    assert 3 <= len(times) <= 6, times
    # The last one comes with the end.
    assert all(later - sooner > 1.9 for sooner, later in zip(times, times[1:-1])), times
    assert len({content["transient"]["display_id"] for _, _, content in cell.live}) == 1
    pages = [content["data"]["text/html"] for _, _, content in cell.live]
    assert all("<progress value=" in page for page in pages[:-1]) and "<progress" not in pages[-1], pages[-1][:200]
    for page in pages:
        picture = base64.b64decode(re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', page)[1]).decode()
        assert picture.count("<polyline") == 2 and ">train " in picture and ">dev " in picture, picture[:500]
    last = cell.live[-1][2]["data"]["text/plain"]
    assert "ended early in" in last and "loss " in last, last


def a_grid_shows_its_table_so_far(kernel):
    """With the training that is under way below it; the last state is a line."""
    cell = Watched(kernel, GRID)
    assert cell.end()["status"] == "ok", cell.error
    pages = [content["data"] for _, _, content in cell.live]
    assert len(pages) >= 2 and any("<table" in page["text/html"] for page in pages), pages
    assert re.match(r"experiment  \d+/\d+  done in", pages[-1]["text/plain"]) and "<table" not in pages[-1]["text/html"], pages[-1]
    assert not cell.stdout, cell.stdout


def only_the_last_state_is_saved(kernel):
    """As nbclient, papermill and nbconvert execute a notebook."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SHOWS)], metadata={"kernelspec": {"name": "ia2", "display_name": "Rust"}})
    NotebookClient(notebook, kernel_name="ia2", startup_timeout=600, resources={"metadata": {"path": kernel.folder.name}}).execute()
    outputs = notebook.cells[0].outputs
    assert [output["output_type"] for output in outputs if output["output_type"] != "stream"] == ["display_data", "execute_result"], outputs
    shown = next(output for output in outputs if output["output_type"] == "display_data")
    assert shown["data"]["text/plain"] == "step 3 of 3", shown
    assert outputs[-1]["data"]["text/plain"] == "true", outputs[-1]


def an_editor_is_answered_while_a_cell_runs(kernel):
    """Tab and Shift-Tab, with what the running cell makes and what there was before; and the kernel says that it is still busy."""
    kernel.run(READY, quiet=True)
    seconds = 6
    cell = Watched(kernel, f'let made_now = kept + 1;\nprintln!("go");\nstd::thread::sleep(std::time::Duration::from_secs({seconds}));')
    cell.printed("go")
    began = time.monotonic()
    assert "kept_frame" in kernel.complete("kept_fr¦")
    assert any(match.startswith("made_now") for match in kernel.complete("made_n¦"))
    assert any(match.startswith("respond(") for match in kernel.complete("model.re¦"))
    assert "fn evaluate" in kernel.inspect("eval¦uate(&model)")
    assert "made_now: i64" in kernel.inspect("made_¦now")
    kernel.complete(":de¦")
    took = time.monotonic() - began
    assert took < seconds - 1, took
    reply = cell.end()
    assert reply["status"] == "ok", reply
    # "idle" behind each answer is the answer's; the cell's own state is told again after it.
    assert cell.states.count("busy") > 5 and cell.states[-1] == "idle", cell.states
    assert "made_now" in kernel.complete("made_n¦")
    assert kernel.run('println!("{made_now}");', quiet=True).stdout.strip() == "42"


TESTS = [
    a_value_changes_in_its_place,
    progress_is_one_element,
    a_grid_shows_its_table_so_far,
    only_the_last_state_is_saved,
    an_editor_is_answered_while_a_cell_runs,
]
