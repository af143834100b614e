"""The results file and what is rendered from it. All expected numbers are computed by hand."""

import json
import multiprocessing
from xml.etree import ElementTree

import pytest

from bench.tables.render import render, to_markdown
from bench.tables.results import Entry, Results
from bench.tables.summary import Summary
from bench.tables.table import Table
from compress.runtime.errors import UserError

TABLE = Table.model_validate(
    {
        "name": "small",
        "title": "Small table",
        "seeds": [0, 1, 2],
        "data": {"mr": {"train": "t"}, "sst": {"train": "t", "seeds": [0], "recipe": {"data": {"train_limit": 2000}}}},
        "method": {"teacher": {"stop": "teacher"}, "soft": {"note": "soft labels"}, "hard": {}},
    }
)


def entry(method: str, data: str, seed: int, metric: str, value: float, **more: object) -> Entry:
    values = {"seconds": 60.0, "parameters": 1_200_000, "split": "dev", "machine": "a box", "versions": {"torch": "2"}}
    fixed = {"table": "small", "commit": "abc+", "date": "2025-01-02", "key": "k"}
    return Entry.model_validate(
        {"method": method, "data": data, "seed": seed, "metric": metric, "value": value, **values, **fixed, **more}
    )


FP32 = [0.80, 0.82, 0.87]  # mean 83.0; deviations −3, −1, 4; √((9 + 1 + 16) / 2) = 3.606
INT8 = [0.79, 0.82, 0.85]  # mean 82.0; drops 1, 0, 2
ENTRIES = [
    *(entry("soft", "mr", seed, "accuracy", value) for seed, value in enumerate(FP32)),
    *(entry("soft", "mr", seed, "int8_accuracy", value) for seed, value in enumerate(INT8)),
    entry("soft", "sst", 0, "accuracy", 0.90),
    entry("soft", "sst", 0, "int8_accuracy", 0.895, parameters=1_500_000),
    entry("teacher", "mr", 0, "accuracy", 0.88, parameters=22_700_000, latency_ms=31.4, latency_of="fp32, a box"),
    entry("teacher", "mr", 1, "accuracy", 0.90, parameters=22_700_000),
    entry("teacher", "sst", 0, "accuracy", 0.93, parameters=22_700_000),
]


@pytest.fixture
def results(tmp_path) -> Results:
    results = Results(TABLE, tmp_path / "results")
    results.put(ENTRIES)
    return results


def test_numbers(results):
    header, rows = Summary(TABLE, results.read()).rows()
    assert header == [
        "Method",
        "mr (3 seeds)",
        "sst",
        "Average (2)",
        "INT8, average (2)",
        "Largest INT8 drop",
        "Parameters",
        "p50 ms, mr",
    ]
    assert rows == [
        ["teacher", "89.0 ± 1.4 (n = 2)", "93.0", "91.0", "–", "–", "22.7 M", "31.4"],
        ["soft", "83.0 ± 3.6", "90.0", "86.5", "85.8", "2.0", "1.20–1.50 M", "–"],  # INT8: (82 + 89.5) / 2 = 85.75
        ["hard", *["–"] * 7],
    ]


