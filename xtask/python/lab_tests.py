"""The kernel in JupyterLab, as its reader sees it: a headless Chromium presses the keys and buttons.

    lab_tests.py PROJECT [--out FOLDER]

Wants JupyterLab and playwright in this Python, and a Chromium on the PATH; without them a line `SKIPPED: ..` says so. Leaves pictures of the page in
FOLDER. Prints like cargo's tests.
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from pathlib import Path

import nbformat

LONG = 300_000  # milliseconds: a kernel starts, a cell is compiled
READY = """use ia2::train::Stopped;
let kept_number = 41i64;
let kept_text = "text".to_owned();
let model = Model::open("tiny-icl")?;
let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(8, 0)?;"""
TRAINING = "let long = Training::new(Lora::rank(2), Sft::gold()).epochs(100000).patience(1000000).check_every(50).learning_rate(1e-4).run(&model, &split)?;"
STOPPED = 'println!("{kept_number} {:?}", long.stopped());'


def skipped(why: str):
    print(f"SKIPPED: the kernel in JupyterLab ({why})")
    print("\ntest result: ok. 0 passed; 0 failed; 1 ignored")
    sys.exit(0)


class Lab:
    """JupyterLab on a folder, and a page of it."""

    def __init__(self, browser, out: Path):
        self.folder, self.out = Path(tempfile.mkdtemp(prefix="ia2-lab-")), out
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={self.port}", "--IdentityProvider.token="]
        command += ["--ServerApp.ip=127.0.0.1", "--LabApp.expose_app_in_browser=True", "--ServerApp.disable_check_xsrf=True"]
        own = {"JUPYTER_CONFIG_DIR": str(self.folder / ".config"), "JUPYTER_RUNTIME_DIR": str(self.folder / ".runtime")}
        self.log = (out / "lab.log").open("w")
        self.server = subprocess.Popen(command, cwd=self.folder, env={**os.environ, **own}, stdout=self.log, stderr=self.log)
        self.page = browser.new_page(viewport={"width": 1200, "height": 900})
        self.page.set_default_timeout(LONG)

    def wait(self):
        for _ in range(240):
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=1)
            except OSError:
                time.sleep(0.5)
        raise AssertionError("JupyterLab does not start; see lab.log")

    def open(self, name: str, cells: list[str]):
        kernel = {"kernelspec": {"name": "ia2", "display_name": "Rust (ia2)", "language": "rust"}}
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
        nbformat.write(notebook, self.folder / name)
        self.page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{name}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        # A cell that is run before the kernel has told about itself is not run, without a word.
        self.page.evaluate("""async () => {
            const context = window.jupyterapp.shell.currentWidget.sessionContext;
            await context.ready;
            await context.session.kernel.info;
        }""")
        self.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')

    def command(self, name: str):
        """One of JupyterLab's commands, as its menus run them; returns at once."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); }", name)

    def cell(self, place: int):
        return self.page.locator(".jp-Notebook .jp-Cell").nth(place)

    def prompt(self, place: int) -> str:
        return self.cell(place).locator(".jp-InputPrompt").inner_text().strip()

    def output(self, place: int) -> str:
        return self.cell(place).locator(".jp-Cell-outputArea").inner_text()

    def run(self, place: int, wait: bool = True):
        self.cell(place).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        if wait:
            self.ended(place)

    def ended(self, place: int):
        self.until(lambda: re.fullmatch(r"\[\d+\]:", self.prompt(place)), f"cell {place} does not end")

    def until(self, ready, what: str, seconds: float = LONG / 1000):
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                self.picture("stuck")
                raise AssertionError(what)
            self.page.wait_for_timeout(50)

    def soon(self, ready, seconds: float = 3) -> bool:
        end = time.monotonic() + seconds
        while not ready() and time.monotonic() < end:
            self.page.wait_for_timeout(50)
        return ready()

    def code(self, place: int) -> str:
        return self.cell(place).locator(".cm-content").inner_text().strip()

    def type(self, place: int, text: str):
        self.cell(place).locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.press("Delete")
        self.page.keyboard.type(text)
        # What is typed may already bring up names, or not: that is a setting of the page's.
        self.page.wait_for_timeout(300)

    def picture(self, name: str):
        self.page.screenshot(path=str(self.out / f"{name}.png"))

    def end(self):
        self.page.close()
        self.server.terminate()
        try:
            self.server.wait(30)
        except subprocess.TimeoutExpired:
            self.server.kill()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def an_editor_is_helped(lab: Lab, place: int, when: str):
    """Tab completes a name, Shift-Tab tells of a function."""
    began = time.monotonic()
    lab.type(place, "kept_numb")
    helped = lambda: lab.code(place) == "kept_number" or lab.page.locator(".jp-Completer-item:visible").count() > 0
    # The page waits a second for an answer; on a busy machine its reader presses again.
    for _ in range(10):
        lab.page.keyboard.press("Tab")
        if lab.soon(helped):
            break
    assert helped(), f"Tab {when}: {lab.code(place)}"
    if lab.code(place) != "kept_number":
        lab.page.keyboard.press("Enter")
    lab.until(lambda: lab.code(place) == "kept_number", f"Tab {when}: {lab.code(place)}", 5)
    lab.type(place, "evaluate")
    tooltip = lab.page.locator(".jp-Tooltip:visible")
    told = lambda: tooltip.count() > 0 and "fn evaluate" in tooltip.first.inner_text()
    for _ in range(10):
        lab.page.keyboard.press("Shift+Tab")
        if lab.soon(told):
            break
    assert told(), f"Shift-Tab {when}"
    lab.picture(f"told-{when}")
    lab.page.keyboard.press("Escape")
    print(f"  Tab and Shift-Tab {when}: {time.monotonic() - began:.1f} s")


