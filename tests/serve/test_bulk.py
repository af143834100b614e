"""`pocketbert predict --file IN --out OUT`: tables of any size."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from compress.runtime.errors import UserError
from serve.bulk.job import State, run_bulk
from serve.bulk.options import BulkOptions
from serve.predictor import Predictor
from serve.settings import Settings
from tests.conftest import MakeBundle
from tests.tiny_cascade import add_cascade
from tests.tiny_task import KilledError, killed_at

ROOT = Path(__file__).parents[2]
ROWS = 1_300  # more than two chunks


def cells(count: int) -> list[dict[str, str]]:
    """Rows whose texts hold all that needs quotation marks in a CSV file."""
    words = ["good", "bad", "the, film", 'a "very"', "is", "was\nvery"]
    drawn = random.Random(0)
    texts = (" ".join(drawn.choices(words, k=drawn.randint(1, 9))) for _ in range(count))
    return [{"id": str(number), "text": text, "note": f"é{number}"} for number, text in enumerate(texts)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a table of the kind that the name says."""
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=400)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, with scores as numbers."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in data.decode().splitlines()]
    rows = csv.DictReader(data.decode().splitlines(keepends=True), delimiter="\t" if ".tsv" in path.name else ",")
    return [row | {"score": float(row["score"])} for row in rows]


def answers(bundle: Path, rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """What the output must be, from the predictor asked text by text."""
    predictor = Predictor(Settings.model_construct(bundle=bundle))
    found = []
    for row in rows:
        answer = predictor.classify(predictor.parse(json.dumps({"text": row["text"]}).encode()))
        found.append(row | {"label": answer.label, "score": pytest.approx(answer.score, abs=2e-6)})
    return found


def bulk(bundle: Path, source: Path, target: Path, **options: Any) -> State:
    options = {"workers": 1, "part_rows": 600} | options
    return run_bulk(bundle, BulkOptions(str(source), str(target), **options))


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


def test_too_many_bad_rows_end_the_job_which_a_higher_limit_carries_on(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = cells(ROWS)
    for row in rows[700:710]:
        row["text"] = " "
    table = write(tmp_path / "in.jsonl", rows)
    with pytest.raises(
        UserError, match=r"10 of 1112 rows are bad, and --max-bad is 9 \(line 701: column 'text' is empty"
    ):
        bulk(tiny_bundle, table, tmp_path / "out.jsonl", max_bad=9)
    assert not (tmp_path / "out.jsonl").exists()
    assert len((tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines()) == 10
    state = bulk(tiny_bundle, table, tmp_path / "out.jsonl", max_bad=10)
    assert (state.carried, state.written) == (600, ROWS - 10)


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


@pytest.mark.parametrize("target", ["out.csv", "parts"])
def test_a_job_killed_anywhere_ends_as_one_that_was_not(
    tiny_bundle: Path, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = cells(700)
    rows[5]["text"] = rows[650]["text"] = ""
    table = write(tmp_path / "in.csv", rows)
    bulk(tiny_bundle, table, tmp_path / "undisturbed" / target)
    kills = 0
    for call in range(1, 8):  # every moment at which something becomes visible
        folder = tmp_path / str(call)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed_at(call, os.replace))
            try:
                bulk(tiny_bundle, table, folder / target)
            except KilledError:
                kills += 1
                bulk(tiny_bundle, table, folder / target)
        assert content(folder) == content(tmp_path / "undisturbed")
    assert kills >= 6


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_process_killed_three_times_leaves_no_worker_and_loses_no_row(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", cells(12_000))
    bulk(tiny_bundle, table, tmp_path / "undisturbed.csv", part_rows=400)
    command = [sys.executable, "-m", "pocketbert", "predict", str(tiny_bundle), "--file", str(table)]
    command += ["--out", str(tmp_path / "out.csv"), "--part-rows", "400", "--workers"]
    run = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "cwd": tmp_path}
    done_before = -1
    for workers in "211":
        process = subprocess.Popen([*command, workers], **run)  # type: ignore[call-overload]
        deadline = time.monotonic() + 120
        while (done := len(list((tmp_path / "out.csv.parts").glob("part-*")))) <= done_before + 1:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done_before = done
    ended = subprocess.run([*command, "1"], **run, capture_output=True, text=True)  # type: ignore[call-overload]
    assert ended.returncode == 0, ended.stderr
    assert "carrying on after" in ended.stderr
    assert "by an earlier run" in ended.stderr
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()
    while workers_in(tmp_path):
        assert time.monotonic() < deadline + 120
        time.sleep(0.1)


def workers_in(directory: Path) -> list[int]:
    """The processes that run in a directory."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(directory):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_job_is_not_carried_on_with_other_inputs_or_options(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", cells(ROWS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", killed_at(4, os.replace))
        with pytest.raises(KilledError):
            bulk(tiny_bundle, table, tmp_path / "out.csv")
    with pytest.raises(UserError, match="had another columns or kind of the output; give the same"):
        bulk(tiny_bundle, table, tmp_path / "out.csv", columns=("id",))
    write(table, cells(ROWS + 1))
    with pytest.raises(UserError, match="had another input"):
        bulk(tiny_bundle, table, tmp_path / "out.csv")
    assert bulk(tiny_bundle, table, tmp_path / "out.csv", force=True).carried == 0
    assert len(read(tmp_path / "out.csv")) == ROWS + 1


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
