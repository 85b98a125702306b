"""Cells and the shortcuts that make them quick (xtask/kernel): what is left out and passed over must not be missed."""

import importlib.util
from pathlib import Path

from kernel import ROOT
from kernel_dependencies import alone


def types_are_inferred(kernel):
    """Variables without annotations, of the library's types and of what its public crates give: rust-analyzer reads only some crates."""
    kernel.run('let frame = ia2::polars::df!("layer" => [0i64, 1, 1], "norm" => [1.5f64, 2.5, 0.5])?;', quiet=True)
    kernel.run("let tensor = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);", quiet=True)
    kernel.run('let model = Model::open("tiny-icl")?;', quiet=True)
    expressions = {
        'frame.column("norm")?.f64()?.sum()': "4.5",
        'frame.column("norm")?.f64()?.iter().flatten().map(|norm| norm * 2.0).collect::<Vec<_>>()': "3",
        'frame.sort(["norm"], SortMultipleOptions::default())?': "norm",
        'frame.group_by_stable(["layer"])?.select(["norm"]).mean()?': "norm_mean",
        'frame.filter(&frame.column("norm")?.f64()?.gt(1.0))?.height()': "2",
        "frame.schema().len()": "2",
        'frame.column("norm")?.as_materialized_series().max::<f64>()?': "2.5",
        "frame.get_column_names().iter().map(|name| name.to_string()).collect::<Vec<_>>()": "layer",
        "frame.shape()": "3",
        "tensor.max_dim(1, false)": "5.0",
        "tensor.size()": "2",
        "tensor.kind()": "Float",
        "Vec::<f64>::try_from(tensor.flatten(0, -1))?.iter().sum::<f64>()": "15",
        '"a b a".split(\' \').fold(std::collections::BTreeMap::new(), |mut seen, word| { *seen.entry(word.len()).or_insert(0) += 1; seen })': "3",
        'model.tokenizer()?.encode_plain("Text:")?': "",
        "model.hook_points().len()": "",
        'Task::open("sentiment")?.few_shot(4, 0)?.train.rows().iter().map(|row| row.gold.clone()).collect::<Vec<_>>()': "1",
    }
    wrong = []
    for number, (expression, part) in enumerate(expressions.items()):
        made = kernel.run(f"let value_{number} = {expression};")
        shown = kernel.run(f'println!("{{value_{number}:?}}");')
        if made.error or made.stderr or shown.error or part not in shown.stdout.lower() + shown.stdout:
            wrong.append((expression, made.error, made.stderr[:300], shown.error, shown.stdout[:200]))
    assert not wrong, "\n".join(map(str, wrong))


def a_mistake_is_told_at_once(kernel):
    """A type that cannot be read makes evcxr check the cell with cargo, which first checked 240 crates, for minutes, and left what it found."""
    target = Path(kernel.run('println!("{}", std::env::var("EVCXR_TMPDIR")?);', quiet=True).stdout.strip()) / "target"
    compiled = lambda: sorted(target.glob("*/debug/deps/libpolars_core-*"))
    before = compiled()
    assert before, target
    for cell, word in {"let add = |x: i32| x + 1;": "box", "let nothing = Vec::new();": "type annotations"}.items():
        answer = kernel.run(cell, fails=True)
        assert answer.error and word in answer.error.lower(), (cell, answer.error, answer.stderr)
    assert compiled() == before, "crates were checked that had been compiled"
    assert kernel.run('println!("{}", 1 + 1);', quiet=True).stdout.strip() == "2"


def an_unneeded_crate_is_left_out(_kernel):
    """The rules at the head of metadata.py."""
    spec = importlib.util.spec_from_file_location("metadata", ROOT / "xtask/kernel/metadata.py")
    metadata = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metadata)

    uses = {
        "ctx": ["ia2", "mine", "chrono"],
        "chrono": ["time"],
        "ia2": ["polars", "parquet", "serde"],
        "polars": ["polars-core", "polars-sql", "rayon"],
        "polars-core": ["hashbrown", "polars-derive"],
        "mine": ["helper"],
        "hashbrown": ["foldhash"],
    }
    names = sorted({*uses, *sum(uses.values(), [])})
    target = lambda name: {"kind": ["proc-macro" if name == "polars-derive" else "lib"]}
    edge = lambda name: {"pkg": name, "dep_kinds": [{"kind": None}]}
    answer = {
        "packages": [{"id": name, "name": name, "version": "1", "targets": [target(name)]} for name in names],
        "workspace_members": ["ctx"],
        "resolve": {"nodes": [{"id": name, "deps": [edge(used) for used in uses.get(name, [])], "dependencies": []} for name in names]},
    }
    built = {(name, "1") for name in names if name != "polars-sql"}
    kept = metadata.trimmed(answer, built)
    expected = ["chrono", "ctx", "hashbrown", "helper", "ia2", "mine", "polars", "polars-core", "time"]
    assert sorted(package["name"] for package in kept["packages"]) == expected, kept["packages"]
    assert {node["id"]: node["dependencies"] for node in kept["resolve"]["nodes"]}["polars-core"] == ["hashbrown"]


@alone
def a_crate_of_ones_own_is_built_anew(kernel):
    """The source of a `:dep` with a path is edited between two cells."""
    folder = Path(kernel.folder.name) / "mine"
    (folder / "src").mkdir(parents=True)
    (folder / "Cargo.toml").write_text('[package]\nname = "mine"\nversion = "0.1.0"\nedition = "2024"\n')
    (folder / "src/lib.rs").write_text("pub fn number() -> i32 {\n    1\n}\n")
    kernel.run(f':dep mine = {{ path = "{folder}" }}')
    assert kernel.run('println!("{}", mine::number());').stdout.strip() == "1"
    (folder / "src/lib.rs").write_text("pub fn number() -> i32 {\n    2\n}\n")
    assert kernel.run('println!("{}", mine::number());').stdout.strip() == "2"


def cells_know_what_cargo_tells(kernel):
    """Macros find their crate by these."""
    for _ in range(2):
        assert kernel.run('println!("{}", env!("CARGO_PKG_NAME"));', quiet=True).stdout.strip() == "ctx"


TESTS = [types_are_inferred, a_crate_of_ones_own_is_built_anew, cells_know_what_cargo_tells, a_mistake_is_told_at_once, an_unneeded_crate_is_left_out]