def test_the_share_of_the_gap_that_a_student_closes(tmp_path):
    rows = {"linear": {"stop": "linear"}, "frozen": {"stop": "frozen"}, "teacher": {"stop": "teacher"}, "soft": {}}
    columns = {"mr": {"train": "t"}, "sst": {"train": "t"}}
    shown = {"name": "small", "title": "Small", "seeds": [0, 1], "data": columns, "method": rows}
    table = Table.model_validate(shown | {"precisions": ["int8", "fp32"]})
    results = Results(table, tmp_path)
    assert Summary(table, results.read()).share_rows() is None
    values = {  # the mean over seeds and columns: linear 78, teacher 90, student in INT8 87
        ("linear", "accuracy"): {"mr": [0.70, 0.70], "sst": [0.86, 0.86]},
        ("teacher", "accuracy"): {"mr": [0.90, 0.88], "sst": [0.92, 0.90]},
        ("soft", "int8_accuracy"): {"mr": [0.83, 0.85], "sst": [0.90, 0.90]},
        ("soft", "accuracy"): {"mr": [0.5, 0.5], "sst": [0.5, 0.5]},
        ("frozen", "accuracy"): {"mr": [0.8, 0.8], "sst": [0.8, 0.8]},
    }
    for (method, metric), of_columns in values.items():
        for data, of_seeds in of_columns.items():
            results.put([entry(method, data, seed, metric, value) for seed, value in enumerate(of_seeds)])
    summary = Summary(table, results.read())
    # mr: (84 - 70) / (89 - 70) and 84 / 89; sst: (90 - 86) / (91 - 86) and 90 / 91; both: (87 - 78) / (90 - 78) and 87 / 90
    header = ["Method", "mr (2 seeds)", "sst (2 seeds)", "Average (2)"]
    assert summary.share_rows() == (header, [["soft", "74% (94.4%)", "80% (98.9%)", "75% (96.7%)"]])
    assert [row[:2] for row in summary.rows()[1]] == [
        ["linear", "70.0 ± 0.0"],
        ["frozen", "80.0 ± 0.0"],
        ["teacher", "89.0 ± 1.4"],
        ["soft", "84.0 ± 1.4"],
    ]
    assert "## Share of the gap" in to_markdown(summary)
    worse = entry("teacher", "mr", 0, "accuracy", 0.4), entry("teacher", "mr", 1, "accuracy", 0.5)
    results.put(list(worse))  # below the linear model: there is no gap to close
    assert Summary(table, results.read()).shares("soft", ["mr"]) == (None, pytest.approx(84 / 45))


def test_an_average_is_over_the_columns_that_every_row_has(results):
    results.put([entry("hard", "sst", 0, "accuracy", 0.5)])
    summary = Summary(TABLE, results.read())
    assert summary.shared == {"Average (1)": ["sst"]}
    header, rows = summary.rows()
    assert header[3] == "Average (1)"
    assert [row[3] for row in rows] == ["93.0", "90.0", "50.0"]


def test_a_row_that_is_kept_out_of_a_column_spoils_no_average(tmp_path):
    hard = TABLE.method["hard"].model_copy(update={"data": ["sst"]})
    results = Results(TABLE.model_copy(update={"method": TABLE.method | {"hard": hard}}), tmp_path)
    results.put([*ENTRIES, entry("hard", "sst", 0, "accuracy", 0.5)])
    header, rows = Summary(results.table, results.read()).rows()
    assert header[3] == "Average (2)"
    assert [row[3] for row in rows] == ["91.0", "86.5", "–"]


def test_an_average_has_the_spread_of_its_seeds_and_gains_are_counted_run_by_run(tmp_path):
    columns = {name: column.model_copy(update={"seeds": None}) for name, column in TABLE.data.items()}
    table = TABLE.model_copy(update={"data": columns, "seeds": [0, 1], "against": "soft"})
    results = Results(table, tmp_path)
    values = {"mr": ([0.7, 0.8], [0.74, 0.82]), "sst": ([0.6, 0.6], [0.63, 0.67])}
    for column, (soft, hard) in values.items():
        results.put([entry("soft", column, seed, "accuracy", value) for seed, value in enumerate(soft)])
        results.put([entry("hard", column, seed, "accuracy", value) for seed, value in enumerate(hard)])
    summary = Summary(table, results.read())
    assert [row[3] for row in summary.rows()[1]] == ["–", "67.5 ± 3.5", "71.5 ± 4.2"]  # by seed 65, 70; 68.5, 74.5
    gain = summary.gain("hard", "soft")
    assert gain is not None
    # 4, 2, 3, 7: mean 4, variance 14/3, error √(14/3 / 4)
    assert gain.signed == "+4.0 ± 1.1"
    assert gain.seeds == 4
    assert summary.gain("teacher", "soft") is None
    assert "Against soft, run by run on the same column and seed" in to_markdown(summary)
    assert "hard +4.0 ± 1.1 (n = 4)." in to_markdown(summary)


