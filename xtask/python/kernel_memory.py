"""What a long session costs: memory and threads over many cells."""

import re
import sys
import time
from pathlib import Path

SHORT_CELLS, LONG_CELLS = 15, 200
TENSOR = 4  # megabytes, of the tensor that each cell makes again


def status(process: int) -> tuple[float, int]:
    """Megabytes of a process's own memory (without what files hold), and its threads."""
    text = Path(f"/proc/{process}/status").read_text()
    memory, threads = (int(re.search(rf"{name}:\s+(\d+)", text).group(1)) for name in ("RssAnon", "Threads"))
    return memory / 1024, threads


def memory_and_threads_keep_still(kernel, cells=LONG_CELLS if "--long" in sys.argv else SHORT_CELLS):
    """Cells that make a tensor and a frame again leave no more than cells that do nothing, and no thread.

    What evcxr itself costs is measured as well: each cell's code stays loaded, in the child, and known, in the kernel's process. Beyond
    that, two tensors may be left at any time, the last one and the place of the one before, however many cells there were."""
    child, server = kernel.child(), kernel.manager.provisioner.pid

    def grown(work: str) -> tuple[float, float]:
        for _ in range(3):
            kernel.run(work, quiet=True)
        settle()
        (before, threads), known = status(child), status(server)[0]
        for _ in range(cells):
            kernel.run(work, quiet=True)
        settle()
        after, more = status(child)
        assert more == threads, f"{threads} threads became {more}"
        return after - before, status(server)[0] - known

    def settle():
        """Freed memory is given back with what is shown, at most every two seconds."""
        time.sleep(2.1)
        kernel.run("1", quiet=True)

    work = f"let t = Tensor::randn([1000, {TENSOR * 250}], (Kind::Float, Device::Cpu));\n"
    work += 'let f = ia2::polars::df!("v" => Vec::<f32>::try_from(t.sum_dim_intlist([1i64].as_slice(), false, Kind::Float))?)?;\nf.height()'
    empty, known = grown("let x = 1;")
    used, also_known = grown(work)
    print(
        f"memory of {cells} cells: {empty:+.1f} MB if they do nothing, {used:+.1f} MB if each makes a tensor of {TENSOR} MB and a frame; "
        f"evcxr's own process {known:+.1f} and {also_known:+.1f} MB"
    )
    assert used - empty < 2 * TENSOR + 2, f"{used - empty:.1f} MB more than cells that do nothing"


TESTS = [memory_and_threads_keep_still]
