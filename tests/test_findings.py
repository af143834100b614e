"""Figures in README and docs/findings.md are those of runs that are in the tree."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path

import pytest

from bench.report import read_report

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FINDINGS = " ".join((ROOT / "docs" / "findings.md").read_text(encoding="utf-8").split())
MANIFEST = json.loads((ROOT / "docs" / "sentiment" / "manifest.json").read_text(encoding="utf-8"))
# Differences in points: what is said, then the table, row, other row and columns (all if there are none) that say it.
DIFFERENCES = [
    ("by 0.8 ± 0.3 (MiniLM's)", "objectives", "minilm", "none", ()),
    ("to 1.4 ± 0.3 points (PKD)", "objectives", "pkd", "none", ()),
    ("labels alone it is 0.8 ± 0.4", "objectives", "copied", "none", ()),
    ("gains 4.7 ± 0.8 points from a teacher", "objectives", "bilstm", "bilstm-none", ()),
    ("worth 0.5 ± 0.2 to", "augmentation", "tinybert", "none", ()),
    ("to 0.6 ± 0.3 points (8 runs)", "augmentation", "eda", "none", ()),
    ("gains 1.9 ± 1.1 points", "metakd", "metakd", "kd-single", ("amazon",)),
    ("amazon and 6.5 ± 2.2", "metakd", "metakd", "kd-single", ("mnli",)),
    ("teacher 3.7 ± 0.5 and", "metakd", "meta-teacher", "teacher-single", ("amazon",)),
    ("and 13.6 ± 1.4", "metakd", "meta-teacher", "teacher-single", ("mnli",)),
    ("gains 0.0 ± 0.4 and", "metakd", "meta-teacher", "teacher-multi", ("amazon",)),
    ("and −1.5 ± 1.0", "metakd", "meta-teacher", "teacher-multi", ("mnli",)),
    ("student 0.3 ± 0.6 and", "metakd", "metakd", "kd-multi", ("amazon",)),
    ("and −0.0 ± 0.7", "metakd", "metakd", "kd-multi", ("mnli",)),
    ("worth 0.2 ± 0.2, corruption", "metakd", "metakd", "metakd-no-expertise", ("amazon",)),
    ("corruption −0.0 ± 0.4", "metakd", "metakd", "metakd-no-corruption", ("amazon",)),
    ("loss 0.1 ± 0.1", "metakd", "metakd", "metakd-no-transfer", ("amazon",)),
    ("is 5.7 ± 0.5 points ahead of", "l2a", "teacher-both", "none", ("mr",)),
    ("gains 3.2 ± 0.4 by the target", "l2a", "unlabelled-texts", "none", ("mr",)),
    ("texts, 2.5 ± 0.4 by the source", "l2a", "source-texts", "none", ("mr",)),
    ("1.9 ± 0.4 by L2A", "l2a", "l2a", "none", ("mr",)),
    ("0.7 ± 0.1 by TinyBERT", "l2a", "tinybert", "none", ("mr",)),
    ("texts cost 1.0 ± 0.4", "l2a", "none", "source-texts", ("cikm2018",)),
    ("gains 3.2 ± 0.8,", "l2a", "l2a", "none", ("mr-5",)),
    ("1.8 ± 0.4 and", "l2a", "l2a", "none", ("mr-10",)),
    ("and 0.9 ± 0.3 points on mr", "l2a", "l2a", "none", ("mr-25",)),
    ("(−0.2 ± 0.2)", "l2a", "l2a", "none", ("cikm2018",)),
    ("(−0.8 ± 0.5)", "l2a", "l2a", "none", ("scitail",)),
    ("By 1.2 ± 0.4 than EDA", "l2a", "l2a", "eda", ()),
    ("0.8 ± 0.4 than CBERT", "l2a", "l2a", "cbert", ()),
    ("0.8 ± 0.3 than TinyBERT", "l2a", "l2a", "tinybert", ()),
    ("by 0.4 ± 0.2 and", "l2a", "l2a", "keep-all", ()),
    ("and 0.3 ± 0.2: a little", "l2a", "l2a", "random", ()),
    ("0.1 ± 0.1 less than keeping all", "l2a", "keep-all", "l2a", ("mr",)),
    ("saves 1.1 ± 0.4 (cikm2018)", "l2a", "l2a", "keep-all", ("cikm2018",)),
    ("it loses 0.7 ± 0.4", "l2a", "l2a", "no-source", ()),
    ("(2.6 ± 1.0 with 5 %", "l2a", "l2a", "no-source", ("mr-5",)),
    ("target's: 0.1 ± 0.2", "l2a", "l2a", "no-target", ()),
    ("it is 1.0 ± 1.1 below", "l2a", "teacher", "l2a", ("mr-5",)),
    ("with 10 % 3.0 ± 1.0", "l2a", "teacher", "l2a", ("mr-10",)),
    ("with 25 % 4.0 ± 0.5", "l2a", "teacher", "l2a", ("mr-25",)),
    ("cikm2018 1.2 ± 0.6 below", "l2a", "teacher", "l2a", ("cikm2018",)),
    ("teacher is 0.7 ± 0.3 ahead", "l2a", "teacher-both", "none", ("cikm2018",)),
    ("it gains 0.1 ± 0.2 points, on a random", "adabert", "adabert", "by-hand", ()),
    ("as much 0.2 ± 0.2, on", "adabert", "adabert", "random", ()),
    ("cost −0.0 ± 0.2 (nine runs)", "adabert", "adabert", "random-cheaper", ()),
    ("loses 4.1 ± 2.5 points", "adabert", "by-hand", "unaligned", ()),
    ("0.7 ± 0.4 points better", "search", "drawn", "default", ()),
    ("gains 0.0 ± 0.5 on", "search", "default", "untried", ()),
    ("size, 0.1 ± 0.2 on measured", "search", "computed-cost", "default", ()),
    ("weights 0.3 ± 0.1", "search", "inherit", "default", ()),
    ("students are 0.1 ± 0.2 and", "search", "by-hand", "default", ()),
    ("and 0.3 ± 0.2 ahead", "search", "random", "default", ()),
]
# The same of the share of the texts to which a student gives its teacher's label, in %.
AGREEMENTS = [
    ("L2A on 3.1 ± 0.7 %", "l2a", "l2a", "none", ()),
    ("keeping all 3.8 ± 0.7", "l2a", "keep-all", "none", ()),
    ("unlabelled texts 6.4 ± 0.6", "l2a", "unlabelled-texts", "none", ()),
    ("1.0 ± 1.6 worse", "l2a", "none", "source-texts", ("scitail",)),
    ("label to 0.5 ± 0.2 %", "adabert", "adabert", "random", ()),
    ("0.6 ± 0.2 % more than the cheaper", "adabert", "adabert", "random-cheaper", ()),
    ("and 0.2 ± 0.3 % more", "adabert", "adabert", "by-hand", ()),
]
SAID_BY_THE_TABLE = {"0.1 ± 0.2 points more than"}  # task adaptivity: tests/bench renders that table again


@pytest.mark.parametrize("claim", DIFFERENCES, ids=lambda claim: claim[0])
def test_a_difference_is_that_of_the_runs(claim: tuple[str, str, str, str, tuple[str, ...]]) -> None:
    said, table, row, other, columns = claim
    assert said in FINDINGS
    assert difference(table, row, other, columns, "value") in said


@pytest.mark.parametrize("claim", AGREEMENTS, ids=lambda claim: claim[0])
def test_an_agreement_is_that_of_the_runs(claim: tuple[str, str, str, str, tuple[str, ...]]) -> None:
    said, table, row, other, columns = claim
    assert said in FINDINGS
    assert difference(table, row, other, columns, "agreement") in said


def test_every_difference_in_the_findings_has_its_runs() -> None:
    backed = []
    for said in [claim[0] for claim in (*DIFFERENCES, *AGREEMENTS)] + sorted(SAID_BY_THE_TABLE):
        assert FINDINGS.count(said) == 1, said
        start = FINDINGS.index(said)
        backed.append(range(start, start + len(said)))
    figures = re.finditer(r"\d+\.\d ± \d+\.\d", FINDINGS)
    bare = [
        FINDINGS[figure.start() - 30 : figure.end() + 20]
        for figure in figures
        if not any(figure.start() in span for span in backed)
    ]
    assert bare == []


def test_the_figures_of_the_default_recipe_are_those_of_its_manifest() -> None:
    card, models = MANIFEST["provenance"], MANIFEST["models"]
    size = {name: f"{MANIFEST['files'][model['file']]['bytes'] / 1e6:.1f}" for name, model in models.items()}
    texts = card["sizes"]

    def exact(share: float, split: str) -> float:
        """The manifest's share, which is rounded, as a number of texts through all texts."""
        return round(share * texts[split]) / texts[split]

    test = {name: percent(exact(model["test_accuracy"], "test")) for name, model in models.items()}
    dev = {name: percent(exact(model["dev_accuracy"], "dev")) for name, model in models.items()}
    teacher, linear = (
        {split: exact(share, split) for split, share in found["accuracy"].items()}
        for found in (card["teacher"], card["linear"])
    )
    report = json.loads((ROOT / "docs" / "sentiment" / "report.json").read_text(encoding="utf-8"))
    judged = next(engine for engine in report["engines"] if engine["spec"]["name"] == "teacher-torch")["accuracy"]
    in_fp32 = (
        judged["correct"] / judged["total"]
    )  # the manifest has it in the precision of the training, which may be bf16
    assert abs(in_fp32 - teacher["test"]) < 0.003
    assert f"PyTorch fp32 | {percent(in_fp32)} |" in README
    assert f"ONNX Runtime fp32 | {test['fp32']} | {size['fp32']} |" in README
    assert f"ONNX Runtime INT8** | **{test['int8']}** | **{size['int8']}** |" in README
    assert f"linear model on n-grams has {percent(linear['test'])} %" in " ".join(README.split())
    assert f"| | {percent(linear['dev'])} | {percent(linear['test'])} |" in FINDINGS
    assert f"fine-tuned) | | {percent(teacher['dev'])} | {percent(teacher['test'])} |" in FINDINGS
    assert f"fp32 | {size['fp32']} | {dev['fp32']} | {test['fp32']} |" in FINDINGS
    assert f"INT8 | {size['int8']} | {dev['int8']} | {test['int8']} |" in FINDINGS
    right = exact(models["int8"]["test_accuracy"], "test")
    closed = f"{100 * (right - linear['test']) / (in_fp32 - linear['test']):.0f} % of the gap"
    assert closed in " ".join(README.split())
    assert f"keeps {100 * right / in_fp32:.1f} % of the teacher's test accuracy and closes {closed}" in FINDINGS


