"""What a cell shows: every form of a value, bounded, in whole lines."""

import base64
import re
import struct

PLAIN, TABLE, FIGURE = {"text/plain"}, {"text/plain", "text/html"}, {"text/plain", "text/html", "image/png"}
FLOAT = "(Kind::Float, Device::Cpu)"
# What places the titles over a figure; without it the figure is there, and only they are not.
PLACED = re.compile(r' style="(?:position:|display:block)[^"<>]*"')


def ready(kernel):
    """Variables that the tests here show; made once."""
    if "shown_fig" not in kernel.made:
        kernel.run('let shown_model = Model::open("tiny-icl")?;\nlet shown_task = Task::open("sentiment")?;', quiet=True)
        kernel.run("let shown_split = shown_task.test_at_most(4)?.few_shot(8, 0)?;", quiet=True)
        kernel.run("let shown_prompts = shown_split.test.zero_shot()?;\nlet shown_frame = evaluate(&shown_model, &shown_prompts)?;", quiet=True)
        kernel.run("let shown_fig = reliability(&shown_frame, Binning::EqualWidth(10))?;", quiet=True)
        kernel.made.add("shown_fig")


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n", png[:8]
    return struct.unpack(">II", png[16:24])


def pictures(result) -> tuple[int, int]:
    """Width and height of the picture, after a look at its HTML."""
    html = result.shown["text/html"]
    images = re.findall(r"<img [^>]*>", html)
    assert images and all(re.search(r'alt="[^"]{20,}"', image) for image in images), "a picture without words"
    return size_of(base64.b64decode(result.shown["image/png"]))


def values_show_themselves(kernel):
    """What is last in a cell shows itself as one result: plain text always, HTML where layout helps, and an image of a figure; not as Rust's
    `{:?}`. A `Result` of it shows the value."""
    ready(kernel)
    cells = {
        f"Tensor::ones([3, 2], {FLOAT})": ("1", TABLE),
        f"vec![Tensor::ones([2], {FLOAT})]": ("1", TABLE),
        f"Some(Tensor::ones([2], {FLOAT}))": ("1", TABLE),
        "&shown_frame": ("confidence", TABLE),
        'shown_frame.column("correct")': ("correct", TABLE),
        'shown_frame.column("correct")?.bool()': ("correct", TABLE),
        '("before", shown_frame.head(Some(2)))': ("before", TABLE),
        "&shown_model": ("6 layers", PLAIN),
        'Task::open("sentiment")': ("sentiment", TABLE),
        "&shown_split": ("test", TABLE),
        "&shown_prompts": ("4", TABLE),
        "shown_model.respond(&shown_prompts)": ("4", TABLE),
        'capture(&shown_model, &shown_model.respond(&shown_prompts)?, "model.layers.*")': ("layer", TABLE),
        "accuracy(&shown_frame)": (".", PLAIN),
        "ia2::doctor()": ("evcxr with the changes of", PLAIN),
        "Adapter::new(&shown_model, Lora::rank(2), 0)": ("lora", TABLE),
        '(1, "two", Some(3.5))': ("(1, two, 3.5)", PLAIN),
        "Lora::rank(2)": ("rank: 2", PLAIN),
        "ia2::statistics::paired_t(&[0.1, 0.2, 0.4], &[0.2, 0.4, 0.5], 0.95)": ("degrees of freedom 2", PLAIN),
        "&shown_fig": ("[figure]", FIGURE),
        "reliability(&shown_frame, Binning::EqualWidth(10))": ("[figure]", FIGURE),
        "vec![shown_fig.clone(), shown_fig.clone()]": ("[figure]", FIGURE),
        "Figures::row([shown_fig.clone(), shown_fig.clone()])": ("[figure]", FIGURE),
        "vec![vec![shown_fig.clone(); 2]; 2]": ("[figure]", FIGURE),
        "(shown_fig.clone(), shown_frame.clone())": ("[figure]", TABLE),
    }
    wrong, sizes = [], {}
    for cell, (part, forms) in cells.items():
        result = kernel.run(cell)
        text, html = result.shown.get("text/plain", ""), result.shown.get("text/html", "")
        if result.error or result.stderr or result.stdout or part not in text.lower() or set(result.shown) != forms:
            wrong.append((cell, result.error, result.stderr, sorted(result.shown), text[:300], result.stdout[:300]))
        elif "style=" in PLACED.sub("", html) or "<script" in html or "class=" in html:
            wrong.append((cell, "HTML that needs what GitHub strips", html[:300]))
        elif forms == FIGURE:
            sizes[cell] = pictures(result)
    assert not wrong, "\n".join(map(str, wrong))
    # Several figures are one picture, below each other or side by side.
    (width, height), *others = sizes.values()
    assert others == [(width, height), (width, 2 * height), (2 * width, height), (width, 4 * height)], sizes


