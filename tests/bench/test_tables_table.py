"""The file of a table: its errors, how recipes are merged, and which runs there are."""

from pathlib import Path

import pytest

from bench.tables.table import deep_merge, load_table, select
from compress.runtime.errors import UserError

TABLE = """
title = "Two methods"
seeds = [0, 1]
[base]
compress = {epochs = 4}
[data.films]
train = "films/train.tsv"
dev = "films/dev.tsv"
[data.pairs]
train = "pairs.tsv"
seeds = [7]
[data.pairs.recipe]
data = {text_b = "other", train_limit = 2000}
compress = {epochs = 5}
[method.teacher]
stop = "teacher"
[method.soft]
note = "soft labels"
[method.soft.recipe]
compress = {preset = "logits", learning_rate = 1e-3}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "two.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "films").mkdir()
    for name in ("films/train.tsv", "films/dev.tsv", "pairs.tsv"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("seeds = [0, 1]", "seeds = []"), ["seeds", "at least 1 item"]),
        (("seeds = [7]", "seeds = ['x']"), ["data.pairs.seeds", "integer"]),
        (("title", "titel"), ["title: ", "required"]),
        (("seeds = [0, 1]", "sedes = [0, 1]"), ["sedes: unknown key"]),
        (('stop = "teacher"', 'stop = "student"'), ["method.teacher.stop", "'teacher'"]),
        (("[data.films]", "[data.'a b']"), ["data.a b", "pattern"]),
        (('train = "films/train.tsv"\n', ""), ["data.films", "need train"]),
        (("compress = {epochs = 4}", "seed = 3"), ["base", "seed is set by the table"]),
        (("text_b =", "dev ="), ["data.pairs.recipe", "data.dev is set by the table"]),
        (
            ("text_b =", "source = {train = 's.tsv'}, text_b ="),
            ["data.pairs.recipe", "data.source.train is set by the table"],
        ),
        (('note = "soft labels"', 'data = ["pears"]'), ["method.soft.data", "'pears'", "films, pairs"]),
        (("seeds = [0, 1]", 'against = "hard"'), ["against", "'hard'", "teacher, soft"]),
        (("seeds = [0, 1]", "precisions = ['fp8']"), ["precisions", "int8"]),
        (("seeds = [0, 1]", "precisions = ['int8']"), ["method.teacher.stop", "add fp32"]),
        (('note = "soft labels"', 'searched_on = "pears"'), ["method.soft.searched_on", "'pears'", "films, pairs"]),
        (
            ('stop = "teacher"', 'stop = "teacher"\nsearched_on = "films"'),
            ["method.teacher.searched_on", "no searched"],
        ),
        (("seeds = [7]", "metric = 'f1'"), ["data.pairs", "positive", "belong together"]),
        (("seeds = [0, 1]", "seeds = [0, 1"), ["not valid TOML"]),
        (("seeds = [0, 1]", "name = 'x'"), ["name"]),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(write, change, expected):
    assert change[0] in TABLE
    with pytest.raises(UserError) as caught:
        load_table(write(TABLE.replace(*change)))
    message = str(caught.value)
    assert "two.toml" in message
    assert "\n" not in message
    assert all(part in message for part in expected), message


def test_an_unknown_table_is_answered_with_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes/tables").mkdir(parents=True)
    (tmp_path / "recipes/tables/objectives.toml").touch()
    with pytest.raises(UserError, match="no such table; there are: objectives"):
        load_table("objektives")


@pytest.mark.parametrize("name", ["smoke", "objectives", "augmentation", "l2a", "adabert", "adaptivity"])
def test_the_tables_of_the_repository_hold_recipes(name, monkeypatch, tmp_path):
    monkeypatch.chdir(Path(__file__).parents[2])
    table = load_table(name)
    for column in table.data.values():
        for file in filter(None, (column.train, column.dev, column.source)):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).touch()
    for run in table.runs():
        recipe = table.recipe(run, tmp_path)
        assert recipe.seed == run.seed
    assert next(iter(table.method)) in ("teacher", "none", "from-mr")


def test_a_recipe_is_common_part_then_base_then_column_then_method(write, folder):
    table = load_table(write(TABLE))
    runs = {str(run): run for run in table.runs()}
    recipe = table.recipe(runs["soft · pairs · seed 7"], folder)
    assert recipe.name == "two-pairs-7-soft"
    assert recipe.seed == 7
    assert recipe.target.source == "files"
    assert recipe.target.train == folder / "pairs.tsv"
    assert recipe.target.sample == 7
    assert (recipe.target.text_b, recipe.target.train_limit) == ("other", 2000)
    assert recipe.objective.method == "logits"
    assert (recipe.compress.epochs, recipe.compress.learning_rate) == (5, 1e-3)
    assert table.recipe(runs["soft · films · seed 1"], folder).compress.epochs == 4


def test_a_column_with_a_source_has_two_domains(write, folder):
    (folder / "s.tsv").touch()
    text = TABLE.replace('train = "pairs.tsv"', 'train = "pairs.tsv"\nsource = "s.tsv"')
    text = text.replace("train_limit = 2000", "train_limit = 2000, source = {limit = 9, text_b = 'other'}")
    table = load_table(write(text))
    run = next(run for run in table.runs() if str(run) == "soft · pairs · seed 7")
    recipe = table.recipe(run, folder)
    assert recipe.source is not None
    assert (recipe.target.train, recipe.source.train) == (folder / "pairs.tsv", folder / "s.tsv")
    assert (recipe.target.train_limit, recipe.source.limit, recipe.source.sample) == (2000, 9, 0)
    assert table.recipe(next(table.runs()), folder).source is None


def test_a_column_can_say_more_of_some_rows(write, folder):
    rows = '[data.pairs.rows]\n"so*|teacher" = {compress = {epochs = 9}}\nsoft = {compress = {batch_size = 3}}\n'
    table = load_table(write(TABLE + rows))
    runs = {str(run): run for run in table.runs()}
    recipe = table.recipe(runs["soft · pairs · seed 7"], folder)
    assert (recipe.compress.epochs, recipe.compress.batch_size, recipe.compress.learning_rate) == (9, 3, 1e-3)
    assert table.recipe(runs["soft · films · seed 1"], folder).compress.epochs == 4
    with pytest.raises(UserError, match=r"data\.pairs\.rows: no row 'sift'"):
        load_table(write(TABLE + rows.replace("so*", "sift")))
    with pytest.raises(UserError, match="seed is set by the table"):
        load_table(write(TABLE + "[data.pairs.rows]\nsoft = {seed = 3}\n"))


def test_merging_goes_into_tables_and_replaces_all_else():
    low = {"a": {"b": 1, "c": {"d": 2}, "list": [1, 2]}, "e": 3}
    high = {"a": {"c": {"f": 4}, "list": [5]}, "e": {"g": 6}}
    assert deep_merge(low, high) == {"a": {"b": 1, "c": {"d": 2, "f": 4}, "list": [5]}, "e": {"g": 6}}
    assert low == {"a": {"b": 1, "c": {"d": 2}, "list": [1, 2]}, "e": 3}  # others share it


def test_a_missing_folder_or_file_is_named(write, folder):
    table = load_table(write(TABLE))
    run = next(table.runs())
    with pytest.raises(UserError, match=r"data\.films\.train: films/train\.tsv .*--data DIR"):
        table.recipe(run, None)
    (folder / "films/dev.tsv").unlink()
    with pytest.raises(UserError, match=r"data\.films\.dev: .*films/dev\.tsv: no such file"):
        table.recipe(run, folder)


def test_a_wrong_recipe_names_table_method_and_data(write, folder):
    table = load_table(write(TABLE.replace("learning_rate", "lerning_rate")))
    with pytest.raises(UserError, match=r"two.*method\.soft.*data\.films.*compress\.lerning_rate: unknown key"):
        table.recipe(list(table.runs())[1], folder)
    table = load_table(write(TABLE.replace(", learning_rate = 1e-3}", "}\nexport = {precisions = ['fp32']}")))
    with pytest.raises(UserError, match="INT8 column stays empty"):
        table.recipe(list(table.runs())[1], folder)
    table = load_table(write(TABLE.replace('note = "soft labels"', 'searched_on = "pairs"')))
    with pytest.raises(UserError, match=r"method\.soft: searched_on: its student is not searched"):
        table.search_recipe(list(table.runs())[1], folder)


def test_runs_that_share_a_teacher_follow_each_other(write):
    table = load_table(write(TABLE))
    assert [(run.data, run.seed, run.method) for run in table.runs()] == [
        ("films", 0, "teacher"),
        ("films", 0, "soft"),
        ("films", 1, "teacher"),
        ("films", 1, "soft"),
        ("pairs", 7, "teacher"),
        ("pairs", 7, "soft"),
    ]
    table = load_table(write(TABLE.replace('note = "soft labels"', 'data = ["pairs"]')))
    assert [str(run) for run in table.runs() if run.method == "soft"] == ["soft · pairs · seed 7"]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("", 6),
        ("method=soft", 3),
        ("data=films,seed=1", 2),
        ("method=soft|teacher,seed=0|7", 4),
        ("data=p*", 2),
        ("method=soft, data=pairs, seed=7", 1),
    ],
)
def test_only_restricts(write, only, expected):
    runs = list(load_table(write(TABLE)).runs())
    assert len(select(runs, only)) == expected


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("method=hard", "no such method; there are teacher, soft"),
        ("data=pairs,seed=0", "no such seed; there are 7"),
        ("films", "method=NAME,data=NAME,seed=N"),
        ("metric=accuracy", "method=NAME,data=NAME,seed=N"),
    ],
)
def test_only_refuses_what_is_not_there(write, only, expected):
    with pytest.raises(UserError, match=expected):
        select(list(load_table(write(TABLE)).runs()), only)