def test_the_spread_of_seeds_is_that_of_the_runs() -> None:
    found = json.loads((ROOT / "docs" / "seeds.json").read_text(encoding="utf-8"))
    for kind, split in (("default", "test"), ("default", "dev"), ("tutored", "test"), ("tutored", "dev")):
        values = [run["int8"][split] for run in found[kind]]
        assert len(values) == 3
        said = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        assert said in FINDINGS, (kind, split, said)
    best = statistics.mean(run["int8"]["test"] for run in found["tutored"])
    assert f"raises the same student to {best:.1f} %" in " ".join(README.split())


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def difference(table: str, row: str, other: str, columns: tuple[str, ...], key: str) -> str:
    """Mean and standard error of the differences between two rows, run by run, in points."""
    found = runs(table, key)
    pairs = [
        100 * (value - found[other, column, seed])
        for (method, column, seed), value in found.items()
        if method == row and (other, column, seed) in found and (not columns or column.startswith(columns))
    ]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs))
    return f"{statistics.mean(pairs):.1f} ± {error:.1f}".replace("-", "−")


def runs(table: str, key: str) -> dict[tuple[str, str, int], float]:
    """The main figure of each run of a table; as in the tables, columns in their own right and finished seeds only."""
    entries = json.loads((ROOT / "bench" / "results" / f"{table}.json").read_text(encoding="utf-8"))
    with_f1 = {entry["data"] for entry in entries if entry["metric"] == "f1"}
    return {
        (entry["method"], entry["data"], entry["seed"]): entry[key]
        for entry in entries
        if entry["metric"] == ("f1" if entry["data"] in with_f1 else "accuracy")
        and entry[key] is not None
        and not (table == "l2a" and (entry["data"], entry["seed"]) == ("scitail", 2))  # cut off: six of its rows
        and entry["data"] != "mnli-fiction-unseen"
    }