def what_moves_shows_itself(kernel):
    """A last expression that moves variables, of this cell and of earlier ones, by name, in a call and in a macro: not as Rust's `{:?}`."""
    ready(kernel)
    kernel.run("let moved_fig = shown_fig.clone();\nlet moved_frame = shown_frame.clone();\nlet moved = (shown_fig.clone(), shown_fig.clone());", quiet=True)
    kernel.run("struct Moved(DataFrame);\nfn first(frame: DataFrame) -> DataFrame { frame.head(Some(1)) }", quiet=True)
    cells = {
        "Some(moved_fig)": FIGURE,
        "first(moved_frame)": TABLE,
        "Figures::column([moved.0, moved.1])": FIGURE,
        "let values = vec![1i64, 2];\ndf!(\"a\" => values)?": TABLE,
        "let a = shown_fig.clone();\nlet b = shown_fig.clone();\nFigures::row([a, b])": FIGURE,
        "let n = vec![1];\nlet p = shown_frame.clone();\n(n, p)": TABLE,
        'let (who, right) = (vec!["a", "b"], vec![0.5, 0.7]);\nbars(&df!("who" => who, "right" => right)?, "who", "right", "who")?': FIGURE,
        "let frame = Some(shown_frame.clone());\nframe": TABLE,
    }
    wrong = []
    for cell, forms in cells.items():
        result = kernel.run(cell)
        if result.error or result.stderr or set(result.shown) != forms:
            wrong.append((cell, result.error, result.stderr, result.shown.get("text/plain", "")[:200]))
    assert not wrong, "\n".join(map(str, wrong))
    # What has no other form keeps `{:?}`, moved or not; what was moved is gone, and what was not is there.
    kernel.run("#[derive(Debug)]\nstruct Plain(Vec<i64>);\nlet plain = Plain(vec![1]);\nlet vector = vec![2i64];", quiet=True)
    assert kernel.run("Plain(vector)", quiet=True).shown["text/plain"] == "Plain([2])"
    assert kernel.run("Some(&plain)", quiet=True).shown["text/plain"] == "Some(Plain([1]))"
    assert "cannot find value `vector`" in kernel.run("vector", fails=True).error
    assert kernel.run('println!("{}", plain.0.len());', quiet=True).stdout == "1\n"


def what_failed_is_no_result(kernel):
    """A `Result` with an error says so on standard error, as `?` does; one that holds nothing shows nothing."""
    ready(kernel)
    for cell in ['Model::open("no/such/folder")', 'shown_frame.column("none")', 'shown_fig.save("a.gif")']:
        result = kernel.run(cell, fails=True)
        assert not result.shown and not result.stdout and len(result.stderr) > 20, (cell, result.shown, result.stdout, result.stderr)
        assert result.stderr.endswith("\n") and "Err(" not in result.stderr, result.stderr
    result = kernel.run('shown_fig.save("a.svg")', quiet=True)
    assert not result.shown and not result.stdout, (result.shown, result.stdout)


def what_is_shown_is_capped(kernel):
    """Rows, columns, elements, cells and bytes: nothing makes a notebook of megabytes, and what was left out is said."""
    ready(kernel)
    kernel.run('let long = ia2::polars::df!("n" => (0..200_000i64).collect::<Vec<_>>())?;', quiet=True)
    wide = 'DataFrame::new(1, (0..500).map(|at| Column::new(format!("column_{at}").into(), [at as i64])).collect())'
    cells = {
        "&long": "199960 more rows",
        'long.column("n")': "199960 more rows",
        wide: "480 more columns",
        'ia2::polars::df!("a" => ["é".repeat(500_000)], "b" => [r#"<b>"#.repeat(300_000)])': "…",
        '"word ".repeat(1_000_000)': "more bytes",
        "(0..1_000_000i64).collect::<Vec<_>>()": "999960 more values",
        "vec![vec![0.5; 1000]; 1000]": "960 more values",
        f"Tensor::zeros([1000, 1000], {FLOAT})": "..6, ..8",
        "(0..1000).map(|_| long.clone()).collect::<Vec<_>>()": "960 more values",
    }
    wrong = {}
    for cell, said in cells.items():
        result = kernel.run(cell, quiet=True)
        size = sum(map(len, result.shown.values()))
        if not 0 < size < 500_000 or said not in result.shown.get("text/plain", ""):
            wrong[cell] = (size, result.shown.get("text/plain", "")[-200:])
    assert not wrong, wrong
    # Pictures are many bytes each: fewer of them, and no half of one.
    result = kernel.run("vec![vec![shown_fig.clone(); 30]; 30]", quiet=True)
    size = sum(map(len, result.shown.values()))
    assert size < 10_000_000 and "more value" in result.shown["text/plain"], (size, result.shown["text/plain"][-200:])
    pictures_alone = re.sub(r"<i title=[^>]*></i>|<div[^>]*>", "", result.shown["text/html"])
    assert pictures_alone.count("<img ") == pictures_alone.count("\">") > 0, "a picture was cut"


def lines_are_whole(kernel):
    """Lines of several threads next to a shown value: none is torn, and no control line is seen."""
    code = 'let printers: Vec<_> = (0..4).map(|i| std::thread::spawn(move || for n in 0..200 { println!("thread {i} line {n}"); })).collect();\n'
    code += f"for printer in printers {{ printer.join().unwrap(); }}\nTensor::ones([50, 10], {FLOAT})"
    result = kernel.run(code, quiet=True)
    lines = result.stdout.split("\n")
    assert sorted(lines) == sorted([f"thread {i} line {n}" for i in range(4) for n in range(200)] + [""]), lines[:5]
    assert "EVCXR" not in result.stdout + "".join(result.shown.values())


TESTS = [values_show_themselves, what_moves_shows_itself, what_failed_is_no_result, what_is_shown_is_capped, lines_are_whole]
