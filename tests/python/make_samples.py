"""Writes tests/data/benchmarks: a few made-up rows of each benchmark, in each format that it is published in; and tests/data/own: rows of
one's own, as Python's writers leave them.

    python tests/python/make_samples.py            # rewrites both
    python tests/python/make_samples.py --check    # compares with what is there, writes nothing

`<benchmark>/<layout>/` holds what a user's folder would hold: names, columns, types and encodings are those of the public files, the
texts are made up. The original formats are written by Python's csv and json; parquet by pyarrow with Hugging Face's types (class labels
are int64, `Sequence` of a dict is a struct of lists), dictionary pages and snappy. Both layouts of a benchmark hold the same rows.
"""

import csv
import filecmp
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).resolve().parents[1] / "data"
TEXT, INT, BOOL = pa.string(), pa.int64(), pa.bool_()


def write(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def parquet(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(columns)
    table = pa.Table.from_pylist([dict(zip(schema.names, row)) for row in rows], schema=schema)
    pq.write_table(table, path, compression="snappy")


def shard(folder, part):
    return folder / f"{part}-00000-of-00001.parquet"


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def quoted(rows, header=None):
    out = io.StringIO()
    if header:
        csv.writer(out, lineterminator="\n").writerow(header)
    csv.writer(out, quoting=csv.QUOTE_MINIMAL if header else csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return out.getvalue()


def sst2(root):
    train = [("a \"fine\" film ", 1), ("clichéd , tired ", 0), ("a \"fine\" film ", 0), ("as dull as it is long ", 0)]
    dev = [("it works . ", 1), ("as dull as it is long ", 0)]
    for part, name, rows in [("train", "train", train), ("dev", "validation", dev)]:
        write(root / f"original/{part}.tsv", "sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
        indexed = [(place, *row) for place, row in enumerate(rows)]
        parquet(shard(root / "parquet/data", name), [("idx", pa.int32()), ("sentence", TEXT), ("label", INT)], indexed)
        glued = [(text, label, place) for place, (text, label) in enumerate(rows)]
        parquet(shard(root / "glue/sst2", name), [("sentence", TEXT), ("label", INT), ("idx", pa.int32())], glued)
    parquet(shard(root / "glue/cola", "train"), [("sentence", TEXT), ("label", INT)], [("not this one", 1)])


def fins(root):
    names = ["negative", "neutral", "positive"]
    rows = [("Profit of Kärkkäinen Oy fell to EUR 1.2 mn .", 0), ("Write to info@kone.com .", 1), ("Sales @ home rose .", 2)]
    text = "".join(f"{sentence}@{names[label]}\r\n" for sentence, label in rows)
    write(root / "original/Sentences_50Agree.txt", text, "latin-1")
    write(root / "archive/FinancialPhraseBank-v1.0/Sentences_50Agree.txt", text, "latin-1")
    parquet(root / "parquet/sentences_50agree/train/0000.parquet", [("sentence", TEXT), ("label", INT)], rows)


def poems(root):
    ours = {0: -1, 1: 1, 2: 0, 3: 2}
    parts = {
        "train": [("with \"bitter\" tears--", 0), ("a table stood there,", 2), ("o joy of morning!", 1), ("glad and sad at once;", 3)],
        "dev": [("the night was cruel.", 0)],
        "test": [("sweet summer air", 1)],
    }
    for (part, rows), name in zip(parts.items(), ["train", "validation", "test"]):
        write(root / f"original/{part}.tsv", "\n".join(f"{place}\t{text}\t{ours[label]}" for place, (text, label) in enumerate(rows)))
        indexed = [(place, *row) for place, row in enumerate(rows)]
        parquet(shard(root / "parquet/data", name), [("id", pa.int32()), ("verse_text", TEXT), ("label", INT)], indexed)


def stf(root):
    train = [("Could a \"llama\" read \\?", False), ("Is ice colder than steam?", True)]
    dev = [("Did Caesar own a phone?", False)]

    def full(rows):
        extra = {"term": "Ice", "description": "frozen water", "facts": ["Ice is cold."], "decomposition": ["How?"], "evidence": [[["x"]]]}
        return [{"qid": f"q{place}", "question": text, "answer": answer, **extra} for place, (text, answer) in enumerate(rows)]

    columns = [("qid", TEXT), ("term", TEXT), ("description", TEXT), ("question", TEXT), ("answer", BOOL), ("facts", TEXT)]
    flat = [(row["qid"], row["term"], row["description"], row["question"], row["answer"], "Ice is cold.") for row in full(train + dev)]
    write(root / "original/train.json", json.dumps(full(train), indent=4))
    write(root / "original/dev.json", json.dumps(full(dev), indent=4))
    write(root / "released/strategyqa_train.json", json.dumps(full(train + dev)))
    parquet(shard(root / "parquet/data", "train"), columns, flat[:2])
    parquet(shard(root / "parquet/data", "test"), columns, flat[2:])
    listed = [(*row[:5], ["Ice is cold."]) for row in flat]
    parquet(root / "one/strategyQA/test/0000.parquet", [*columns[:5], ("facts", pa.list_(TEXT))], listed)


def agn(root):
    parts = {
        "train": [(3, "Fears for \"T N\"", "Unions say\\they are 'sad', he said."), (4, "Race", "Team #36;10"), (1, "Vote", "Polls open.")],
        "test": [(2, "Win", "A cup, at last.")],
    }
    for part, rows in parts.items():
        write(root / f"original/{part}.csv", quoted(rows))
        joined = [(f"{title} {text}", label - 1) for label, title, text in rows]
        parquet(shard(root / "parquet/data", part), [("text", TEXT), ("label", INT)], joined)


def bbcn(root):
    names = ["tech", "business", "sport", "entertainment", "politics"]
    train = [("business", "Ad sales\n\nProfit rose, \"a lot\".\n"), ("politics", "Vote\n\nIt cost £5.\n"), ("sport", "Cup\n\nWon.\n")]
    test = [("tech", "Phone\n\nNew.\n"), ("entertainment", "Film\n\nOld.\n")]
    for place, (label, text) in enumerate(train + test):
        write(root / f"original/bbc/{label}/{place + 1:03}.txt", text, "latin-1")

    def flat(text):
        return " ".join(text.split("\n")).strip().replace("  ", " ")

    write(root / "original/bbc/README.TXT", "not an article\n")
    write(root / "kaggle/bbc-text.csv", quoted([(label, flat(text)) for label, text in train + test], ["category", "text"]))
    rows = [(place, flat(text), label) for place, (label, text) in enumerate(train + test)]
    write(root / "kaggle_train/BBC News Train.csv", quoted(rows, ["ArticleId", "Text", "Category"]))
    for part, rows in [("train", train), ("test", test)]:
        labelled = [{"text": flat(text), "label": names.index(label), "label_text": label} for label, text in rows]
        write(root / f"lines/{part}.jsonl", lines(labelled))
        columns = [("text", TEXT), ("label", INT), ("label_text", TEXT)]
        parquet(root / f"parquet/default/{part}/0000.parquet", columns, [tuple(row.values()) for row in labelled])


SCIQ = ["question", "distractor3", "distractor1", "distractor2", "correct_answer", "support"]


def sciq(root):
    parts = {
        "train": [("What \"stuff\" burns?", "sand", "water", "ice", "oxygen", "Fire needs it."), ("Who \\ what?", "a", "b", "c", "d", "")],
        "valid": [("What falls?", "up", "air", "light", "rain", "Rain falls.")],
        "test": [("What shines?", "mud", "coal", "tar", "the sun", "Stars shine.")],
    }
    for (part, rows), name in zip(parts.items(), ["train", "validation", "test"]):
        write(root / f"original/{part}.json", json.dumps([dict(zip(SCIQ, row)) for row in rows], indent=4))
        order = ["question", "distractor3", "distractor1", "distractor2", "correct_answer", "support"]
        parquet(shard(root / "parquet/data", name), [(column, TEXT) for column in order], rows)


def qascr(root):
    def row(place, stem, key, first):
        texts = [f"{first} {number}" for number in range(8)]
        return {"id": f"3{place}", "stem": stem, "texts": texts, "key": key}

    parts = {
        "train": [row(0, "What \"floats\"?", "C", "wood"), row(1, "Who eats grass?", "H", "cow")],
        "dev": [row(2, "What is cold?", "A", "ice")],
        "test": [row(3, "What is unanswered?", "", "x")],
    }
    letters = list("ABCDEFGH")
    columns = [
        ("id", TEXT), ("question", TEXT), ("choices", pa.struct([("text", pa.list_(TEXT)), ("label", pa.list_(TEXT))])), ("answerKey", TEXT),
        ("fact1", TEXT), ("fact2", TEXT), ("combinedfact", TEXT), ("formatted_question", TEXT),
    ]  # fmt: skip
    for (part, rows), name in zip(parts.items(), ["train", "validation", "test"]):
        nested = [
            {
                "id": row["id"],
                "question": {"stem": row["stem"], "choices": [{"text": t, "label": l} for t, l in zip(row["texts"], letters)]},
                **({"answerKey": row["key"]} if row["key"] else {}),
                "fact1": "a fact",
            }
            for row in rows
        ]
        write(root / f"original/{part}.jsonl", lines(nested))
        flat = [
            (row["id"], row["stem"], {"text": row["texts"], "label": letters}, row["key"], "a fact", "another", "both", "as one") for row in rows
        ]
        parquet(shard(root / "parquet/data", name), columns, flat)


def gsm8k(root):
    parts = {
        "train": [("Amy has 3 \"red\" nuts. How many?", "Amy has 1+2=<<1+2=3>>3 nuts.\n#### 3"), ("And left?", "It is 1,080.\n#### 1,080")],
        "test": [("How cold?", "Cold.\n#### -5")],
    }
    for part, rows in parts.items():
        write(root / f"original/{part}.jsonl", lines({"question": question, "answer": answer} for question, answer in rows))
        parquet(shard(root / "parquet/main", part), [("question", TEXT), ("answer", TEXT)], rows)
    parquet(shard(root / "parquet/socratic", "train"), [("question", TEXT), ("answer", TEXT)], [("not this one", "#### 1")])


def gsm8ks(root):
    rows = [
        (place, 0, f"{name} has {count} nuts. How many?", f"{name} has {count}.\n#### {count}", 7, "o", "oa", "canary")
        for place, (name, count) in enumerate([("Bo", 4), ("Cy", 5)])
    ]
    names = ["id", "instance", "question", "answer", "original_id", "original_question", "original_answer", "canary"]
    write(root / "original/GSM_symbolic.jsonl", lines(dict(zip(names, row)) for row in rows))
    columns = [(name, INT if name in ["id", "instance", "original_id"] else TEXT) for name in names]
    parquet(shard(root / "parquet/main", "test"), columns, rows)


def hmatha(root):
    solutions = {
        "train": [("Find $x$ if $2x = 1$.", "Halve it.\n\nThen $x = \\boxed{\\frac{1}{2}}$."), ("Find $y$.", "No box.")],
        "test": [("Add $1$ and $2$.", "It is $\\boxed{3}$.")],
    }
    names = ["problem", "level", "type", "solution"]
    for part, rows in solutions.items():
        whole = [(problem, "Level 1", "Algebra", solution) for problem, solution in rows]
        for place, row in enumerate(whole):
            write(root / f"original/{part}/algebra/{place * 9 + 2}.json", json.dumps(dict(zip(names, row)), indent=4))
        parquet(shard(root / "parquet/algebra", part), [(name, TEXT) for name in names], whole)
        other = [("Draw a circle.", "Level 1", "Geometry", "$\\boxed{o}$")]
        parquet(shard(root / "mixed/data", part), [(name, TEXT) for name in names], other + whole)


def own(root):
    rows = [('a "fine" film', 1, 4.0, True), ("so, so", 0, 2.5, False), ("Käse?", 1, 3.5, True)]
    names = ["sentence", "label", "stars", "good"]
    objects = [dict(zip(names, row)) for row in rows]
    write(root / "rows.jsonl", lines(objects))
    write(root / "marked.jsonl", "\ufeff" + lines(objects).replace("\n", "\r\n"))
    write(root / "array.json", json.dumps(objects, indent=2))
    write(root / "lines.json", lines(objects))
    text = io.StringIO()
    csv.writer(text).writerows([names, *rows])
    write(root / "rows.csv", "\ufeff" + text.getvalue())
    write(root / "rows.tsv", "\t".join(names) + "\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    schema = pa.schema([("sentence", TEXT), ("label", INT), ("stars", pa.float32()), ("good", BOOL)])
    for name, compression in [("zstd", "zstd"), ("gzip", "gzip"), ("plain", "none")]:
        pq.write_table(pa.Table.from_pylist(objects, schema=schema), root / f"{name}.parquet", compression=compression)


def main():
    check = "--check" in sys.argv
    with tempfile.TemporaryDirectory() as made:
        made = Path(made)
        makers = {"SST2": sst2, "FinS": fins, "PoemS": poems, "STF": stf, "AGN": agn, "BBCN": bbcn, "SciQr": sciq, "QASCr": qascr}
        makers |= {"GSM8K": gsm8k, "GSM8Ks": gsm8ks, "HMathA": hmatha, "SciQ": sciq}
        for name, maker in makers.items():
            maker(made / "benchmarks" / name)
        own(made / "own")
        if not check:
            for folder in made.iterdir():
                shutil.rmtree(DATA / folder.name, ignore_errors=True)
                shutil.copytree(folder, DATA / folder.name)
            return
        files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
        there = sorted(path.relative_to(DATA) for path in DATA.rglob("*") if path.is_file() and path.parent != DATA)
        different = [path for path in files if path in there and not filecmp.cmp(made / path, DATA / path, shallow=False)]
        if files != there or different:
            sys.exit(f"differ: {different}; only one side: {sorted(set(files) ^ set(there))}")


main()
