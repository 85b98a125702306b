"""Cells that fail: what Jupyter is told, what the reader sees, and what is still there."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat

from kernel import CELL_TIMEOUT


def failed(kernel, code: str, *parts: str):
    """Runs a cell that has to fail with these in its text, and says all that it gave."""
    result = kernel.run(code, fails=True)
    assert result.reply["status"] == "error" and result.error, (code, result.reply)
    assert all(part in result.error for part in parts), (code, result.error)
    assert not result.stderr, (code, result.stderr)
    # The reply and the message hold the same; nbclient takes its exception from the reply.
    assert result.reply["evalue"] and result.reply["ename"] and result.reply["traceback"], result.reply
    return result


def a_cell_that_fails_says_so(kernel):
    """By `?`, by a panic, by an error of compilation: status, name, text and line; what it printed and showed before is there."""
    kernel.run("let kept = 41i64;\nfn half(n: i64) -> i64 {\n    if n % 2 == 1 {\n        panic!(\"{n} is odd\");\n    }\n    n / 2\n}", quiet=True)
    result = failed(kernel, 'let a = 1;\n\nlet n = "b".parse::<i64>()?;', "invalid digit", 'in line 3 of the cell: let n = "b".parse', "not kept, because the cell did not end: a, n")
    assert result.reply["ename"] == "core::num::error::ParseIntError" and "invalid digit" in result.reply["evalue"], result.reply
    result = failed(kernel, 'Model::open("no/such/folder")?', "ia2::error::Error: ", "no/such/folder", "in line 1 of the cell: Model::open")
    assert "not kept" not in result.error, result.error
    result = failed(kernel, "let many = 3;\nif many > 2 {\n    panic!(\"{many} are\\ntoo many\");\n}", "panic: 3 are\ntoo many", "in line 3 of the cell: panic!")
    assert result.reply["ename"] == "panic" and result.reply["evalue"] == "3 are\ntoo many", result.reply
    # In a function of an earlier cell, and of another crate: the place is the compiler's.
    failed(kernel, "half(3)", "panic: 3 is odd", "  at ")
    failed(kernel, "let empty: Vec<i64> = Vec::new();\nempty[kept as usize]", "index out of bounds", "in line 2 of the cell: empty[")
    # What was printed without a newline, and what was shown, comes before.
    result = failed(kernel, 'println!("one");\nprint!("two");\n"shown".evcxr_display();\nlet n = "c".parse::<i64>()?;', "in line 4")
    assert result.stdout.split() == ["one", "two"] and result.shown["text/plain"] == "shown", (result.stdout, result.shown)
    # libtorch's own text, without the frames of C++ that it would add.
    result = failed(kernel, "let t = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));\nt.matmul(&t);", "mat1 and mat2 shapes cannot be multiplied")
    assert "frame #" not in result.error and len(result.error) < 1000, result.error
    result = failed(kernel, "let wrong: i64 = true;", "mismatched types")
    assert "mismatched types" in result.reply["evalue"], result.reply
    assert kernel.run('println!("{}", kept + half(2));', quiet=True).stdout.strip() == "42"


def text_without_a_newline_hangs_nothing(kernel):
    """Flushed or not, it is printed by the cell that wrote it, and the cell ends; before a shown value as well."""
    for code in ('print!("half");', 'use std::io::Write;\nprint!("half");\nstd::io::stdout().flush()?;', 'print!("half");\nlet n = 1;'):
        assert kernel.run(code, quiet=True, timeout=60).stdout == "half\n", code
    result = kernel.run('print!("half");\n"shown"', quiet=True)
    assert (result.stdout, result.shown["text/plain"]) == ("half\n", "shown"), (result.stdout, result.shown)
    failed(kernel, 'print!("half");\npanic!("on purpose");', "on purpose")
    assert kernel.run('println!("{}", 1 + 1);', quiet=True).stdout == "2\n"


def what_is_caught_is_no_failure(kernel):
    """A panic of another thread, or one that the cell catches, does not fail the cell, and is not lost."""
    result = kernel.run('let other = std::thread::spawn(|| panic!("elsewhere")).join().is_err();', fails=True)
    assert result.reply["status"] == "ok" and "elsewhere" in result.stderr, (result.reply, result.stderr)
    code = 'let caught = std::panic::catch_unwind(|| { if std::env::args().count() > 0 { panic!("in the cell") } }).is_err();'
    result = kernel.run(code)
    assert result.reply["status"] == "ok" and "panicked and went on: in the cell" in result.stdout, (result.error, result.stdout)
    assert kernel.run('println!("{}", other && caught);', quiet=True).stdout.strip() == "true"


def what_a_failing_cell_defines_anew_stays_as_it_was(kernel):
    """A `let` of a name that is there: after a failure the old value is, whatever its type, unless the cell moved it."""
    kernel.run('let number = 7i64;\nlet mut list = vec![1i64];\nlet text = String::from("old");\nlet other = 1;', quiet=True)
    result = failed(kernel, 'let number = "b".parse::<i64>()?;')
    assert "not kept" not in result.error, result.error
    failed(kernel, 'let number = Model::open("no/such/folder")?;')
    failed(kernel, "let (number, list) = (list.len(), half_of(1));", "half_of")
    failed(kernel, 'list.push(2);\nlet text = text.len();\nlet fresh = 1;\nif list.len() > 1 { panic!("on purpose"); }', "not kept, because the cell did not end: fresh")
    answer = kernel.run('println!("{number} {list:?} {text} {other}");', quiet=True)
    assert answer.stdout.strip() == "7 [1, 2] old 1", answer.stdout
    # Moved by the cell itself: gone, as the cell is told, and everything else is there.
    failed(kernel, 'let text = text.into_bytes();\nlet number = "c".parse::<i64>()?;', "not kept, because the cell did not end: text\n"[:-1])
    assert "cannot find value `text`" in kernel.run("text", fails=True).error
    # Where nothing fails, the new value is there, of a moved one as well.
    kernel.run('let list = list.into_iter().map(|n| n * 2).collect::<Vec<_>>();\nlet number = "8".parse::<i64>()?;', quiet=True)
    assert kernel.run('println!("{number} {list:?} {other}");', quiet=True).stdout.strip() == "8 [2, 4] 1"


def cells_behind_a_failed_one_do_not_run(kernel):
    """Four cells sent at once, as "Run all" does: behind the failed one they are answered with `aborted`, unless they were to go on."""
    client = kernel.client

    def all_at_once(stop: bool) -> list[str]:
        cells = ["let first = 1;", '"b".parse::<i64>()?;', 'println!("third");', 'println!("fourth");']
        sent = [client.execute(cell, stop_on_error=stop) for cell in cells]
        replies = {}
        while len(replies) < len(sent):
            reply = client.get_shell_msg(timeout=CELL_TIMEOUT)
            replies[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
        return [replies[message] for message in sent]

    assert all_at_once(True) == ["ok", "error", "aborted", "aborted"]
    assert kernel.run('println!("{}", 1 + 1);', quiet=True).stdout == "2\n", "a cell sent later runs"
    assert all_at_once(False) == ["ok", "error", "ok", "ok"]
    # Sent as soon as the failure is known, a cell runs.
    for _ in range(5):
        message = client.execute('"b".parse::<i64>()?;')
        while client.get_shell_msg(timeout=CELL_TIMEOUT)["parent_header"]["msg_id"] != message:
            pass
        message = client.execute("let next = 1;")
        reply = client.get_shell_msg(timeout=CELL_TIMEOUT)
        assert reply["parent_header"]["msg_id"] == message and reply["content"]["status"] == "ok", reply["content"]
    kernel.run("1", quiet=True)


def a_notebook_stops_at_the_cell_that_fails(kernel):
    """`jupyter nbconvert --execute` exits with an error at a failing `?`, and does not run what is behind."""
    folder = Path(kernel.folder.name)
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "ia2", "display_name": "Rust (ia2)", "language": "rust"}})
    after = 'std::fs::write("went_on", "")?;'
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in ("let a = 1;", 'let b = Model::open("no/such/folder")?;', after)]
    nbformat.write(notebook, folder / "fails.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--output", "done.ipynb", "fails.ipynb"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=CELL_TIMEOUT, env=os.environ)
    assert done.returncode != 0 and "no/such/folder" in done.stderr, (done.returncode, done.stderr[-500:])
    assert not (folder / "went_on").exists() and not (folder / "done.ipynb").exists()


TESTS = [
    a_cell_that_fails_says_so,
    text_without_a_newline_hangs_nothing,
    what_is_caught_is_no_failure,
    what_a_failing_cell_defines_anew_stays_as_it_was,
    cells_behind_a_failed_one_do_not_run,
    a_notebook_stops_at_the_cell_that_fails,
]
