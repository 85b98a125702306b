"""What the texts of a notebook say of its outputs, checked against them.

    said.py NOTEBOOK ...

Every number in a Markdown cell has to come from somewhere. Outside code, formulas and addresses, a number must

* be tied to an output by the cell's metadata,  "ia2": {"checks": [{"says": "asim 0.31", "cell": "cell-22", "row": "SFT", "column": "asim"}]};
* or be declared as a constant of the text:  "ia2": {"constants": ["0.5"]}  (chance of two labels);
* or be a whole number that stands in the notebook's code: a setting.

Shares in words (`nine in ten`, `half`, `a third`, `twice`) count as numbers. What a check says has to stand in its cell. It names the cell that shows the value (by its id;
the cell's own id for the answer of an exercise) and where it stands there: in a table by `row` and `column` (a name, or several that must all be there), or by
`find`, texts that follow each other, the last followed by the number. The value must round to the one number that is said; else `is` says what it must be:
`above 0.99`, `below 0.4`, `0.9 +- 0.05`, `it contains GOOD`. With `times` it is multiplied first (100 for percent).

So a claim without a number can be checked too:  {"says": "stay at chance", "cell": "cell-42", "find": ["[0]: "], "is": "0.5 +- 0.05"}.
"""

import json
import re
import sys
from pathlib import Path

CELL_KEYS = {"band", "compare", "stderr", "answer", "checks", "constants"}
CHECK_KEYS = {"says", "cell", "find", "row", "column", "is", "times"}

NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-−]?\d+)?(?![\w])")
WORD = "one|two|three|four|five|six|seven|eight|nine|ten"
SHARE = re.compile(rf"\b(?:{WORD})(?: \w+)? in (?:{WORD})\b|\bhalf\b|\ba third\b|\ba quarter\b|\btwice\b", re.IGNORECASE)
# Where numbers are not claims: code, formulas, addresses.
ELSEWHERE = re.compile(r"```.*?```|\$\$.*?\$\$|`[^`]*`|\$[^$\n]*\$|\]\([^)]*\)|arXiv:[\d.]+", re.DOTALL)


def text_of(content) -> str:
    return content if isinstance(content, str) else "".join(content)


def settings_of(cell) -> dict:
    return cell["metadata"].get("ia2", {})


def has_answer(cell) -> bool:
    return cell["cell_type"] == "markdown" and "answer" in settings_of(cell)


def answer_code(cell) -> str:
    return "\n".join(re.findall(r"```rust\n(.*?)```", text_of(cell["source"]), re.DOTALL))


def parsed(number: str) -> float:
    return float(number.replace("−", "-").replace(",", "").replace("_", ""))


def shown(cell) -> str:
    """What a cell shows as text: its results, or the answer of an exercise."""
    if cell["cell_type"] == "markdown":
        return settings_of(cell).get("answer", "")
    results = [output for output in cell.get("outputs", []) if output["output_type"] == "execute_result"]
    return "\n".join(text_of(output["data"].get("text/plain", "")) for output in results)


