"""What has to hold in the real notebook kernel, whatever the library does.

    kernel_tests.py PROJECT [--long] [TEST ..]

With names, only the tests whose names contain one of them; with --long, memory is watched over 200 cells in place of 20, and tests that
compile for minutes run too.

Prints like cargo's tests. Times are measured by `cargo xtask bench kernel`.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import kernel_cells
import kernel_cookbook
import kernel_dependencies
import kernel_display
import kernel_editor
import kernel_errors
import kernel_interruption
import kernel_interrupts
import kernel_live
import kernel_memory
import notebooks
from kernel import ROOT, Kernel


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
    """`?` tells an error with `Display`, and the kernel lives on."""
    result = kernel.run('let model = Model::open("no/such/folder")?;', fails=True)
    assert "no/such/folder" in result.error and "Inner {" not in result.error and not result.stderr, (result.stderr, result.error)
    assert kernel.run('println!("{}", 2 + 2);', quiet=True).stdout.strip() == "4"


def an_error_carries_its_causes(kernel):
    """A file that is not what it should be: what was wanted, which file, why, in one text without Rust's debug form."""
    broken = Path(kernel.folder.name) / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{ not json")
    text = kernel.run('let broken = Model::open("broken")?;', fails=True).error
    assert "config.json" in text and "line 1" in text and "Error {" not in text and "Os {" not in text, text


def a_second_copy_of_the_library_refuses(kernel):
    """Code that carries a copy of its own, as every cell would if it were linked statically: it says so, instead of misreading values."""
    folder = Path(kernel.folder.name)
    (folder / "copy.rs").write_text("""#[unsafe(no_mangle)]
pub extern "C" fn go() {
    match ia2::libtorch::guarded("testing", || Ok(())) {
        Ok(()) => println!("worked"),
        Err(error) => println!("refused: {error}"),
    }
}
""")
    built = Path(kernel.run('println!("{}", std::env::var("EVCXR_TMPDIR")?);', quiet=True).stdout.strip()) / "target"
    target = built / "x86_64-unknown-linux-gnu/debug"
    command = ["rustc", "--edition", "2024", "--crate-type", "cdylib", "-Cprefer-dynamic=no", "-o", str(folder / "libcopy.so")]
    command += ["--extern", f"ia2={target}/deps/libia2.rlib", str(folder / "copy.rs")]
    places = [f"dependency={target}/deps", f"dependency={built}/debug/deps", f"native={ROOT}/.ia2/libtorch/lib"]
    places += [f"native={path}" for path in target.glob("build/*/out")]
    done = subprocess.run(command + [f"-L{place}" for place in places], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    code = """{
    use std::ffi::{c_char, c_int, c_void};
    unsafe extern "C" {
        fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
        fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    let file = std::ffi::CString::new(std::env::current_dir()?.join("libcopy.so").to_string_lossy().into_owned())?;
    let go: extern "C" fn() = unsafe { std::mem::transmute(dlsym(dlopen(file.as_ptr(), 2), c"go".as_ptr())) };
    go();
}"""
    answer = kernel.run(code)
    assert answer.stdout.startswith("refused: a second copy of ia2"), (answer.stdout, answer.stderr, answer.error)
    # The first goes on as before.
    assert kernel.run('println!("{}", Task::open("sentiment").is_ok());', quiet=True).stdout.strip() == "true"


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


def a_kernel_without_its_library_is_refused(_kernel):
    """The script that starts it, in a checkout where set-up has not ended: it says so and takes no build folder."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / "xtask/kernel"
        here.mkdir(parents=True)
        shutil.copy(ROOT / "xtask/kernel/start", here)
        target = Path(folder) / ".ia2/notebook/1/ctx/target/x86_64-unknown-linux-gnu/debug"

        def start():
            done = subprocess.run([here / "start", "connection.json"], capture_output=True, text=True, timeout=60)
            return done.returncode, done.stderr

        def program():
            place = Path(folder) / ".ia2/evcxr/bin/evcxr_jupyter"
            place.parent.mkdir(parents=True)
            place.write_text("#!/bin/sh\nexit 7\n")
            place.chmod(0o755)

        # Nothing at all; a library that is being compiled; a library, but no program.
        for prepare in (lambda: None, lambda: target.mkdir(parents=True), lambda: (target / "libia2.so").write_text("")):
            prepare()
            status, said = start()
            assert status == 1 and "not built for notebooks yet" in said and "cargo xtask setup" in said, (status, said)
        program()
        (target / "libia2.so").unlink()
        assert start()[0] == 1 and not (Path(folder) / ".ia2/notebook/1/lock").exists()
        (target / "libia2.so").write_text("")
        assert start()[0] == 7, start()
        # Rust was updated since.
        (Path(folder) / ".ia2/notebook/rustc").write_text("rustc 1.0.0 (old)")
        status, said = start()
        assert status == 1 and "built for notebooks with rustc 1.0.0 (old)" in said and "cargo xtask setup" in said, (status, said)


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


def main() -> int:
    tests = [
        a_frame_of_one_cell_is_queried_in_another,
        cells_link_the_library_once,
        generic_functions_of_torch_work_in_cells,
        an_error_says_what_to_do,
        an_error_carries_its_causes,
        *kernel_cells.TESTS,
        *kernel_display.TESTS,
        *kernel_editor.TESTS,
        *kernel_errors.TESTS,
        *kernel_cookbook.TESTS,
        *kernel_memory.TESTS,
        *kernel_live.TESTS,
        *kernel_interruption.TESTS,
        *kernel_interrupts.TESTS,
        a_second_copy_of_the_library_refuses,
        two_kernels_do_not_meet,
        a_kernel_without_its_library_is_refused,
        the_kernel_builds_with_the_projects_lock,
        *kernel_dependencies.TESTS,
        outputs_are_compared_as_they_should,
    ]
    wanted = [argument for argument in sys.argv[2:] if not argument.startswith("-")]
    tests = [test for test in tests if not wanted or any(name in test.__name__ for name in wanted)]
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
    finally:
        kernel.end()
    word = "FAILED" if failed else "ok"
    print(f"\ntest result: {word}. {len(tests) - len(failed)} passed; {len(failed)} failed; 0 ignored")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
