"""Other crates besides the library, and cells that wait."""

from kernel import BUILD_TIMEOUT, Kernel


def alone(test):
    """Runs a test in a kernel of its own: a dependency stays with its kernel."""

    def run(_kernel):
        kernel = Kernel()
        try:
            test(kernel)
        finally:
            kernel.end()

    run.__name__ = test.__name__
    return run


def succeeds(kernel, code: str) -> str:
    """What a cell shows or prints. evcxr says on standard error what it compiles, so there may be something."""
    result = kernel.run(code, timeout=BUILD_TIMEOUT)
    assert not result.error, f"{code}\n{result.error}\n{result.stderr}"
    return result.shown.get("text/plain", "") + result.stdout


def add(kernel, dependency: str):
    """Adds one, and says how long that took."""
    result = kernel.run(f":dep {dependency}", timeout=BUILD_TIMEOUT)
    assert not result.error, f"{dependency}\n{result.error}"
    print(f"dependency {dependency}: {result.seconds:.1f} s")


@alone
def later_dependencies_work_beside_the_library(kernel):
    """Crates that the project's lock names, so that nothing has to be looked up; what they make goes into the library's values and back."""
    kernel.run('let early = ia2::polars::df!("norm" => [1.5f64, 2.5])?;\nlet split = Task::open("sentiment")?.few_shot(4, 0)?;', quiet=True)
    add(kernel, 'serde_json = "1"')
    add(kernel, 'rand = "0.9"')
    code = "use rand::{Rng, SeedableRng};\nlet mut source = rand::rngs::StdRng::seed_from_u64(0);\n"
    code += "let drawn: Vec<f32> = (0..6).map(|_| source.random_range(0.0..1.0)).collect();\n"
    code += "let tensor = Tensor::from_slice(&drawn).view([2, 3]);"
    succeeds(kernel, code)
    assert "tensor Float [2, 3]" in succeeds(kernel, "&tensor")
    # A trait of serde's that the library implements: both must mean the same serde.
    assert '"gold"' in succeeds(kernel, "serde_json::to_string(&split.train.rows()[0])?")
    # What tch converts to and from must be the same crate, too.
    add(kernel, 'ndarray = "0.16"')
    succeeds(kernel, "let array: ndarray::ArrayD<f32> = (&tensor).try_into()?;\nlet back = Tensor::try_from(&array)?;")
    assert succeeds(kernel, 'println!("{} {:?}", back == tensor, array.shape());').strip() == "true [2, 3]"
    assert "2 rows" in succeeds(kernel, "early.head(Some(drawn.len()))")
    assert succeeds(kernel, "ia2::doctor()").endswith("all is well")


@alone
def works_after_await(kernel):
    """`.await` puts later cells inside an asynchronous runtime, for which evcxr adds tokio."""
    kernel.run('let early = ia2::polars::df!("norm" => [1.5f64, 2.5])?;\nlet model = Model::open("tiny-icl")?;', quiet=True)
    assert succeeds(kernel, 'let waited = std::future::ready(7).await;\nprintln!("{waited}");').strip() == "7"
    failed = kernel.run('let waited = "b".parse::<i64>()?;', fails=True)
    assert failed.reply["status"] == "error" and "in line 1 of the cell" in failed.error, (failed.reply, failed.error)
    assert succeeds(kernel, 'println!("{waited}");').strip() == "7"
    assert succeeds(kernel, 'println!("{:?}", early.column("norm")?.f64()?.get(1));').strip() == "Some(2.5)"
    code = 'let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(8, 0)?;\nevaluate(&model, &split.test.zero_shot()?)?'
    assert "confidence" in kernel.run(code, quiet=True).shown.get("text/plain", "")
    # With features that the library's tree has; others compile everything down to polars again, for minutes.
    add(kernel, 'tokio = { version = "1", features = ["rt", "time"] }')
    assert succeeds(kernel, "tokio::time::sleep(std::time::Duration::from_millis(1)).await;\n&model").startswith("Model(")
    assert succeeds(kernel, "ia2::doctor()").endswith("all is well")


TESTS = [later_dependencies_work_beside_the_library, works_after_await]