def tables(text: str):
    """Each table of a text as its lines of headings and its rows; a name that only repeats the one above is filled in."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if not re.fullmatch(r"─+(?:  ─+)*", line):
            continue
        spans = [match.span() for match in re.finditer("─+", line)]
        cut = lambda line: [line[start:end].strip() for start, end in spans]  # noqa: E731
        head = [cut(lines[up]) for up in range(at - 1, -1, -1) if lines[up].strip()][:3]
        rows = []
        for line in lines[at + 1 :]:
            row = cut(line)
            if not line.strip() or not any(row) or not re.search(r"\S", line[spans[-1][0] : spans[-1][1]]):
                break
            blanks = next((place for place, cell in enumerate(row) if cell), 0)
            rows.append(rows[-1][:blanks] + row[blanks:] if rows else row)
        yield head, rows


def names(wanted) -> list[str]:
    return [wanted] if isinstance(wanted, str) else list(wanted)


def looked_up(check: dict, text: str) -> tuple[str, str]:
    """The value that a check is about, and what is wrong where there is none."""
    if "row" in check:
        found = set()
        for head, rows in tables(text):
            columns = [place for place in range(len(head[0])) if all(name in [line[place] for line in head] for name in names(check["column"]))]
            found |= {row[place] for row in rows if all(name in row for name in names(check["row"])) for place in columns}
        if len(found) != 1:
            return "", f"{len(found)} values stand in row {check['row']}, column {check['column']}"
        return found.pop().replace("*", ""), ""
    for name in names(check["find"]):
        before, there, text = text.partition(name)
        if not there:
            return "", f"`{name}` is not there"
    return text, ""


def wrong(check: dict, source: str, cells: dict) -> str:
    """How a check fails; empty where it holds."""
    if set(check) - CHECK_KEYS or "says" not in check or "cell" not in check or ("find" in check) == ("row" in check):
        return f"a check has {sorted(check)}: it needs `says`, `cell`, and `find` or `row` and `column`; `is` and `times` are possible"
    says = check["says"]
    if says not in source:
        return f"`{says}` is checked, but the text does not say it"
    if check["cell"] not in cells:
        return f"`{says}`: there is no cell `{check['cell']}`"
    value, missing = looked_up(check, shown(cells[check["cell"]]))
    if missing:
        return f"`{says}`: in cell `{check['cell']}`, {missing}"
    rule = check.get("is", "")
    if rule.startswith("it contains "):
        return "" if rule.removeprefix("it contains ") in value else f"`{says}`: the output has {value[:80]!r}"
    number = NUMBER.search(value)
    if not number:
        return f"`{says}`: in cell `{check['cell']}` stands no number"
    is_now = parsed(number[0]) * check.get("times", 1)
    if not rule:
        said = NUMBER.findall(says)
        if len(said) != 1:
            return f"`{says}` says {len(said)} numbers: one is compared, or `is` says what the output must be"
        places = len(said[0].partition(".")[2])
        holds = abs(parsed(said[0]) - is_now) <= 0.5 * 10.0**-places * (1 + 1e-6)
    elif found := re.fullmatch(r"(above|below) (\S+)", rule):
        holds = is_now > float(found[2]) if found[1] == "above" else is_now < float(found[2])
    elif found := re.fullmatch(r"(\S+) \+- (\S+)", rule):
        holds = abs(is_now - float(found[1])) <= float(found[2])
    else:
        return f"`{says}`: `{rule}` is no rule; there are `above x`, `below x`, `x +- y`, `it contains ..`"
    return "" if holds else f"`{says}`{f' ({rule})' if rule else ''}: the output has {is_now:.6g}"


def problems(notebook) -> list[str]:
    """What the texts say that the outputs do not, and what nothing vouches for."""
    cells = {cell.get("id", ""): cell for cell in notebook["cells"]}
    code = "\n".join(text_of(cell["source"]) if cell["cell_type"] == "code" else answer_code(cell) for cell in notebook["cells"])
    integers = {number for number in re.findall(r"(?<![\w.])\d+(?![\w.])", code)}
    found = []
    for place, cell in enumerate(notebook["cells"]):
        settings, source = settings_of(cell), text_of(cell["source"])
        here = f"text of cell `{cell.get('id', place)}`: "
        if unknown := set(settings) - CELL_KEYS:
            found.append(f"{here}metadata `ia2` has {sorted(unknown)}; known are {sorted(CELL_KEYS)}")
        if cell["cell_type"] != "markdown":
            continue
        checks, constants = settings.get("checks", []), settings.get("constants", [])
        found += [here + one for one in (wrong(check, source, cells) for check in checks) if one]
        prose = ELSEWHERE.sub(lambda part: " " * len(part[0]), source)
        covered = [match.span() for check in checks for match in re.finditer(re.escape(check.get("says", "\0")), source)]
        claims = list(NUMBER.finditer(prose)) + list(SHARE.finditer(prose))
        said = {claim[0] for claim in claims}
        found += [f"{here}the constant `{one}` is not in it" for one in constants if one not in said]
        for claim in claims:
            inside = any(start <= claim.start() and claim.end() <= end for start, end in covered)
            if not inside and claim[0] not in constants and claim[0] not in integers:
                near = source[max(0, claim.start() - 30) : claim.end() + 20].replace("\n", " ")
                found.append(f"{here}nothing vouches for `{claim[0]}` in `..{near}..`")
    return found


def main() -> int:
    failed = False
    for name in sys.argv[1:]:
        found = problems(json.loads(Path(name).read_text(encoding="utf-8")))
        failed = failed or bool(found)
        print(f"{name}: {len(found)} problems", *found, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
