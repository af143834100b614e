"""Users' tables: read as they stand, or refused with the file, the line and the cure. Nothing is guessed."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.data.corpus import Corpus, load_corpus
from compress.pipeline.check import check
from compress.recipe import load_recipe
from compress.recipe.sections import DataOptions
from compress.runtime.errors import UserError
from tests.tiny_task import ROOT, sentences

ROWS = [("the lamp was dull", "neg"), ("the chair was bright", "pos"), ("a slow kettle", "neg"), ("a calm door", "pos")]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)
TSV = CSV.replace(",", "\t")
JSON = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)


def load(folder: Path, content: str | bytes, kind: str = "csv", **options: object) -> Corpus:
    path = folder / f"t.{kind}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_corpus(DataOptions.model_validate({"train": path, "dev": path, **options}))


def texts(corpus: Corpus) -> list[str]:
    return corpus.splits["train"].texts


READ = {
    "byte-order mark, CR LF": ("csv", "\ufeff" + CSV.replace("\n", "\r\n"), {}),
    "quoted header behind a byte-order mark": ("csv", "\ufeff" + CSV.replace("text,label", '"text","label"'), {}),
    "TSV with a byte-order mark": ("tsv", "\ufeff" + TSV, {}),
    "JSONL with a byte-order mark, CR LF": ("jsonl", "\ufeff" + JSON.replace("\n", "\r\n"), {}),
    "blank lines at the end": ("csv", CSV + "\r\n\n", {}),
    "no line end at the end": ("csv", CSV.rstrip("\n"), {}),
    "blank lines in JSONL": ("jsonl", JSON.replace("\n", "\n\n"), {}),
    "semicolons, as told": ("csv", CSV.replace(",", ";"), {"separator": ";"}),
    "tabs, as told": ("csv", TSV, {"separator": "\t"}),
    "UTF-16, as told": ("tsv", TSV.encode("utf-16"), {"encoding": "utf-16"}),
    "Latin-1, as told": ("csv", CSV.encode("latin-1"), {"encoding": "latin-1"}),
    "UTF-8 without a mark, told with one": ("csv", CSV, {"encoding": "utf-8-sig"}),
    "a column without a name": ("csv", CSV.replace("\n", ",\n"), {}),
    "numbers as names of columns": ("jsonl", JSON.replace('"text"', '"0"').replace('"label"', '"1"'), {"text": "0", "label": "1"}),
    "spaces in the name of a column": ("csv", CSV.replace("text", " text "), {"text": " text "}),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "content", "options"), READ.values(), ids=READ)
def test_what_is_plain_is_read(tmp_path: Path, kind: str, content: str | bytes, options: dict[str, object]) -> None:
    corpus = load(tmp_path, content, kind, **options)
    assert texts(corpus) == [text for text, _ in ROWS]
    assert corpus.labels == ["neg", "pos"]


def test_quoted_fields_are_read_whole(tmp_path: Path) -> None:
    rows = ['first ""line""\nsecond, third', "a\r\nb", "c:\\temp\\", "\u2028 and \x0b and \x85 break no line"]
    content = "label,text\n" + "".join(f'{"ab"[i % 2]},"{text}"\n' for i, text in enumerate(rows))
    assert texts(load(tmp_path, content)) == [text.replace('""', '"') for text in rows]


def with_line(number: int, line: str, of: str = CSV) -> str:
    lines = of.splitlines(keepends=True)
    lines[number - 1] = line + "\n"
    return "".join(lines)


NO_COLUMN = r"no column 'text' \(data.text\); it has "
REFUSED = {
    "a comma too many": ("csv", with_line(3, "well, then,pos"), "line 3: 3 fields under 2 column names; write a text with a ','"),
    "a field too few": ("csv", with_line(3, "well"), "line 3: 1 field under 2 column names"),
    "separator at the end of the rows": ("csv", CSV.replace("\n", ",\n").replace("label,", "label"), "line 2: 3 fields .* the header has not"),
    "tab at the end of the rows": ("tsv", TSV.replace("\n", "\t\n").replace("label\t", "label"), r"line 2: .* ends in a '\\t'"),
    "a blank line": ("csv", CSV.replace("\n", "\n\n", 3), "line 1|line 2: is blank"),
    "empty rows of a spreadsheet": ("csv", CSV + ",\n,\n", "line 6: column 'text' is empty"),
    "a quotation mark never closed": ("csv", with_line(3, '"well,pos'), "line 3: a quotation mark that no other one closes"),
    "two of them": ("csv", '"'.join(("text,label\n", "a,x\nb,y\n", "c,x\n")), "line 2: .* the next one in line 4 does not close"),
    "two that look like a field": ("csv", with_line(2, '"the lamp,neg').replace("kettle", 'kettle"'), "line 2: .* whole rows, down to line 4"),
    "a quotation mark inside": ("csv", with_line(4, 'a 5" and 3" pipe,neg'), "line 4: a quotation mark inside a field"),
    "backslashes": ("csv", with_line(4, r'"he said \"no\", and left",neg'), r'line 4: .* write "" for a quotation mark, not \\"'),
    "CR in a field": ("csv", with_line(4, "slow\rkettle,neg"), r"line 4: a carriage return \(CR\)"),
    "CR in an unquoted field beside a quoted one": ("csv", with_line(4, 'slow\rkettle,"neg"'), r"line 4: a carriage return \(CR\)"),
    "CR alone": ("csv", CSV.replace("\n", "\r"), r"lines end in a carriage return \(CR\) alone"),
    "several empty cells": ("csv", CSV + ",neg\n,pos\n", "line 6: .* and so it is in 1 more row; remove these rows"),
    "empty label behind quoted lines": ("csv", 'text,label\n"a\nb",x\n"c\nd",\n', "line 5: column 'label' is empty"),
    "the header twice": ("csv", CSV + CSV, "line 6: the names of the columns once more"),
    "a column twice": ("csv", CSV.replace("text,", "text,text,").replace(" ,", ","), "two columns are called 'text'"),
    "no header": ("csv", CSV.split("\n", 1)[1], NO_COLUMN + "'the lamp was dull', 'neg'; is line 1 a header"),
    "blank first line": ("csv", "\n" + CSV, "line 1 is blank"),
    "spaces in the header": ("csv", CSV.replace("text", " text "), NO_COLUMN + r"' text ', 'label'; set data.text = \" text \""),
    "capitals in the header": ("jsonl", JSON.replace('"text"', '"Text"'), NO_COLUMN + "'Text', 'label'; set data.text = \"Text\""),
    "semicolons": ("csv", CSV.replace(",", ";"), "set data.separator = \";\""),
    "tabs": ("csv", TSV, r'set data.separator = "\\t"'),
    "Excel's separator line": ("csv", "sep=;\n" + CSV.replace(",", ";"), "line 1 is for Excel only"),
    "a quoted TSV": ("tsv", TSV.replace("text\tlabel", '"text"\t"label"'), "set data.quoting = true"),
    "quoted lines in a TSV": ("tsv", with_line(2, '"a\nb"\tneg', TSV), "line 2: .* set data.quoting = true"),
    "a character without a width in the header": ("csv", CSV.replace("text", "te\u200bxt"), r'set data.text = "te\\u200bxt"'),
    "a slip in the header": ("csv", CSV.replace("label", "lable"), 'no column .label. .* set data.label = "lable"'),
    "another name in the header": ("csv", CSV.replace("label", "mood"), "if one of them is meant, name it in data.label"),
    "UTF-16": ("tsv", TSV.encode("utf-16"), 'is in UTF-16; set data.encoding = "utf-16"'),
    "UTF-16 without a mark": ("csv", CSV.encode("utf-16-be"), 'set data.encoding = "utf-16-be"'),
    "Latin-1": ("csv", with_line(3, "café,pos").encode("latin-1"), 'line 3: .* as Latin-1 it reads "café,pos".* data.encoding = "latin-1"'),
    "Windows-1252": ("csv", with_line(3, "“café”,pos").encode("cp1252"), 'data.encoding = "cp1252"'),
    "Japanese in Shift-JIS": ("csv", CSV.replace("a", "日本語の文章です").encode("shift-jis"), "name there the encoding"),
    "one line of another encoding": ("csv", CSV.replace("a", "ä").encode() + b"caf\xe9,neg\n", "line 6: .* mend this line"),
    "a spreadsheet": ("csv", b"PK\x03\x04" + bytes(50), "an Excel file; save the table as CSV"),
    "gzip by another name": ("csv", gzip.compress(CSV.encode()), "ends in .gz"),
    "a .gz that is none": ("csv.gz", CSV, "is not compressed by gzip; give it a name that does not end in .gz"),
    "a cut .gz": ("csv.gz", gzip.compress(CSV.encode())[:40], "cannot be read"),
    "JSON over several lines": ("jsonl", json.dumps({"text": "a", "label": "b"}, indent=1), "line 1: .* one line"),
    "JSON with CR alone": ("jsonl", JSON.replace("\n", "\r"), r"a carriage return \(CR\) alone: save it with LF"),
    "JSON with commas at the ends of lines": ("jsonl", JSON.replace("\n", ",\n"), "line 1: .* remove the comma at the end"),
    "a JSON list": ("jsonl", json.dumps([{"text": "a"}]), "line 1: not a JSON object but a list"),
    "a JSON name twice": ("jsonl", JSON + '{"text": "a", "text": "b", "label": "pos"}', "line 5: .* 'text' stands twice"),
    "half of a character": ("jsonl", JSON + '{"text": "a \\ud83d", "label": "pos"}', r"line 5: .* half of a character \(\\ud83d\)"),
    "a missing JSON label": ("jsonl", JSON + '{"text": "a"}', "line 5: column 'label' is empty"),
    "NaN for a label": ("jsonl", JSON + '{"text": "a", "label": NaN}', "line 5: column 'label' is empty"),
    "a blank JSON label": ("jsonl", JSON + '{"text": "a", "label": " "}', "line 5: column 'label' is empty"),
    "a number for a text": ("jsonl", JSON + '{"text": 5, "label": "pos"}', "line 5: column 'text' holds 5, not a text"),
    "a list of labels": ("jsonl", JSON + '{"text": "a", "label": ["neg", "pos"]}', "line 5: .* a list, .* one label"),
    "an object for a label": ("jsonl", JSON + '{"text": "a", "label": {"id": 1}}', "line 5: .* an object"),
    "deep JSON": ("jsonl", "[" * 100_000, "line 1: cannot be read as JSON .*too deeply"),
    "a JSON number of 5,000 digits": ("jsonl", JSON + '{"text": ' + "9" * 5_000 + "}", r"line 5: .*\(a number has thousands of digits\)$"),
    "a list of labels as text": ("csv", with_line(3, "\"a\",\"['neg', 'pos']\""), "'label' holds .*, a list"),
    "scores": ("csv", "text,label\n" + "".join(f"text {i},{i / 7:.3f}\n" for i in range(40)), "40 different numbers from 0 to 5.571: scores"),
    "a column of numbers of rows": ("csv", "text,label\n" + "".join(f"text {i},{i}\n" for i in range(1001)), "1,001 different labels"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_plain_is_refused(tmp_path: Path, kind: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, content, kind)
    assert f"t.{kind}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cures_for_quotation_marks_work(tmp_path: Path) -> None:
    stray = with_line(4, 'a 5" pipe,neg')
    assert texts(load(tmp_path, stray, quoting=False))[2] == 'a 5" pipe'
    quoted = TSV.replace("a slow kettle", '"a\nslow ""kettle"""')
    assert texts(load(tmp_path, quoted, "tsv", quoting=True))[2] == 'a\nslow "kettle"'


