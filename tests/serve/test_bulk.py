"""`pocketbert predict --file IN --out OUT`: tables of any size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from compress.runtime.errors import UserError
from serve.bulk.job import run_bulk
from serve.bulk.options import BulkOptions
from tests.conftest import MakeBundle
from tests.serve.bulk_tables import ROWS, answers, bulk, cells, read, write
from tests.tiny_cascade import add_cascade


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("in.csv", "out.csv"),
        ("in.csv", "out.parquet"),
        ("in.tsv", "out.tsv"),
        ("in.jsonl", "out.jsonl.gz"),
        ("in.jsonl", "out.csv"),
        ("in.jsonl", "out.parquet"),
        ("in.parquet", "out.parquet"),
        ("in.parquet", "out.csv.gz"),
    ],
)
def test_every_row_keeps_its_cells_and_place_and_gets_its_own_answer(
    tiny_bundle: Path, tmp_path: Path, source: str, target: str
) -> None:
    rows = cells(ROWS)
    state = bulk(tiny_bundle, write(tmp_path / source, rows), tmp_path / target)
    assert read(tmp_path / target) == answers(tiny_bundle, rows)
    assert (state.rows, state.written, state.bad, sum(state.labels.values())) == (ROWS, ROWS, 0, ROWS)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([source, target])


def test_several_processes_keep_the_order(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", cells(3_000))
    bulk(tiny_bundle, table, tmp_path / "one.csv")
    bulk(tiny_bundle, table, tmp_path / "three.csv", workers=3)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "three.csv").read_bytes()


def test_more_workers_than_a_machine_can_be_meant_to_start_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", cells(3))
    with pytest.raises(UserError, match=r"--workers 99999999: this machine has \d+ cores; give at most"):
        bulk(tiny_bundle, table, tmp_path / "out.csv", workers=99_999_999)
    assert not (tmp_path / "out.csv").exists()


def test_a_directory_gets_numbered_parts_that_are_tables(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = cells(ROWS)
    table = write(tmp_path / "in.csv", rows)
    bulk(tiny_bundle, table, tmp_path / "out")
    parts = [f"part-{number:05d}.csv" for number in range(3)]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == parts
    read_parts = [read(tmp_path / "out" / part) for part in parts]
    assert [len(part) for part in read_parts] == [600, 600, 100]
    assert [row for part in read_parts for row in part] == answers(tiny_bundle, rows)
    with pytest.raises(UserError, match="exists; choose another place"):
        bulk(tiny_bundle, table, tmp_path / "out")
    (tmp_path / "out" / "thesis.doc").touch()
    with pytest.raises(UserError, match=r"holds thesis\.doc, which no bulk job wrote"):
        bulk(tiny_bundle, table, tmp_path / "out", force=True)
    (tmp_path / "one.csv.parts").mkdir()
    (tmp_path / "one.csv.parts" / "thesis.doc").touch()
    with pytest.raises(UserError, match=r"one\.csv\.parts: holds thesis\.doc, which no bulk job wrote"):
        bulk(tiny_bundle, table, tmp_path / "one.csv")
    assert (tmp_path / "one.csv.parts" / "thesis.doc").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: exists; choose another place"):
        bulk(tiny_bundle, table, tmp_path / "file")


BAD = """id,text
1,good
2,a "stray mark
3,bad
4,
5,too,many
7,"opened and never closed
8,good

