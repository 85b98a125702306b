"""What has to hold in the real notebook kernel, whatever the library does. Argument: the project's folder.

Prints like cargo's tests, and times of starting the kernel and of warm cells (reported, not judged).
"""

import queue
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from jupyter_client.manager import start_new_kernel

import notebooks

ROOT = Path(sys.argv[1]).resolve()
START_TIMEOUT = 600
CELL_TIMEOUT = 300


class Result:
    """What one cell gave."""

    def __init__(self):
        self.shown, self.stdout, self.stderr, self.error, self.seconds = {}, "", "", None, 0.0


class Kernel:
    def __init__(self):
        # A folder without notebooks: the kernel must know the library wherever it is started.
        self.folder = tempfile.TemporaryDirectory()
        began = time.monotonic()
        self.manager, self.client = start_new_kernel(kernel_name="ia2", startup_timeout=START_TIMEOUT, cwd=self.folder.name)
        self.run("1 + 1", quiet=True)
        self.start = time.monotonic() - began

    def run(self, code: str, quiet: bool = False, fails: bool = False) -> Result:
        """Runs a cell. With `quiet`, it has to succeed and leave standard error empty; with `fails`, to say something there."""
        result = Result()
        began = time.monotonic()

        def collect(message):
            content = message["content"]
            if message["msg_type"] in ("execute_result", "display_data"):
                result.shown.update(content["data"])
            elif message["msg_type"] == "stream":
                setattr(result, content["name"], getattr(result, content["name"]) + content["text"])
            elif message["msg_type"] == "error":
                result.error = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]) or content["evalue"])

        self.client.execute_interactive(code, output_hook=collect, timeout=CELL_TIMEOUT)
        result.seconds = time.monotonic() - began
        # evcxr passes standard error on by itself, sometimes after it has said that the cell is done.
        late = time.monotonic() + (10 if fails else 0.1)
        while time.monotonic() < late and not (fails and result.stderr):
            try:
                collect(self.client.get_iopub_msg(timeout=0.1))
            except queue.Empty:
                pass
        if quiet:
            assert not result.error, f"{code}\n{result.error}"
            assert not result.stderr, f"{code}\n{result.stderr}"
        return result

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.folder.cleanup()


def a_frame_of_one_cell_is_queried_in_another(kernel):
    """Fails when each cell has polars to itself: the hash seed behind column names is a static."""
    kernel.run('let made_here = ia2::polars::df!("layer" => [0i64, 1], "norm" => [1.5f64, 2.5])?;', quiet=True)
    answer = kernel.run('println!("{:?}", made_here.column("norm")?.f64()?.get(1));', quiet=True)
    assert answer.stdout.strip() == "Some(2.5)", answer.stdout


def cells_link_the_library_once(kernel):
    """One libia2.so in the process, which every cell loads, and no cell that carries a copy of it."""
    kernel.run("let before = ia2::tch::Tensor::ones([2], (ia2::tch::Kind::Float, ia2::tch::Device::Cpu));", quiet=True)
    maps = kernel.run('println!("{}", std::fs::read_to_string("/proc/self/maps")?);', quiet=True).stdout
    files = {line.split(maxsplit=5)[5].strip() for line in maps.splitlines() if len(line.split(maxsplit=5)) == 6}
    named = lambda start: sorted(file for file in files if Path(file).name.startswith(start))
    assert len(named("libia2.so")) == 1, named("libia2")
    assert len(named("libtorch_cpu.so")) == 1, named("libtorch_cpu")
    cells = [cell for cell in named("libcode_") if "(deleted)" not in cell]
    assert len(cells) >= 3, cells
    # The first cell of a kernel is evcxr's own, from before the library is known.
    linked = [cell for cell in cells if b"libia2.so" in subprocess.run(["readelf", "-d", cell], capture_output=True, check=True).stdout]
    assert linked, "no cell needs libia2.so"
    largest = max(Path(cell).stat().st_size for cell in cells)
    assert largest < 3e6, f"a cell of {largest} bytes carries more than its own code"


def generic_functions_of_torch_work_in_cells(kernel):
    """These are compiled in the cell and call libtorch's C layer, whose symbols the library has to give."""
    code = "let parts = [ia2::tch::Tensor::from_slice(&[1.0f32, 2.0]), ia2::tch::Tensor::from_slice(&[3.0f32])];\n"
    code += "let joined = ia2::tch::Tensor::cat(&parts, 0);"
    kernel.run(code, quiet=True)
    # A type of the cell's own, so that no ready-made version of the function can stand in.
    code = "struct Mine(ia2::tch::Tensor);\nimpl std::borrow::Borrow<ia2::tch::Tensor> for Mine {\n"
    code += "    fn borrow(&self) -> &ia2::tch::Tensor {\n        &self.0\n    }\n}\n"
    code += "let own = ia2::tch::Tensor::cat(&[Mine(joined.shallow_clone()), Mine(&joined + 1)], 0);\n"
    code += 'println!("{:?}", Vec::<f32>::try_from(&own)?);'
    answer = kernel.run(code, quiet=True)
    assert answer.stdout.strip() == "[1.0, 2.0, 3.0, 2.0, 3.0, 4.0]", answer.stdout


