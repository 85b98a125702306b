"""Does what a recipe of CONTRIBUTING.md says, or undoes it: python3 tests/python/recipes.py apply|remove KIND..."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[2]
SECTIONS = re.split(r"^### An? ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)[1:]
RECIPES = {text.split("\n", 1)[0]: text for text in SECTIONS}
BLOCK = re.compile(r"`([^`\n]+)`:\n\n```(rust|diff)\n(.*?)^```", re.M | re.S)


def edits(diff):
    """Lines that are there, and those that come below them."""
    for there, come in re.findall(r"((?:^ .*\n)+)((?:^\+.*\n)+)", diff, re.M):
        yield re.sub("^ ", "", there, flags=re.M), re.sub(r"^\+", "", come, flags=re.M)


def main(what, kinds):
    for kind in kinds:
        touched = set()
        for path, language, text in BLOCK.findall(RECIPES[kind]):
            file = ROOT / path
            touched.add(path)
            if language == "rust":
                if what == "apply":
                    file.parent.mkdir(exist_ok=True)
                    file.write_text(text)
                else:
                    file.unlink()
                    if not any(file.parent.iterdir()):
                        file.parent.rmdir()
                continue
            source = file.read_text()
            for there, come in edits(text):
                old, new = (there, there + come) if what == "apply" else (come, "")
                assert source.count(old) == 1, f"{path} has this {source.count(old)} times:\n{old}"
                source = source.replace(old, new)
            file.write_text(source)
        print(f"{kind}: {what} touched {len(touched)} files: {', '.join(sorted(touched))}")


if sys.argv[1:2] not in (["apply"], ["remove"]):
    sys.exit(__doc__)
main(sys.argv[1], sys.argv[2:] or list(RECIPES))