def test_latin_1_told_of_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'is in UTF-8, and data\.encoding = "latin-1"'):
        load(tmp_path, with_line(3, "café,pos"), encoding="latin-1")
    with pytest.raises(UserError, match=r'line 3: is not in data\.encoding = "ascii"'):
        load(tmp_path, with_line(3, "café,pos"), encoding="ascii")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([False, True], ["False", "True"]),
        ([10, 9], ["9", "10"]),
        (["None", "NA", "nan", "null"], ["NA", "None", "nan", "null"]),
        ([0.5, 1.0], ["0.5", "1.0"]),
        (["1", 2], ["1", "2"]),
    ],
)
def test_labels_are_scalars_and_their_text_is_their_name(
    tmp_path: Path, values: list[object], expected: list[str]
) -> None:
    rows = [{"text": f"text {i}", "label": values[i % len(values)]} for i in range(8)]
    assert load(tmp_path, "\n".join(map(json.dumps, rows)), "jsonl").labels == expected
    if all(isinstance(value, str) for value in values):
        content = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)
        assert load(tmp_path, content).labels == expected


def test_ratings_in_halves_are_classes_and_names_that_are_given_too(tmp_path: Path) -> None:
    halves = "text,label\n" + "".join(f"text {i},{i % 10 / 2}\n" for i in range(60))
    assert len(load(tmp_path, halves).labels) == 10
    grades = [f"{i / 7:.3f}" for i in range(30)]
    scores = "text,label\n" + "".join(f"text {i},{grade}\n" for i, grade in enumerate(grades))
    assert load(tmp_path, scores, labels=grades).labels == grades


