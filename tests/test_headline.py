"""The figures of the headline are those of the evidence, and `docs/update_headline.py` brings new ones to all documents or to none."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from compress.runtime.errors import UserError

ROOT = Path(__file__).parents[1]
SENTIMENT = "docs/sentiment"
RIGHT, TEXTS = 1850, 2144  # of the student in the changed evidence: more than it has
SLOWER = 8.0  # how much longer it takes there, so that it is over a millisecond


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


@pytest.fixture
def headline() -> Any:
    return importlib.import_module("update_headline")


@pytest.fixture
def tree(headline: Any, tmp_path: Path) -> Path:
    """A copy of what the command reads and writes."""
    root = tmp_path / "tree"
    for file in headline.outputs():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, root / file)
    return root


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """The results of a run whose INT8 student is more accurate, takes eight times as long, and whose cascade has a higher share."""
    folder = tmp_path / "artifacts"
    for command, names in {
        "bundle": ("manifest.json",),
        "bench": ("report.json", "report.md", "latency_accuracy.png"),
        "cascade": ("cascade.json", "cascade.md", "cascade.svg"),
    }.items():
        (folder / command).mkdir(parents=True)
        for name in names:
            shutil.copyfile(ROOT / SENTIMENT / name, folder / command / name)
    manifest, report, cascade = (
        folder / "bundle" / "manifest.json",
        folder / "bench" / "report.json",
        folder / "cascade" / "cascade.json",
    )
    change(manifest, lambda found: found["models"]["int8"].update(test_accuracy=round(RIGHT / TEXTS, 6)))
    change(report, better_and_slower)
    change(cascade, another_cascade)
    shown = folder / "bench" / "report.md"
    shown.write_text(shown.read_text(encoding="utf-8").replace("accuracy.png", "accuracy.svg"), encoding="utf-8")
    return folder


def change(file: Path, how: Any) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    how(found)
    file.write_text(json.dumps(found), encoding="utf-8")


def better_and_slower(report: dict[str, Any]) -> None:
    student = next(engine for engine in report["engines"] if engine["spec"]["name"] == "student-int8")
    accuracy = student["accuracy"]
    accuracy["right"] = accuracy["right"].replace("0", "1", RIGHT - accuracy["correct"])
    accuracy["correct"] = RIGHT
    for cell in student["cells"]:
        for key in ("tokenise_ms", "model_ms"):
            cell[key] = [SLOWER * ms for ms in cell[key]]
    report["created"] = "2027-01-02T03:04:05+00:00"
    report["environment"]["commit"] = "0123456789ab"


def another_cascade(cascade: dict[str, Any]) -> None:
    cascade["rows"][0]["accuracy"] = RIGHT / TEXTS
    exported = next(row for row in cascade["rows"] if row["title"].startswith("as exported"))
    exported.update(share=0.25, accuracy=0.8699)


def contents(root: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}


def page(root: Path, name: str) -> str:
    return " ".join((root / name).read_text(encoding="utf-8").split())


def test_the_committed_documents_have_the_figures_of_the_committed_evidence(
    headline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status = headline.main([str(ROOT / SENTIMENT), "--check"])
    assert (status, capsys.readouterr().out) == (0, "nothing to change\n")


def test_all_evidence_that_is_kept_is_copied(headline: Any) -> None:
    assert set(headline.EVIDENCE) == {file.name for file in (ROOT / SENTIMENT).iterdir()}


def test_what_the_documents_say_of_the_figures_in_words_is_true(headline: Any) -> None:
    said = headline.claims(headline.read_evidence(ROOT / SENTIMENT))
    assert [claim.words for claim in said if not claim.holds] == []
    assert [claim.words for claim in said if claim.words not in page(ROOT, claim.file)] == []


def test_new_figures_arrive_in_all_documents(
    headline: Any, tree: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert headline.main([str(artifacts)], tree) == 0
    printed = capsys.readouterr().out
    readme, measure, findings = (page(tree, name) for name in ("README.md", "docs/measure.md", "docs/findings.md"))
    old, new = (headline.read_evidence(root / SENTIMENT) for root in (ROOT, tree))
    linear, teacher, base = (old.percent(name) for name in ("linear", "teacher-torch", "bert-torch"))
    size = f"{new.manifest['files']['model.int8.onnx']['bytes'] / 1e6:.1f}"
    right = 100 * RIGHT / TEXTS
    said, gap = f"{right:.2f}", f"{100 * (right - linear) / (teacher - linear):.0f}"
    ms = SLOWER * old.p50("student-int8")
    assert f"| **student, ONNX Runtime INT8** | **{said}** | **{size}** | **{ms:.3g}** |" in readme
    assert f"so the student closes {gap} % of the gap" in readme
    assert (
        f"It keeps {100 * right / teacher:.1f} % of that teacher's accuracy and {100 * right / base:.1f} % of MPNet's."
        in readme
    )
    assert f"here by {teacher - right:.1f} points." in readme
    assert "commit 0123456, 2027-01-02 (" in readme
    faster = old.cascade.rows[-1].mean_ms / old.exported.mean_ms
    assert f"in the recipe 25 % of these texts go to it: 86.99 %, {faster:.1f} × as fast" in readme
    assert f"| **{said}** | **0.{gap} [" in measure
    assert f"| **{ms:.3g}** |" in measure
    base_int8 = old.percent("bert-onnx-int8") - right, old.p50("bert-onnx-int8") / ms
    assert (
        f"MPNet in INT8 is {base_int8[0]:.1f} points more accurate and takes {base_int8[1]:.0f} times as long."
        in measure
    )
    assert "| **25.0 %** | **86.99** |" in measure
    dev = 100 * new.manifest["models"]["int8"]["dev_accuracy"]
    assert f"| student, INT8 | {size} | {dev:.2f} | {said} |" in findings
    assert (
        f"keeps {100 * right / teacher:.1f} % of the teacher's test accuracy and closes {gap} % of the gap" in findings
    )
    assert f"keeps {100 * right / teacher:.1f} % of its teacher's accuracy" in findings
    assert f"{right:.1f} % right" in (tree / "docs" / "results.svg").read_text(encoding="utf-8")
    assert f"| student, INT8 | {right:.1f}% |" in page(tree, "docs/costs.md")
    # What it says: what it had not, that the student now takes longer than the first sentence says, what a person is to do.
    assert f"not in {artifacts}, left as it is: costs.json" in printed
    assert "- README.md: no longer true: answers in under a millisecond" in printed
    assert "photograph_page.py" in printed


def test_the_evidence_that_arrives_is_that_of_the_run(headline: Any, tree: Path, artifacts: Path) -> None:
    assert headline.main([str(artifacts)], tree) == 0
    kept = tree / SENTIMENT
    for name in ("bundle/manifest.json", "bench/report.json", "cascade/cascade.json"):
        assert (kept / Path(name).name).read_bytes() == (artifacts / name).read_bytes()
    assert (kept / "costs.json").read_bytes() == (ROOT / SENTIMENT / "costs.json").read_bytes()
    assert "](latency_accuracy.png)" in (kept / "report.md").read_text(encoding="utf-8")  # the picture that is kept
    assert headline.main([str(artifacts), "--check"], tree) == 0  # all is done
    assert headline.main([str(kept), "--check"], tree) == 0


def test_check_shows_what_would_change_and_changes_nothing(
    headline: Any, tree: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tree)
    assert headline.main([str(artifacts), "--check"], tree) == 1
    assert contents(tree) == before
    printed = capsys.readouterr().out
    now = headline.read_evidence(ROOT / SENTIMENT).percent("student-int8")
    assert f"would change: README.md\n  -| **student, ONNX Runtime INT8** | **{now:.2f}**" in printed
    assert "would change: docs/sentiment/manifest.json" in printed
    assert "would change: docs/sentiment/costs.json" not in printed


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("README.md", "so the student closes"),
        ("docs/measure.md", "Latency is at batch 1"),
        ("docs/findings.md", "The INT8 student keeps"),
    ],
)
def test_a_sentence_that_is_not_found_changes_nothing(
    file: str, words: str, headline: Any, tree: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tree / file
    document.write_text(document.read_text(encoding="utf-8").replace(words, "Other words"), encoding="utf-8")
    before = contents(tree)
    assert headline.main([str(artifacts)], tree) == 2
    assert contents(tree) == before
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: not found: ")
    assert words in error
    assert error.count("\n") == 1


def test_each_passage_must_be_there_once(headline: Any) -> None:
    found = headline.figures(headline.read_evidence(ROOT / SENTIMENT))
    for file, passages in headline.PASSAGES.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        for passage in passages:
            match = headline.pattern(passage).search(text)
            with pytest.raises(UserError, match=f"{file}: not found"):
                headline.filled(file, text[: match.start()] + text[match.end() :], found)
            with pytest.raises(UserError, match=f"{file}: found 2 times"):
                headline.filled(file, f"{text}\n\n{match[0]}", found)


def test_files_of_different_runs_change_nothing(
    headline: Any, tree: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(artifacts / "bench")
    before = contents(tree)
    assert headline.main([str(artifacts)], tree) == 2
    assert contents(tree) == before
    now = headline.read_evidence(ROOT / SENTIMENT).percent("student-int8")
    assert f"report.json has {now:.2f} % for student-int8, manifest.json 86.29 %" in capsys.readouterr().err


def test_a_part_of_what_a_command_writes_changes_nothing(
    headline: Any, tree: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (artifacts / "bench" / "report.md").unlink()
    before = contents(tree)
    assert headline.main([str(artifacts)], tree) == 2
    assert contents(tree) == before
    assert "has no report.md, but other files of the same command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda report: report.update(partial="it was interrupted"), "not valid: it was interrupted"),
        (lambda report: report.update(threads=2), "the documents have one thread"),
        (
            lambda report: report["engines"][0].update(accuracy=None),
            "no accuracy of bert-torch; measure with --bert-base",
        ),
        (lambda report: report["environment"].update(commit=None), "of no known commit"),
        (lambda report: report.update(command="pocketbert bench other.toml"), "not a measurement of recipes/sentiment"),
    ],
)
def test_a_report_that_the_documents_do_not_describe_changes_nothing(
    wrong: Any,
    said: str,
    headline: Any,
    tree: Path,
    artifacts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(artifacts / "bench" / "report.json", wrong)
    before = contents(tree)
    assert headline.main([str(artifacts)], tree) == 2
    assert contents(tree) == before
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("start", ["pocketbert bench", "python -m bench compare"])
def test_a_command_is_shown_as_one_types_it_and_without_the_place_of_its_results(start: str) -> None:
    typed = importlib.import_module("headline_figures").typed
    command = f"{start} recipes/sentiment.toml --set bench.seconds=1 --out docs/sentiment"
    assert typed(command, "compare", "bench") == "pocketbert bench recipes/sentiment.toml --set bench.seconds=1"


def test_the_machine_is_that_of_the_report(headline: Any) -> None:
    found = headline.read_evidence(ROOT / SENTIMENT).report.environment
    machine = importlib.import_module("headline_figures").machine
    other = {"cpu": "Neoverse-V2", "simd": ["asimd", "asimddp"], "commit": "0123456789ab+"}
    assert machine(found.model_copy(update=other)) == {
        "cpu": "a Neoverse-V2",
        "simd": "NEON and no VNNI",
        "commit": "0123456+",
    }
    faster = {"cpu": "Intel Xeon", "simd": ["avx2", "avx512f", "avx512_vnni"]}
    shown = machine(found.model_copy(update=faster))
    assert (shown["cpu"], shown["simd"]) == ("an Intel Xeon", "AVX512 and VNNI")


@pytest.mark.parametrize(
    ("file", "wrong", "lacking"),
    [
        ("bundle/manifest.json", lambda found: found["models"].pop("fp32"), "fp32"),
        ("cascade/cascade.json", lambda found: found["rows"].pop(2), "10% of dev"),  # only docs/costs.md shows it
    ],
)
def test_evidence_without_what_a_page_shows_changes_nothing(
    file: str,
    wrong: Any,
    lacking: str,
    headline: Any,
    tree: Path,
    artifacts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(artifacts / file, wrong)
    before = contents(tree)
    assert headline.main([str(artifacts)], tree) == 2
    assert contents(tree) == before
    assert capsys.readouterr().err == f"error: the evidence has no '{lacking}'\n"


def test_a_folder_without_evidence_is_said(headline: Any, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert headline.main([str(tree / "nowhere")], tree) == 2
    assert "none of manifest.json" in capsys.readouterr().err
