"""`pocketbert init`: a look at a table, and a recipe that a run can start from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.data.corpus import load_corpus
from compress.recipe import load_recipe
from pocketbert import UserError, draft_recipe
from pocketbert.starter.columns import choose_columns
from pocketbert.starter.language import language_of
from tests.pocketbert.conftest import Command
from tests.tiny_task import sentences

ROWS = sentences(300)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(
    path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...], separator: str = ",", **options: str
) -> Path:
    path.write_text("\n".join(separator.join(row) for row in [header, *rows]) + "\n", **options)  # type: ignore[arg-type]
    return path


def test_a_plain_table_becomes_a_recipe_with_comments(folder: Path, command: Command) -> None:
    rows = [(str(i), text, label, "en") for i, (text, label) in enumerate(ROWS)]
    table(folder / "My tickets.csv", rows, ("id", "body", "queue", "lang"))
    done = command("init", "My tickets.csv")
    assert done.status == 0
    assert "texts: column 'body'; labels: column 'queue'" in done.err
    assert "2 classes in train: 'negative'" in done.err
    assert "language: English; 100% Latin letters" in done.err
    assert "next: pocketbert compress My-tickets.toml" in done.err
    recipe = load_recipe(folder / "My-tickets.toml")
    assert recipe.name == "My-tickets"
    assert (recipe.target.text, recipe.target.label, recipe.target.max_length) == ("body", "queue", 32)
    assert recipe.teacher.model == "embedded"
    assert recipe.transfer.any
    text = (folder / "My-tickets.toml").read_text()
    assert "# not used: id, lang" in text
    assert "train 2" in text
    assert "is there already" in command("init", "My tickets.csv").error
    assert command("init", "My tickets.csv", "--force").status == 0


def test_many_classes_and_many_rows_get_a_teacher_of_more_steps(folder: Path) -> None:
    words = [text for text, _ in ROWS]
    few = [(text, str(i % 3)) for i, text in enumerate(words)]
    many = [(text, f"queue {i % 30}") for i, text in enumerate(words)]
    long = [(f"{words[i % 300]} {i}", str(i % 3)) for i in range(25_000)]
    steps = {}
    for name, rows in {"few": few, "many": many, "long": long}.items():
        draft = draft_recipe(table(folder / f"{name}.csv", rows, ("text", "label")))
        steps[name] = draft.write().teacher.steps
        assert ("steps =" in draft.text.split("[transfer]")[0]) == (name != "few")
    assert (steps["few"], steps["many"]) == (600, 1_500)
    assert steps["long"] == pytest.approx(20_000 / 32, abs=10)  # one pass: a fifth of the rows is held out


def test_of_long_texts_fewer_are_made_and_the_student_learns_for_the_usual_steps(folder: Path) -> None:
    made = {}
    for name, times in {"short": 4, "long": 60, "longest": 2_000}.items():
        rows = [(" ".join([text] * times), label) for text, label in ROWS]
        made[name] = draft_recipe(table(folder / f"{name}.csv", rows, ("text", "label"))).write()
    short, long, longest = made["short"].transfer, made["long"].transfer, made["longest"].transfer
    assert 10_000 <= longest.sampled <= long.sampled < short.sampled == 125_000
    assert longest.sampled == pytest.approx(125_000 * 60 / 512, abs=2_500)  # it has as many tokens as others
    assert (long.replaced, long.texts) == (long.sampled, short.texts)
    assert [recipe.compress.steps for recipe in made.values()] == [20_000, 10_000, 10_000]
    pairs = [(" ".join([text] * 60), text, label) for text, label in ROWS]
    pair = draft_recipe(table(folder / "pairs.csv", pairs, ("text_a", "text_b", "label"))).write()
    assert 10_000 <= pair.transfer.joined < 100_000


def test_with_many_classes_the_cells_see_all_positions(folder: Path) -> None:
    made = {}
    for name, classes in {"many": 30, "few": 3}.items():
        rows = [(text, f"queue {i % classes}") for i, (text, _) in enumerate(ROWS)]
        made[name] = draft_recipe(table(folder / f"{name}.csv", rows, ("text", "label"))).write()
    assert [recipe.student.halvings for recipe in made.values()] == [0, 1]  # type: ignore[union-attr]
    pairs = [(text, text, label) for text, label in ROWS]
    pair = draft_recipe(table(folder / "pairs.csv", pairs, ("text_a", "text_b", "label"))).write()
    assert pair.student.halvings == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "separator", "encoding", "wanted"),
    [
        ("csv", ";", "utf-8", {"separator": ";"}),
        ("csv", "\t", "utf-8-sig", {"separator": "\t"}),
        ("tsv", "\t", "utf-16", {"encoding": "utf-16"}),
        ("csv", "|", "cp1252", {"separator": "|", "encoding": "cp1252"}),
    ],
)
def test_separator_and_encoding_are_found_and_written_down(
    folder: Path, kind: str, separator: str, encoding: str, wanted: dict[str, str]
) -> None:
    rows = [(f"{text}, “très” café", label) for text, label in ROWS]
    path = table(folder / f"t.{kind}", rows, ("text", "label"), separator, encoding=encoding)
    draft = draft_recipe(path)
    recipe = draft.write()
    assert {key: getattr(recipe.target, key) for key in wanted} == wanted
    assert "“très” café" in load_corpus(recipe.target).splits["train"].texts[0]
    assert any("is not UTF-8" in warning for warning in draft.warnings) == ("encoding" in wanted)


def test_json_lines_and_a_recipe_in_another_folder(folder: Path) -> None:
    (folder / "data").mkdir()
    path = folder / "data" / "t.jsonl"
    path.write_text(
        "".join(json.dumps({"review_text": a, "stars": len(b) + i % 2, "n": i}) + "\n" for i, (a, b) in enumerate(ROWS))
    )
    recipe = draft_recipe("data/t.jsonl", out="t.toml").write()
    assert recipe.target.train == path
    assert 'train = "data/t.jsonl"' in (folder / "t.toml").read_text()
    assert (recipe.target.text, recipe.target.label) == ("review_text", "stars")
    (folder / "recipes").mkdir()
    assert draft_recipe("data/t.jsonl", out="recipes/t.toml").write().target.train == path


def test_pairs_are_known_by_their_names(folder: Path) -> None:
    rows = [(text, ROWS[-1 - i][0], label) for i, (text, label) in enumerate(ROWS)]
    path = table(folder / "t.tsv", rows, ("premise", "hypothesis", "gold_label"), "\t")
    recipe = draft_recipe(path).write()
    assert (recipe.target.text, recipe.target.text_b, recipe.target.label) == ("premise", "hypothesis", "gold_label")
    assert (recipe.transfer.texts, recipe.transfer.joined, recipe.transfer.replaced) == (50_000, 100_000, 0)


def test_texts_that_are_not_english_get_a_teacher_that_reads_them(folder: Path) -> None:
    rows = [(f"фильм номер {i} был очень {'хороший' if i % 2 else 'плохой'}", str(i % 2)) for i in range(200)]
    draft = draft_recipe(table(folder / "t.csv", rows, ("text", "label")))
    recipe = draft.write()
    assert "multilingual" in recipe.teacher.model
    assert recipe.transfer.texts == recipe.transfer.sampled == 0 < recipe.transfer.joined
    assert str(draft.language) == "language not plain; 100% Cyrillic letters"
    assert draft_recipe(folder / "t.csv", teacher="my/bert", out="own.toml").write().teacher.model == "my/bert"
    with pytest.raises(UserError, match=r"--teacher: \./my/bert: no such directory"):
        draft_recipe(folder / "t.csv", teacher="./my/bert")
    german = [
        (f"der Film Nummer {i} war sehr {'gut' if i % 2 else 'schlecht'} und auch nicht kurz", str(i % 2))
        for i in range(200)
    ]
    text = draft_recipe(table(folder / "film kritik.csv", german, ("text", "label"))).text
    assert '# model = "google-bert/bert-base-german-cased"' in text
    assert "`pocketbert init 'film kritik.csv'`" in text.replace(str(folder) + "/", "")


@pytest.mark.parametrize(
    ("text", "name", "english"),
    [
        ("The parcel is not here and I have waited for a week with my card", "English", True),
        ("Das Paket ist nicht da und ich warte schon eine Woche auf die Karte", "German", False),
        ("Le colis est dans la rue et je suis pas content avec les vendeurs", "French", False),
        ("El paquete no está en la calle pero los vendedores son muy buenos", "Spanish", False),
        ("asdf qwer 123", None, True),
        ("これは良い映画です", None, False),
        ("这本书很好看，送货也很快。", "Chinese", False),
        ("!!! 42", None, True),
    ],
)
def test_languages(text: str, name: str | None, english: bool) -> None:
    found = language_of([text] * 3)
    assert (found.name, found.english) == (name, english)


def test_what_looks_like_a_mistake_is_said(folder: Path) -> None:
    rows = [
        *ROWS,
        *((f"this is text {i}", "negative") for i in range(20)),
        *((f"This is text {i}!", "positive") for i in range(20)),
        ("an odd one", "Positive"),
        ("!", "positive"),
    ]
    warnings = "\n".join(draft_recipe(table(folder / "t.csv", rows, ("text", "label"))).warnings)
    assert "labels 'Positive', 'positive' are different classes" in warnings
    assert 'relabel = {"Positive" = "positive"}' in warnings
    assert "training texts with several labels: " in warnings
    assert "or without a letter or digit: " in warnings


def test_columns_that_are_not_plain_are_asked_for(folder: Path) -> None:
    rows = [
        (text, label, str(i % 3), f"a longer comment {i} on this text, with many more words in it")
        for i, (text, label) in enumerate(ROWS)
    ]
    path = table(
        folder / "t.csv",
        [tuple(cell.replace(",", "") for cell in row) for row in rows],
        ("words", "mood", "level", "note"),
    )
    with pytest.raises(
        UserError, match=r"which column is the label\? Name it with --label: 'mood' \(2 values\), 'level' \(3 values\)"
    ):
        draft_recipe(path)
    draft = draft_recipe(path, label="mood", text="words")
    assert (draft.roles.text, draft.roles.label, draft.roles.others) == ("words", "mood", ["level", "note"])
    assert draft_recipe(path, label="mood").roles.text == "note"
    with pytest.raises(UserError, match=r"--label moood: .* did you mean 'mood'\?"):
        draft_recipe(path, label="moood")


def test_a_column_that_is_named_twice_is_refused(folder: Path) -> None:
    path = table(folder / "t.csv", ROWS, ("text", "label"))
    with pytest.raises(UserError, match="--text text: this column is named twice"):
        draft_recipe(path, text="text", label="text")
    with pytest.raises(UserError, match="--text-b label: this column is named twice"):
        draft_recipe(path, text="text", text_b="label", label="label")


def test_scores_and_names_of_rows_are_no_labels() -> None:
    texts = [f"a text of some length, number {i}" for i in range(50)]
    cells = {"id": [str(i) for i in range(50)], "text": texts, "value": [str(i / 7) for i in range(50)]}
    with pytest.raises(UserError, match="no column looks like labels"):
        choose_columns(cells, "t.csv")
    assert choose_columns(cells | {"grade": ["0.5", "1"] * 25}, "t.csv").label == "grade"


# The content of a table, its name, and what the one line must say.
MISTAKES = {
    "no table": ("t.xlsx", b"PK\x03\x04", "unknown kind of table"),
    "Excel under another name": ("t.csv", b"PK\x03\x04", "ZIP archive or an Excel file"),
    "empty": ("t.csv", b"", "empty"),
    "only a header": ("t.csv", b"text,label\n", "has no rows"),
    "one column": ("t.csv", b"text\ngood film\nbad film\n", "has one column only, 'text'"),
    "one class": (
        "t.csv",
        b"text,label\n" + b"".join(b"film number %d,yes\n" % i for i in range(60)),
        "one class only",
    ),
    "an empty cell": ("t.csv", b"text,label\na good film,yes\n,no\na bad film,no\n", "line 3: column 'text' is empty"),
    "scores": (
        "t.csv",
        b"text,label\n" + b"".join(b"film number %d,%.3f\n" % (i, i / 7) for i in range(60)),
        "scores, not classes",
    ),
    "a stray quotation mark": ("t.csv", b'text,label\n"a good, film,yes\na bad film,no\n', "line 2"),
    "a line for Excel": ("t.csv", b"sep=;\ntext;label\na good film;yes\n", "line 1 is for Excel only"),
    "two columns of one name": ("t.csv", b"text,label,label\na good film,yes,no\n", "two columns are called 'label'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_table_that_cannot_be_used_is_one_line_and_no_recipe(folder: Path, command: Command, mistake: str) -> None:
    name, content, message = MISTAKES[mistake]
    (folder / name).write_bytes(content)
    assert message in command("init", name).error
    assert list(folder.glob("*.toml")) == []


def test_a_directory_in_place_of_a_table(folder: Path, command: Command) -> None:
    table(folder / "t.csv", ROWS, ("text", "label"))
    assert "is a directory; name the table in it; it holds t.csv" in command("init", folder).error
    assert "no such file" in command("init", "absent.csv").error
    assert "cannot be written" in command("init", "t.csv", "--out", "absent/t.toml").error


def test_a_notebook_shows_the_findings(folder: Path) -> None:
    shown = draft_recipe(table(folder / "t.csv", ROWS, ("text", "label")))._repr_html_()
    assert "2 classes in train" in shown
    assert "<table>" in shown


def test_words_that_python_takes_for_numbers_are_words(folder: Path) -> None:
    rows = "".join(f"{text},{'nan' if label == 'positive' else 'inf'}\n" for text, label in sentences(60))
    (folder / "words.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    assert draft_recipe(folder / "words.csv").roles.label == "label"