def test_an_architecture_at_home_is_compared_with_those_from_elsewhere(tmp_path):
    rows = {f"from-{name}": {"searched_on": name} for name in ("mr", "sst")}
    table = Table.model_validate({**TABLE.model_dump(exclude={"method"}), "method": {**rows, "hard": {}}})
    results = Results(table, tmp_path)
    values = {("mr", 0): (0.80, 0.78), ("mr", 1): (0.81, 0.77), ("mr", 2): (0.8, None), ("sst", 0): (0.60, 0.63)}
    for (column, seed), each in values.items():
        named = zip(("from-mr", "from-sst"), each, strict=True)
        results.put([entry(row, column, seed, "accuracy", value) for row, value in named if value is not None])
    results.put([entry("hard", "mr", 0, "accuracy", 0.1)])  # at home nowhere
    home = Summary(table, results.read()).at_home
    assert home is not None
    assert (home.signed, home.seeds) == ("+3.0 ± 0.6", 3)  # 2, 4 and 3; a run without its counterpart does not count
    assert "an architecture has +3.0 ± 0.6 points more (n = 3" in to_markdown(Summary(table, results.read()))
    assert Summary(TABLE, {}).at_home is None


def test_a_table_of_one_column_has_no_average(tmp_path):
    table = TABLE.model_copy(update={"data": {"mr": TABLE.data["mr"]}})
    results = Results(table, tmp_path)
    results.put(ENTRIES[:6])
    header, rows = Summary(table, results.read()).rows()
    assert header[1:4] == ["mr (3 seeds)", "INT8", "Largest INT8 drop"]
    assert rows[1][1:4] == ["83.0 ± 3.6", "82.0 ± 3.0", "2.0"]


def test_markdown_tells_what_was_cut_how_it_was_made_and_the_command(results):
    text = to_markdown(Summary(TABLE, results.read()))
    for line in (
        "# Small table",
        "| soft | 83.0 ± 3.6 | 90.0 |",
        "- sst: 2,000 training texts at most.",
        "- soft: soft labels",
        "- 7 of 12 runs, 0.1 h of training",
        "- Trained on: a box\n",
        "- Timed: fp32, a box\n",
        "- Commit: abc+\n",
        "- Seeds: mr: 0, 1, 2",
        "python -m bench table small --data DIR\n",
        "--force\n",
    ):
        assert line in text


def test_comparisons_with_the_teacher_have_tables_of_their_own(tmp_path):
    f1 = TABLE.data["sst"].model_copy(update={"metric": "f1", "positive": "good"})
    table = TABLE.model_copy(update={"against": "soft", "data": TABLE.data | {"sst": f1}})
    results = Results(table, tmp_path)
    results.put([entry("soft", "mr", seed, "accuracy", 0.5) for seed in range(3)])
    assert Summary(table, results.read()).rows_of_teacher("agreement") is None
    assert Summary(table, results.read()).rows_of_teacher("distance") is None
    assert "teacher\n" not in to_markdown(Summary(table, results.read()))
    shares = {"soft": [0.80, 0.82, 0.87], "hard": [0.83, 0.84]}  # gains 3 and 2 points: 2.5 ± 0.5
    for method, values in shares.items():
        results.put([entry(method, "mr", seed, "accuracy", 0.5, agreement=a) for seed, a in enumerate(values)])
        results.put([entry(method, "mr", seed, "int8_accuracy", 0.5, agreement=0.1) for seed in range(len(values))])
    results.put([entry("soft", "sst", 0, "f1", 0.5, agreement=0.75), entry("teacher", "mr", 0, "accuracy", 0.5)])
    summary = Summary(table, results.read())
    assert summary.rows_of_teacher("agreement") == (
        ["Method", "mr (3 seeds)", "sst"],
        [["soft", "83.0 ± 3.6", "75.0"], ["hard", "83.5 ± 0.7 (n = 2)", "–"]],
    )
    assert "in points, ± the standard error of the mean: hard +2.5 ± 0.5 (n = 2)." in to_markdown(summary)
    assert "## Distance" not in to_markdown(summary)

    for method, apart in {"soft": [0.10, 0.11, 0.12], "hard": [0.09, 0.102]}.items():
        results.put([entry(method, "mr", seed, "accuracy", 0.5, distance=a) for seed, a in enumerate(apart)])
    summary = Summary(table, results.read())
    assert summary.rows_of_teacher("distance") == (
        ["Method", "mr (3 seeds)"],
        [["soft", "0.110 ± 0.010"], ["hard", "0.096 ± 0.008 (n = 2)"]],
    )
    assert "in nats, ± the standard error of the mean: hard -0.009 ± 0.001 (n = 2)." in to_markdown(summary)


