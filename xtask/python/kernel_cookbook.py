"""Every recipe and example that the documentation prints, as a reader copies it: one cell, in a kernel of the library's own."""

import os
import re
from pathlib import Path

from kernel import ROOT


def printed(text: str) -> dict[str, str]:
    """The code blocks of a document as a reader sees them, by the heading above each: rustdoc hides the lines that begin with `# `."""
    found, title, block = {}, "", None
    for line in text.splitlines():
        if line.startswith("```"):
            if block is not None and "rust" in block[0]:
                found[f"{title}, {len(found) + 1}"] = "\n".join(block[1:])
            block = [line.removeprefix("```") or "rust"] if block is None else None
        elif block is not None:
            if line != "#" and not line.startswith("# "):
                block.append(line)
        elif line.startswith("# "):
            title = line[2:]
    return found


def run_all(kernel, recipes: dict[str, str]):
    """Each as one cell, one after the other, in the notebook's folder."""
    wrong = []
    for title, code in recipes.items():
        result = kernel.run(code)
        if result.error or result.stderr:
            wrong.append(f"{title}:\n{result.error or ''}{result.stderr}")
    assert not wrong, "\n".join(wrong)


def every_recipe_runs_as_it_is_printed(kernel):
    recipes = printed((ROOT / "src/cookbook.md").read_text())
    assert len(recipes) >= 9, list(recipes)
    before = set(os.listdir(kernel.folder.name))
    run_all(kernel, recipes)
    # They write where the notebook is, and not over each other.
    made = set(os.listdir(kernel.folder.name)) - before
    assert {"inside.safetensors", "run", "tuned", "merged", "accuracy.svg", "accuracy.tex", "grid"} <= made, made


def the_first_examples_run_as_they_are_printed(kernel):
    """Those at the head of the crate's documentation and of the README."""
    head = [line.removeprefix("//!").removeprefix(" ") for line in (ROOT / "src/lib.rs").read_text().splitlines() if line.startswith("//!")]
    recipes = printed("\n".join(head)) | printed((ROOT / "README.md").read_text())
    assert len(recipes) >= 2, list(recipes)
    run_all(kernel, recipes)


def hidden_lines_are_left_out(_kernel):
    text = "# A\n```\nlet a = 1;\n# let hidden = 2;\n#\n#[derive(Clone)]\nlet b = a;\n```\n```sh\nls\n```\n# B\n```rust\nc\n```\n"
    assert printed(text) == {"A, 1": "let a = 1;\n#[derive(Clone)]\nlet b = a;", "B, 2": "c"}, printed(text)
    assert re.search(r"^# ", Path(ROOT / "src/cookbook.md").read_text(), re.M)


TESTS = [every_recipe_runs_as_it_is_printed, the_first_examples_run_as_they_are_printed, hidden_lines_are_left_out]