def test_the_second_task_is_as_its_report_says() -> None:
    folder = ROOT / "docs" / "sst2"
    table = (folder / "report.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert table in (ROOT / "docs" / "measure.md").read_text(encoding="utf-8")
    report = read_report(folder)
    right = {
        name: engine.accuracy.percent
        for name in ("linear", "teacher-torch", "student-int8")
        if (engine := report.engine(name)) and engine.accuracy
    }
    linear, teacher, student = right.values()
    assert (
        f"{student:.2f} % on test in INT8, where a linear model has {linear:.2f} and the teacher {teacher:.2f}"
        in FINDINGS
    )
    assert (
        f"{100 * student / teacher:.1f} % of the teacher, {100 * (student - linear) / (teacher - linear):.0f} % of the gap"
        in FINDINGS
    )


def test_how_far_two_runs_differ_is_as_the_page_says() -> None:
    twice = json.loads((ROOT / "docs" / "twice.json").read_text(encoding="utf-8"))["speed_up"]
    page = " ".join((ROOT / "docs" / "measure.md").read_text(encoding="utf-8").split())

    def most(texts: str) -> float:
        return 100 * max(abs(later / first - 1) for first, later in (found[texts] for found in twice.values()))

    said = f"up to {most('32 tokens'):.0f} % at 32 tokens, {most('128 tokens'):.0f} % at 128 and {most('own texts'):.0f} % for the task's own texts"
    assert said in page
    first, later = twice["student-int8"]["128 tokens"]
    assert f"INT8 of the student was {first:,.0f} and {later:,.0f} times as fast at 128" in page