def test_render_writes_markdown_and_a_plot_of_every_method(results):
    render(results)
    names = {path.name for path in results.directory.iterdir()}
    assert names == {"small.json", "small.md", "small.svg", "small.png"}
    picture = (results.directory / "small.svg").read_text()
    ElementTree.fromstring(picture)
    assert (results.directory / "small.png").read_bytes().startswith(b"\x89PNG")
    first = (results.directory / "small.svg").read_bytes()
    render(results)
    assert (results.directory / "small.svg").read_bytes() == first  # or every commit would change it


def test_nothing_to_render_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no results yet"):
        render(Results(TABLE, tmp_path))


def test_entries_are_in_the_table_s_order_one_a_line_and_replaced(results):
    shown = Summary(TABLE, results.read()).rows()
    results.put([entry("soft", "mr", 9, "accuracy", 0.1)])
    assert Summary(TABLE, results.read()).rows() == shown  # a seed that the table has not is kept, but not shown
    results.put([entry("soft", "mr", 1, "accuracy", 0.5), entry("gone", "mr", 0, "accuracy", 0.5)])
    lines = results.path.read_text().splitlines()
    assert len(lines) == len(ENTRIES) + 4  # two more entries, two brackets
    read = [(e["method"], e["data"], e["seed"], e["metric"]) for e in json.loads(results.path.read_text())]
    assert read[:3] == [
        ("teacher", "mr", 0, "accuracy"),
        ("teacher", "mr", 1, "accuracy"),
        ("teacher", "sst", 0, "accuracy"),
    ]
    assert read[3:6] == [
        ("soft", "mr", 0, "accuracy"),
        ("soft", "mr", 0, "int8_accuracy"),
        ("soft", "mr", 1, "accuracy"),
    ]
    assert ("soft", "mr", 9, "accuracy") in read
    assert read[-1][0] == "gone"  # a row that the table no longer has is kept, but not shown
    assert results.read()["soft", "mr", 1, "accuracy"].value == 0.5
    assert [row[0] for row in Summary(TABLE, results.read()).rows()[1]] == ["teacher", "soft", "hard"]


def _write_many(directory, seeds) -> None:
    results = Results(TABLE, directory)
    for seed in seeds:
        results.put([entry("hard", "mr", seed, "accuracy", seed / 100)])


def test_two_writers_lose_nothing_of_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(tmp_path, range(start, 60, 2))) for start in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [e.seed for e in Results(TABLE, tmp_path).read().values()] == list(range(60))


@pytest.mark.parametrize("text", ["{", "3", '[{"table": "small"}]'])
def test_a_damaged_file_is_an_error_and_stays(tmp_path, text):
    results = Results(TABLE, tmp_path)
    results.path.write_text(text)
    with pytest.raises(UserError, match=r"small\.json"):
        results.put(ENTRIES)
    assert results.path.read_text() == text