def test_parquet_has_rows_and_types(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    path = tmp_path / "t.parquet"
    options = DataOptions(train=path, dev=path)
    for labels, message in (([[1], [2]], r"row 1: .* a list"), ([1, None], "row 2: column 'label' is empty")):
        parquet.write_table(table({"text": ["a", "b"], "label": labels}), path)
        with pytest.raises(UserError, match=message):
            load_corpus(options)
    parquet.write_table(table({"text": ["a", "b"], "label": [True, False], "other": [1, 2]}), path)
    assert load_corpus(options).splits["train"].labels == [1, 0]


def test_a_hub_dataset_is_checked_like_a_file(tmp_path: Path) -> None:
    """A directory stands for a dataset of the hub, as the datasets library allows."""
    import datasets

    def saved(values: list[object], feature: object) -> DataOptions:
        features = datasets.Features({"text": datasets.Value("string"), "label": feature})
        made = datasets.Dataset.from_dict(
            {"text": [f"text {i}" for i in range(len(values))], "label": values}, features
        )
        folder = tmp_path / f"data-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name in ("train", "validation"):
            made.to_parquet(folder / f"{name}.parquet")
        return DataOptions(source="hub", hub=str(folder))

    names = datasets.ClassLabel(names=["no", "yes"])
    assert load_corpus(saved([0, 1, 1], names)).labels == ["no", "yes"]
    with pytest.raises(UserError, match=r"row 1: column 'label' is empty"):
        load_corpus(saved([0, -1, 1], names))
    with pytest.raises(UserError, match=r"row 0: .* a list"):
        load_corpus(saved([[0], [0, 1]], datasets.Sequence(names)))
    with pytest.raises(UserError, match="no column 'stars'"):
        load_corpus(saved([0, 1], names).model_copy(update={"label": "stars"}))


def test_a_directory_whose_files_are_elsewhere_or_damaged_is_one_line_without_a_network(tmp_path: Path) -> None:
    """The client of the hub reads `HF_HUB_OFFLINE` when it is imported, so it has a process of its own."""
    files = '- {config_name: a, data_files: [{split: train, path: "hf://datasets/lab/x@main/t.csv"}]}'
    for name, file, content in (
        ("away", "README.md", f"---\nconfigs:\n{files}\n---\n"),
        ("cut", "train.parquet", "PAR1"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(content, encoding="utf-8")
    code = """
import sys
from compress.data.corpus import load_corpus
from compress.recipe.sections import DataOptions
from compress.runtime.errors import UserError
for folder in sys.argv[1:]:
    try:
        load_corpus(DataOptions(hub=folder))
    except UserError as error:
        print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code, str(tmp_path / "away"), str(tmp_path / "cut")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, line in zip(("away", "cut"), lines, strict=True):
        assert line.startswith(f"data.hub: {tmp_path / name}: cannot be loaded (")
    assert "network" not in lines[1]  # which would not mend a damaged file


def test_a_recipe_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    path = tmp_path / "task.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "bom"\r\n[data]\r\ntrain = "t.csv"\r\n')
    assert load_recipe(path).name == "bom"
    path.write_text('[data]\ntrain = "t.csv"\n', encoding="utf-16")
    with pytest.raises(UserError, match=r"task\.toml: not in UTF-8 .* save it"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('label = "text"', "'text' is given twice"),
        ('separator = ", "', ":3: data.separator"),
        ('separator = "\\""', ":3: data.separator: neither a quotation mark"),
        ('encoding = "utf-99"', ":3: data.encoding: no such encoding"),
        ('encoding = "hex"', ":3: data.encoding: no such encoding"),
    ],
)
def test_settings_of_a_table_that_cannot_be(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "task.toml"
    path.write_text(f'[data]\ntrain = "t.csv"\n{line}\n')
    with pytest.raises(UserError, match=message):
        load_recipe(path)


def test_a_bank_is_read_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    path = tmp_path / "task.toml"
    path.write_text('[data]\ntrain = "t.csv"\ndev = "t.csv"\n[transfer]\nbank = "b.txt"\ntexts = 9\n')
    recipe = load_recipe(path)
    for content, message in (
        (b"\n \n", "has no texts"),
        ("café".encode("latin-1"), 'data.encoding = "latin-1"'),
    ):
        (tmp_path / "b.txt").write_bytes(content)
        with pytest.raises(UserError, match=f"b.txt: .*{message}"):
            check(recipe, load_corpus(recipe.target))


def test_many_long_fields_are_read_in_time(tmp_path: Path) -> None:
    """A quoted field of a megabyte of quotation marks does not take the reader's time squared."""
    field = '""' * 500_000 + "\n" * 1000
    corpus = load(tmp_path, f'text,label\n"a{field}",x\n' + "".join(f"{text},y\n" for text, _ in sentences(20)))
    assert len(texts(corpus)[0]) == 501_001