def the_stop_button_keeps_what_there_is(lab: Lab):
    """A curve grows, Tab and Shift-Tab answer before, during and after, and the stop button ends the training and nothing else."""
    lab.open("stop.ipynb", [READY, TRAINING, STOPPED, ""])
    lab.run(0)
    an_editor_is_helped(lab, 3, "before")
    lab.run(1, wait=False)
    shown = lab.cell(1).locator(".jp-Cell-outputArea img")
    pictures = []
    for moment in range(1, 4):
        lab.until(lambda: shown.count() == 1 and (moment == 1 or shown.get_attribute("src") != pictures[-1]), f"picture {moment} of the curve", 60)
        pictures.append(shown.get_attribute("src"))
        lab.cell(1).scroll_into_view_if_needed()
        lab.picture(f"curve-{moment}")
        lab.page.wait_for_timeout(2500)
    assert len(set(pictures)) == 3 and lab.cell(1).locator("progress").count() == 1, lab.output(1)
    assert lab.prompt(1) == "[*]:", lab.prompt(1)
    an_editor_is_helped(lab, 3, "during")
    assert lab.prompt(1) == "[*]:" and lab.page.locator('.jp-Notebook-ExecutionIndicator[data-status="busy"]').count() == 1, lab.prompt(1)
    began = time.monotonic()
    lab.page.locator('[data-command="notebook:interrupt-kernel"]').first.click()
    lab.ended(1)
    print(f"  stopped after {time.monotonic() - began:.1f} s")
    lab.picture("stopped")
    assert "asked to stop" in lab.output(1) and "ended early in" in lab.output(1), lab.output(1)
    assert shown.count() == 1, lab.output(1)
    lab.run(2)
    assert "41 Interrupted" in lab.output(2), lab.output(2)
    an_editor_is_helped(lab, 3, "after")
    # The page's own copy of the notebook has one element, not all its states.
    lab.command("docmanager:save")
    saved = lambda: [output.output_type for output in nbformat.read(lab.folder / "stop.ipynb", as_version=4).cells[1].outputs]
    lab.until(lambda: "display_data" in saved(), "the notebook is not saved", 30)
    assert saved().count("display_data") == 1, saved()


def run_all_stops_at_the_failing_cell(lab: Lab):
    """What stands behind it does not run."""
    lab.open("fails.ipynb", ['println!("one");', 'let n = "b".parse::<i64>()?;', 'println!("behind");', 'println!("far behind");'])
    lab.command("notebook:run-all-cells")
    lab.ended(1)
    lab.page.wait_for_timeout(2000)
    lab.picture("run-all")
    assert "one" in lab.output(0) and "invalid digit" in lab.output(1), lab.output(1)
    assert [lab.prompt(place) for place in (2, 3)] == ["[ ]:", "[ ]:"], [lab.prompt(place) for place in (2, 3)]
    lab.run(2)
    assert "behind" in lab.output(2)


def an_endless_loop_takes_two(lab: Lab):
    """The first press tells, the second ends it, and the next cell runs."""
    lab.open("loop.ipynb", ["let kept = model_name();\nfn model_name() -> String { Model::open(\"tiny-icl\").map(|m| format!(\"{m:?}\").chars().take(5).collect()).unwrap_or_default() }",
                            "loop { std::thread::sleep(std::time::Duration::from_millis(5)); }", 'println!("{}", 1 + 1);'])
    lab.run(0)
    lab.run(1, wait=False)
    button = lab.page.locator('[data-command="notebook:interrupt-kernel"]').first
    # A cell that is being compiled would not run at all.
    lab.page.wait_for_timeout(8000)
    button.click()
    lab.until(lambda: "asked to stop" in lab.output(1), "nothing is told", 20)
    lab.page.wait_for_timeout(1500)
    assert lab.prompt(1) == "[*]:", lab.prompt(1)
    button.click()
    lab.ended(1)
    lab.picture("loop")
    assert "all variables are gone" in lab.output(1) and "from the first one on" in lab.output(1), lab.output(1)
    lab.run(2)
    assert "2" in lab.output(2)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        skipped("there is no Chromium: apt-get install chromium")
    try:
        import jupyterlab  # noqa: F401
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        skipped(str(error))
    out = arguments.out or arguments.project / "target/lab"
    out.mkdir(parents=True, exist_ok=True)
    tests, failed = [the_stop_button_keeps_what_there_is, run_all_stops_at_the_failing_cell, an_endless_loop_takes_two], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for test in tests:
            lab = Lab(browser, out)
            try:
                lab.wait()
                test(lab)
            except Exception:
                failed.append(test.__name__)
                traceback.print_exc(file=sys.stdout)
                lab.picture(f"failed-{test.__name__}")
            finally:
                lab.end()
            print(f"test lab::{test.__name__} ... {'FAILED' if test.__name__ in failed else 'ok'}", flush=True)
        browser.close()
    print(f"\ntest result: {'FAILED' if failed else 'ok'}. {len(tests) - len(failed)} passed; {len(failed)} failed; 0 ignored")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