10,"two
lines"
id,text
"""


def test_bad_rows_go_to_a_side_file_with_line_and_reason(tiny_bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "in.csv"
    good = "".join(f"{number},good\n" for number in range(100))
    table.write_bytes(BAD.replace("1,good\n", f"{good}1,good\n").encode() + b"13,caf\xe9\n14,good\n\n\n")
    state = bulk(tiny_bundle, table, tmp_path / "out.csv", encoding="utf-8")
    assert [row["id"] for row in read(tmp_path / "out.csv")[100:]] == ["1", "3", "8", "10", "14"]
    side = [json.loads(line) for line in (tmp_path / "out.csv.bad.jsonl").read_text().splitlines()]
    assert [one["line"] for one in side] == [103, 105, 106, 107, 109, 112, 113]
    for one, reason in zip(
        side, ["quotation mark", "'text' is empty", "3 fields under 2", "no other one closes"], strict=False
    ):
        assert reason in one["reason"]
    assert "blank" in side[4]["reason"]
    assert "names of the columns once more" in side[5]["reason"]
    assert "byte 0xe9" in side[6]["reason"]
    assert side[1]["row"] == "4,"
    assert (state.bad, state.written) == (7, 105)


def test_rows_that_the_kind_of_the_output_cannot_hold_are_bad(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = [{"text": "good", "n": 1}, {"text": "bad", "n": "two"}, {"text": "bad", "m": 1}, {"text": "a\tb", "n": 2}]
    table = write(tmp_path / "in.jsonl", [{"text": "good", "n": 1}] * 9_000 + rows)
    with table.open("ab") as file:
        file.write(b'{"text": "good", "x": "' + b"x" * 1_100_000 + b'"}\n')
    bulk(tiny_bundle, table, tmp_path / "out.parquet", part_rows=20_000)
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "out.parquet.bad.jsonl").read_text().splitlines()]
    assert "column 'n' holds 'two', and the first rows hold int64" in reasons[0]
    assert "has a column 'x' that the first rows have not" in reasons[-1]
    bulk(tiny_bundle, table, tmp_path / "out.tsv", columns=("text", "n"), part_rows=20_000)
    (side,) = (tmp_path / "out.tsv.bad.jsonl").read_text().splitlines()
    assert "holds a separator or a line end" in json.loads(side)["reason"]


@pytest.mark.parametrize("quoting", [True, False])
def test_a_cell_with_a_carriage_return_is_one_cell_in_the_output(
    tiny_bundle: Path, tmp_path: Path, quoting: bool
) -> None:
    rows = [{"text": "good", "note": "one\rtwo"}, {"text": "bad", "note": "back\\rslash"}]
    table = write(tmp_path / "in.jsonl", rows)
    out = tmp_path / ("out.csv" if quoting else "out.tsv")
    bulk(tiny_bundle, table, out)
    bulk(tiny_bundle, out, tmp_path / "again.jsonl", prefix="my_")
    assert [row["note"] for row in read(tmp_path / "again.jsonl")] == [row["note"] for row in rows[not quoting :]]
    assert b"back\\rslash," in out.read_bytes() or not quoting  # no quotation marks without need


def test_half_a_character_inside_a_list_costs_its_own_row_only(tiny_bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "in.jsonl"
    table.write_text(
        '{"text": "good", "tags": ["a"]}\n{"text": "bad", "tags": ["\\ud800"]}\n{"text": "bad", "tags": []}\n'
    )
    for kind in ("csv", "jsonl", "parquet"):
        state = bulk(tiny_bundle, table, tmp_path / f"out.{kind}")
        assert (state.written, state.bad) == (2, 1), kind


def test_a_cell_of_parquet_that_python_cannot_hold_costs_its_own_row(tiny_bundle: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    times = pyarrow.array([0, 10**12, 1], pyarrow.timestamp("s"))  # the second one is in the year 33658
    parquet.write_table(pyarrow.table({"text": ["good", "bad", "bad"], "time": times}), tmp_path / "in.parquet")
    state = bulk(tiny_bundle, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert [row["label"] for row in read(tmp_path / "out.csv")] == ["positive", "negative"]
    (bad,) = (json.loads(line) for line in (tmp_path / "out.csv.bad.jsonl").read_text().splitlines())
    assert (state.bad, bad["row_number"]) == (1, 2)
    assert "column 'time' holds a value that Python cannot" in bad["reason"]


def test_of_parquet_only_the_columns_are_read_that_the_output_needs(tiny_bundle: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    rows = cells(ROWS)
    rows[7]["text"] = ""
    table = write(tmp_path / "in.parquet", rows)
    data = bytearray(table.read_bytes())
    described = parquet.read_metadata(table)
    for group in range(described.num_row_groups):
        note = described.row_group(group).column(2)  # whoever reads it finds no page there
        start = note.dictionary_page_offset
        data[start : start + note.total_compressed_size] = bytes(note.total_compressed_size)
    table.write_bytes(data)
    with pytest.raises(UserError, match=r"in\.parquet: cannot be read"):
        bulk(tiny_bundle, table, tmp_path / "all.csv")
    for columns in (("id",), ("text", "id"), ()):
        target = tmp_path / f"{len(columns)}.parquet"
        bulk(tiny_bundle, table, target, columns=columns)
        right = answers(tiny_bundle, [row for row in rows if row["text"]])
        assert read(target) == [{name: row[name] for name in (*columns, "label", "score")} for row in right]
        assert list(read(target)[0]) == [*columns, "label", "score"]
    (bad,) = (json.loads(line) for line in (tmp_path / "1.parquet.bad.jsonl").read_text().splitlines())
    assert (bad["row_number"], json.loads(bad["row"])) == (8, {"id": "7", "text": ""})


def test_a_bad_row_of_parquet_has_its_number_and_its_cells(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.parquet", [{"id": 1, "text": "good"}, {"id": 2, "text": " "}])
    bulk(tiny_bundle, table, tmp_path / "out.parquet")
    (bad,) = (json.loads(line) for line in (tmp_path / "out.parquet.bad.jsonl").read_text().splitlines())
    assert (bad["row_number"], json.loads(bad["row"])) == (2, {"id": 2, "text": " "})


def test_columns_prefix_scores_and_a_column_of_known_labels(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", [{"id": "1", "text": "good", "label": "positive"}])
    with pytest.raises(UserError, match=r"has a column 'label', as the output will: .* --prefix predicted_"):
        bulk(tiny_bundle, table, tmp_path / "out.jsonl")
    bulk(tiny_bundle, table, tmp_path / "out.jsonl", prefix="my_", scores=True, columns=("label",))
    (row,) = read(tmp_path / "out.jsonl")
    assert list(row) == ["label", "my_label", "my_score", "my_score_negative", "my_score_positive"]
    assert row["my_score_negative"] + row["my_score_positive"] == pytest.approx(1, abs=2e-6)
    with pytest.raises(UserError, match="no column 'no'; choose among id, text, label"):
        bulk(tiny_bundle, table, tmp_path / "x.csv", columns=("no",))


def test_pairs_and_a_table_without_rows(tiny_pair_bundle: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.tsv", [{"text": "bad", "other": "good"}, {"text": "good", "other": ""}])
    state = bulk(tiny_pair_bundle, table, tmp_path / "out.jsonl", text_b="other")
    assert [row["label"] for row in read(tmp_path / "out.jsonl")] == ["better"]
    assert state.bad == 1
    table.write_text("text\tother\n")
    bulk(tiny_bundle, table, tmp_path / "none")
    assert (tmp_path / "none" / "part-00000.tsv").read_text() == "text\tother\tlabel\tscore\n"


@pytest.mark.parametrize(
    ("data", "written"),
    [
        ("text;n\ngood;1\n", "text;n;label;score\ngood;1;positive"),
        ("\ufefftext,n\r\ngood,1\r\n", "text,n,label,score\ngood,1,positive"),
        ("text,n\ngood,ä\n".encode("utf-16"), "text,n,label,score\ngood,ä,positive"),
        ("text,n\ngood,ä\n".encode("latin-1"), "text,n,label,score\ngood,ä,positive"),
    ],
)
def test_separators_and_encodings_are_found(tiny_bundle: Path, tmp_path: Path, data: str | bytes, written: str) -> None:
    table = tmp_path / "in.csv"
    table.write_bytes(data if isinstance(data, bytes) else data.encode())
    bulk(tiny_bundle, table, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith(written)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("base64", "--encoding base64: no such encoding"),
        ("utf-16", "UTF-16 stream does not start with BOM; name its encoding with --encoding"),
        ("ascii", "is not in ascii"),
    ],
)
def test_an_encoding_that_does_not_fit_is_one_line(
    tiny_bundle: Path, tmp_path: Path, encoding: str, message: str
) -> None:
    table = write(tmp_path / "in.csv", cells(3))
    with pytest.raises(UserError, match=message):
        bulk(tiny_bundle, table, tmp_path / "out.csv", encoding=encoding)


def test_half_a_character_at_the_end_of_the_table_is_said(tiny_bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "in.csv"
    table.write_bytes("text,n\ngood,1\nbad,2".encode("utf-16")[:-1])  # a copy that was cut
    with pytest.raises(UserError, match=r"after line 3: is not in utf-16.* \(truncated data\)"):
        bulk(tiny_bundle, table, tmp_path / "out.csv")


def test_a_file_of_another_kind_is_not_made_a_directory(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", cells(3))
    for name in ("out.xlsx", "out.JSON"):
        with pytest.raises(UserError, match=rf"{name}: .* is no kind of table that can be written; use \.csv"):
            bulk(tiny_bundle, table, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_the_folder_of_the_output_must_be_there(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", cells(3))
    for target in ("resluts/out.csv", "resluts/parts"):
        with pytest.raises(UserError, match=r"resluts: no such folder; make it, or name another place with --out"):
            bulk(tiny_bundle, table, tmp_path / target)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: is not a folder"):
        bulk(tiny_bundle, table, tmp_path / "file" / "out.csv")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "in.csv"]


def test_the_table_is_not_replaced_by_its_answers(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = cells(3)
    write(tmp_path / "in.csv", rows)
    bulk(tiny_bundle, tmp_path / "in.csv", tmp_path / "parts")
    part = tmp_path / "parts" / "part-00000.csv"
    (tmp_path / "link.csv").symlink_to(part)
    for source, target in ((part, part), (part, part.parent), (tmp_path / "link.csv", part.parent)):
        with pytest.raises(UserError, match="is where the table is, which would be lost"):
            bulk(tiny_bundle, source, target, force=True, prefix="my_")
    assert [row["text"] for row in read(part)] == [row["text"] for row in rows]


def test_urls(tiny_bundle: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    files, rows = fsspec.filesystem("memory"), cells(ROWS)
    files.pipe_file("/bucket/in.csv", write(tmp_path / "in.csv", rows).read_bytes())
    for target in ("memory://bucket/out.csv", "memory://bucket/parts"):
        options = BulkOptions("memory://bucket/in.csv", target, workers=1, part_rows=600)
        run_bulk(tiny_bundle, options)
        with pytest.raises(UserError, match="exists"):
            run_bulk(tiny_bundle, options)
    names = ["in.csv", "out.csv", *(f"parts/part-{number:05d}.csv" for number in range(3))]
    assert sorted(files.find("/bucket")) == [f"/bucket/{name}" for name in names]
    (tmp_path / "out.csv").write_bytes(files.cat_file("/bucket/out.csv"))
    assert read(tmp_path / "out.csv") == answers(tiny_bundle, rows)
    with pytest.raises(UserError, match=r"nosuch://x/in\.csv"):
        run_bulk(tiny_bundle, BulkOptions("nosuch://x/in.csv", "out.csv"))


def test_what_is_missing_is_one_line(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(tmp_path / "in.csv", cells(3))
    for module in ("pyarrow", "fsspec"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"out.parquet: Parquet needs the package pyarrow: pip install pyarrow"):
        bulk(tiny_bundle, table, tmp_path / "out.parquet")
    with pytest.raises(UserError, match="URLs need the package fsspec"):
        run_bulk(tiny_bundle, BulkOptions("s3://bucket/in.csv", "out.csv"))
    assert bulk(tiny_bundle, table, tmp_path / "out.csv").written == 3
    with pytest.raises(UserError, match="no column 'body'; choose one of 'id', 'text', 'note' with --text"):
        bulk(tiny_bundle, table, tmp_path / "x.csv", text="body")
    with pytest.raises(UserError, match="no such file"):
        bulk(tiny_bundle, tmp_path / "none.csv", tmp_path / "x.csv")
    with pytest.raises(UserError, match="unknown kind of table"):
        bulk(tiny_bundle, tiny_bundle / "model.fp32.onnx", tmp_path / "x.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_cascade_says_which_model_answered(make_bundle: MakeBundle, tmp_path: Path, kind: str) -> None:
    bundle = add_cascade(make_bundle("casc"), threshold=0.9)
    table = write(tmp_path / f"in.{kind}", [{"text": "good good good good"}, {"text": "the film"}])
    state = bulk(bundle, table, tmp_path / f"out.{kind}", model={"unsure_below": 0.8})
    rows = read(tmp_path / f"out.{kind}")
    assert list(rows[0]) == ["text", "label", "score", "model", "unsure"]
    assert [row["model"] for row in rows] == ["student", "teacher"]
    assert [str(row["unsure"]).lower() for row in rows] == ["false", "true"]
    assert state.models == {"student": 1, "teacher": 1}
    alone = bulk(bundle, table, tmp_path / f"alone.{kind}", model={"cascade": False})
    assert "model" not in read(tmp_path / f"alone.{kind}")[0]
    assert not alone.models
    with pytest.raises(UserError, match="--threshold 7: must be a number from 0 to 1"):
        bulk(bundle, table, tmp_path / "x.csv", model={"cascade_threshold": 7})