def an_error_says_what_to_do(kernel):
    """`?` prints an error with `Display`, on standard error, and the kernel lives on."""
    result = kernel.run('let model = Model::open("no/such/folder")?;', fails=True)
    assert "no/such/folder" in result.stderr and "Inner {" not in result.stderr, (result.stderr, result.error)
    assert kernel.run('println!("{}", 2 + 2);', quiet=True).stdout.strip() == "4"


def a_panic_is_survived(kernel):
    kernel.run("let kept = 41;", quiet=True)
    result = kernel.run('if kept > 0 { panic!("on purpose") }', fails=True)
    assert "on purpose" in result.stderr, result.stderr
    assert kernel.run('println!("{}", kept + 1);', quiet=True).stdout.strip() == "42"


def two_kernels_do_not_meet(kernel):
    """Each has a build folder of its own; in a shared one they would compile each other's cells."""
    other = Kernel()
    try:
        kernel.run("let whose = 1;", quiet=True)
        other.run("let whose = 2;", quiet=True)
        answers = [one.run('println!("{whose}");', quiet=True).stdout.strip() for one in (kernel, other)]
        assert answers == ["1", "2"], answers
    finally:
        other.end()


def the_kernel_builds_with_the_projects_lock(kernel):
    """The versions in the kernel's separate build are those that were tested."""

    def versions(path):
        return set(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', path.read_text()))

    ours = versions(ROOT / "Cargo.lock")
    for lock in sorted((ROOT / ".ia2/notebook").glob("*/Cargo.lock")):
        strange = {package for package in versions(lock) - ours if package[0] not in ("ctx", "anchor", "evcxr_dummy_validate_dep")}
        assert not strange, f"{lock}: {sorted(strange)}"


def outputs_are_compared_as_they_should(_kernel):
    """The rules at the head of notebooks.py."""
    same = lambda old, new, band=None: not notebooks.differences(old, new, band)
    assert same("loss 0.1234", "loss 0.12338") and not same("loss 0.123", "loss 0.126")
    assert same("12345.6", "12349.9") and not same("12345.6", "12545.6")
    assert not same("8 examples", "9 examples") and same("accuracy 0.91", "accuracy 0.88", 0.05)
    assert not same("accuracy 0.91", "accuracy 0.81", 0.05) and same("tokens 200", "tokens 190", 0.1)
    assert same("done in 3.2 s, 41.5 tokens/s, 1:07 left", "done in 12 s, 7 tokens/s, 0:59 left")
    assert same("│ a ┆ 0.5 │\n└───┘", "│ a   ┆ 0.5   │\n└───────┘") and not same("│ a ┆ 0.5 │", "│ b ┆ 0.5 │")
    assert not same("0.5", "NaN") and same("-1.0e-9", "3.0e-9") and not same("-0.5", "0.5")
    assert not same("layer.3.attn 1.0", "layer.4.attn 1.0")


def report_times(kernel):
    """Not a test: how long warm cells take."""
    cells = ["let a = 1 + 1;", "a * 2", 'let name = format!("{a}");', "name.len()", "let t = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));"]
    cells += ["let s = t.sum(Kind::Float).double_value(&[]);", "s", 'println!("{s}");']
    times = sorted(kernel.run(cell, quiet=True).seconds for cell in cells)
    print(f"kernel start to first result {kernel.start:.1f} s; warm cells: median {statistics.median(times):.2f} s, longest {times[-1]:.2f} s")


def main() -> int:
    tests = [
        a_frame_of_one_cell_is_queried_in_another,
        cells_link_the_library_once,
        generic_functions_of_torch_work_in_cells,
        an_error_says_what_to_do,
        a_panic_is_survived,
        two_kernels_do_not_meet,
        the_kernel_builds_with_the_projects_lock,
        outputs_are_compared_as_they_should,
    ]
    kernel = Kernel()
    failed = []
    try:
        for test in tests:
            try:
                test(kernel)
            except Exception:
                failed.append(test.__name__)
                traceback.print_exc(file=sys.stdout)
            print(f"test kernel::{test.__name__} ... {'FAILED' if test.__name__ in failed else 'ok'}", flush=True)
        report_times(kernel)
    finally:
        kernel.end()
    word = "FAILED" if failed else "ok"
    print(f"\ntest result: {word}. {len(tests) - len(failed)} passed; {len(failed)} failed; 0 ignored")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
