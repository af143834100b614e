"""`pocketbert predict` and `pocketbert inspect`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeBundle
from tests.pocketbert.conftest import Command
from tests.tiny_cascade import add_cascade

LABELS = ["positive", "negative", "positive"]
TEXTS = ["a good film", "a bad film", "very good"]


def labels(output: str) -> list[str]:
    return [json.loads(line)["label"] for line in output.splitlines()]


def test_texts_of_the_command_line(command: Command, tiny_bundle: Path) -> None:
    done = command("predict", tiny_bundle, *TEXTS, "--scores")
    assert labels(done.out) == LABELS
    first = json.loads(done.out.splitlines()[0])
    assert first["text"] == TEXTS[0]
    assert first["scores"]["positive"] == first["score"]


def test_texts_of_standard_input(command: Command, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(TEXTS * 200)))
    assert labels(command("predict", tiny_bundle).out) == LABELS * 200


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "jsonl"])
def test_texts_of_a_file(command: Command, tiny_bundle: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"texts.{kind}"
    rows = {
        "txt": TEXTS,
        "csv": ["id,text", *(f'1,"{text}"' for text in TEXTS)],
        "tsv": ["text\tid", *(f"{text}\t1" for text in TEXTS)],
        "jsonl": [json.dumps({"text": text}) for text in TEXTS],
    }[kind]
    path.write_text("\ufeff" + "\r\n".join(rows) + "\r\n", encoding="utf-8")
    assert labels(command("predict", tiny_bundle, "--file", path).out) == LABELS


def test_a_table_for_people(command: Command, tiny_bundle: Path) -> None:
    done = command("predict", tiny_bundle, *TEXTS, "--format", "table", "--scores")
    assert "a bad film" in done.out
    assert all(word in done.out for word in ("Text", "Label", "Score", "negative"))


def test_a_cascade_says_who_answered(command: Command, make_bundle: MakeBundle) -> None:
    bundle, texts = add_cascade(make_bundle()), ["good good good good", "good bad good the the a film"]
    answers = [json.loads(line) for line in command("predict", bundle, *texts).out.splitlines()]
    assert [(one["model"], one["label"]) for one in answers] == [("student", "positive"), ("teacher", "negative")]
    off = command("predict", bundle, *texts, "--no-cascade", "--unsure-below", "0.9").out
    assert [json.loads(line).get("model") for line in off.splitlines()] == [None, None]
    assert [json.loads(line)["unsure"] for line in off.splitlines()] == [False, True]
    assert "teacher" in command("predict", bundle, *texts, "--format", "table").out
    assert "threshold 2.0: must be a number from 0 to 1" in command("predict", bundle, "good", "--threshold", 2.0).error


def test_pairs(command: Command, tiny_pair_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels(command("predict", tiny_pair_bundle, "bad", "good", "good", "bad").out) == ["better", "worse"]
    assert "give two for each answer" in command("predict", tiny_pair_bundle, "bad").error
    monkeypatch.setattr(sys, "stdin", io.StringIO("bad\tgood\n"))
    assert labels(command("predict", tiny_pair_bundle, "--file", "-").out) == ["better"]
    table = tmp_path / "pairs.csv"
    table.write_text("text,other\ngood,bad\n")
    assert labels(command("predict", tiny_pair_bundle, "--file", table, "--text-b", "other").out) == ["worse"]
    assert "choose one of 'text', 'other' with --text-b" in command("predict", tiny_pair_bundle, "--file", table).error


def test_mistakes_are_one_line_each(
    command: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("body\ngood\n")
    assert (
        "no column 'text'; choose one of 'body' with --text" in command("predict", tiny_bundle, "--file", table).error
    )
    assert "no such file" in command("predict", tiny_bundle, "--file", tmp_path / "absent.txt").error
    assert "is a directory" in command("predict", tiny_bundle, "--file", tmp_path).error
    assert "give either texts or a file" in command("predict", tiny_bundle, "good", "--file", table).error
    assert "no such directory" in command("predict", tmp_path / "nowhere", "good").error
    lines = tmp_path / "t.txt"
    lines.write_text("good\n\nbad\n")
    assert "line 2: blank" in command("predict", tiny_bundle, "--file", lines).error
    lines.write_bytes(b"good\nb\xe4d\n")
    assert "is not UTF-8" in command("predict", tiny_bundle, "--file", lines).error
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert "pipe a text a line" in command("predict", tiny_bundle).error


def test_inspect_shows_sizes_accuracies_verdicts_and_operators(command: Command, tiny_bundle: Path) -> None:
    done = command("inspect", tiny_bundle)
    assert "2 labels: negative, positive" in done.out
    assert "100.00%" in done.out
    assert "passed" in done.out
    assert "1 MatMul (fp32, " in done.out
    facts = json.loads(command("inspect", tiny_bundle, "--json").out)
    (model,) = facts["models"]
    assert model["bytes"] == (tiny_bundle / "model.fp32.onnx").stat().st_size
    (gather,) = (one for one in model["operators"] if one["operator"] == "Gather")
    assert (gather["precision"], gather["nodes"]) == ("fp32", 1)
    assert model["nodes"] == sum(one["nodes"] for one in model["operators"])
    assert "no manifest.json, so no bundle" in command("inspect", tiny_bundle.parents[1]).error


@pytest.mark.parametrize(
    ("content", "warning"),
    [
        (b"text;other\ngood;x\nbad;y\n", ""),
        ("text,other\ngood caf\xe9,x\nbad,y\n".encode("latin-1"), "was read as latin-1"),
        ("text\tother\ngood\tx\nbad\ty\n".encode("utf-16"), "was read as utf-16"),
        (b"text\ngood\nbad\n", ""),
    ],
)
def test_a_table_whose_layout_is_plain_is_read(
    command: Command, tiny_bundle: Path, tmp_path: Path, content: bytes, warning: str
) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    done = command("predict", tiny_bundle, "--file", table)
    assert labels(done.out) == ["positive", "negative"]
    assert warning in done.err


def test_texts_that_are_not_utf_8_are_said_and_a_byte_order_mark_is_no_text(
    command: Command, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "text 2 is not UTF-8" in command("predict", tiny_bundle, "good", "b\udce4d").error
    monkeypatch.setattr(sys, "stdin", io.StringIO("good\nb\udce4d\n"))
    assert "standard input: line 2: is not UTF-8" in command("predict", tiny_bundle).error
    answers = []
    for start in ("", "\ufeff"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{start}good film\n"))
        answers.append(command("predict", tiny_bundle).out.replace(start, ""))
    assert answers[0] == answers[1]


def test_a_table_with_its_answers(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "out.csv"
    table.write_text("id,text\n1,good\n2,bad\n3,\n")
    done = command("predict", tiny_bundle, "--file", table, "--out", out, "--workers", "1", "--columns", "id, id")
    assert [line.rsplit(",", 1)[0] for line in out.read_text().splitlines()] == ["id,label", "1,positive", "2,negative"]
    assert "2 rows answered" in done.err
    assert "labels: positive 50.0%, negative 50.0%" in done.err
    assert f"bad rows that are not in it: 1; see {out}.bad.jsonl" in done.err
    assert "exists; choose another place" in command("predict", tiny_bundle, "--file", table, "--out", out).error
    assert "name the table to read with --file" in command("predict", tiny_bundle, "good", "--out", out).error
    assert "only a table with --out needs it" in command("predict", tiny_bundle, "good", "--workers", "3").error
    assert "says its kind" in command("predict", tiny_bundle, "--file", table, "--out", out, "--format", "json").error
