"""Writes tests/data/answers.json: what the authors' parsers read out of made-up and of real texts.

    python tests/python/make_answers.py UTILS [DATA] > tests/data/answers.json

UTILS is `unified_scripts/utils.py` of the paper's repository (aamixsh/ia2, commit 0068ff6c or 8fee5ab), which is not copied here.
DATA is a folder with `gsm8k/test.jsonl` and `math_algebra/test/algebra/*.json`, of which the first few answers are taken.
Each case: text, parse_answer_gsm8k, parse_answer_boxed, parse_answer_sciqa.
"""

import importlib.util
import json
import random
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("utils", sys.argv[1])
utils = importlib.util.module_from_spec(spec)
spec.loader.exec_module(utils)

texts = [
    "", " ", "72", "#### 72", "#### -72", "a #### 1\nb #### 1,080", "####\n5", "#### none", "#### $1,250.00.", "####", "##### 7",
    "\\boxed{5} #### 7", "\\boxed{\\frac{1}{2}}", "\\boxed{}", "\\boxed{a \\boxed{3}", "\\BOXED{4}", "$\\boxed{ \\dfrac{1}{2} }$ {x}",
    "\\boxed{1\n2} and \\boxed{3}", "\\boxed{x", "The answer is 12 of 13", "the ANSWER IS: 4.", "Answer: 3\nAnswer: 5 or 6", "Answer 9",
    "answer\n\n10", "answers 3", "The best answer is: 8", "The best answer is:8", "costs $ 1,200.50 each", "pays $5 and $7", "$,", "$x",
    "12 miles in 3 hours", "5 GB/minute", "1.5.2 miles", "3 Sheep", "7 vacuum  cleaners", "4 glasses", "in 1999 there were 40",
    "in 1999", "0.25 of it", "0.25 and 0.5", "2000.5", "x2 y3", "a,5 b", "5,a", "1,,2", "3.5.", "3.", "12th", "why 5?", "5? 6!",
    "year 2020\n17", "2020\n0.5", "<|eot_id|>5<|eot_id|>", "-3", "1/2", "10-5", ", ,", "Answer: none", "Answer: \\boxed{7}", "Answer: :5",
    "Answer: $-5", "Answer: x}.", "answer is $ 12,000,", "#### 3/4", "#### 0.50", "#### 072", "#### 1.0", "#### 12345678901234567890",
    "é 5 hours", "“7”", "5é", "_5", "5_", "\u0660", "no number at all",
]
data = Path(sys.argv[2]) if len(sys.argv) > 2 else None
if data:
    texts += [json.loads(line)["answer"] for line in (data / "gsm8k/test.jsonl").open()][:30]
    files = sorted((data / "math_algebra/test/algebra").glob("*.json"))
    texts += [json.loads(file.read_text())["solution"] for file in files][:30]
pieces = ["####", "\\boxed{", "}", "answer", "Answer:", "The answer is", " ", "\n", "$", "12", "3,4", ".5", ",", "miles", "2000", "x", "-", "?", "GB"]
draw = random.Random(0)
texts += ["".join(draw.choice(pieces) for _ in range(draw.randint(1, 8))) for _ in range(400)]

cases = [(text, utils.parse_answer_gsm8k(text), utils.parse_answer_boxed(text), utils.parse_answer_sciqa(text)) for text in texts]
print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")
