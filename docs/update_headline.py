"""Write the headline anew, after a new run of the default recipe: the figures of README.md, docs/measure.md and docs/findings.md, the
evidence in docs/sentiment, and what is drawn from it (docs/results.svg, the tables of docs/costs.md).

Usage: python docs/update_headline.py ARTIFACTS           writes
       python docs/update_headline.py ARTIFACTS --check   shows what would change; exit status 1 if anything would

ARTIFACTS is the folder of a run, such as artifacts/sentiment, or a flat one, such as docs/sentiment. What it lacks stays as it is. All is
made in a copy first: if a passage of a document is not found, or two files are of different runs, nothing is changed.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]  # the packages, and the two modules beside this one

from headline_evidence import Evidence, read_evidence  # noqa: E402
from headline_figures import claims, figures  # noqa: E402

from compress.runtime.errors import UserError  # noqa: E402
from compress.runtime.files import replacing  # noqa: E402

# The files that are kept in docs/sentiment, and where the commands of the product write them, in the folder of a run.
EVIDENCE = {
    "manifest.json": "bundle",
    "genotype.json": "architecture",
    "report.json": "bench",
    "report.md": "bench",
    "latency_accuracy.png": "bench",
    "cascade.json": "cascade",
    "cascade.md": "cascade",
    "cascade.svg": "cascade",
    "costs.json": ".",
    "search_cost.json": ".",
    "base_teacher.json": ".",
}
DRAWN = {"docs/results.svg": "docs/draw_results.py", "docs/costs.md": "docs/draw_costs.py"}

# What stands in the documents. {name} is a figure of `headline_figures.figures`; {name:kind} says that it is more than one word (`KINDS`).
# All else must be there, word by word, once; where a line ends does not matter.
PASSAGES = {
    "README.md": (
        "| | accuracy, % | size, MB | p50, ms | × faster |\n|---|---:|---:|---:|---:|\n{readme_rows:rows}\n",
        "Sentiment of {texts} test texts, one run, seed {seed} (",
        "A linear model on n-grams has {linear} % and takes {linear_ms} ms, so the student closes {gap_share} % of the gap between it and "
        "its teacher. It keeps {teacher_share} % of that teacher's accuracy and {base_share} % of MPNet's.",
        "tokenisation included, on one core of {cpu:words} with {simd:words}, commit {commit}, {date} (",
        "With `[cascade] within_points = {within}` in the recipe {cascade_share} % of these texts go to it: {cascade_accuracy} %, "
        "{cascade_faster} × as fast as that teacher alone",
        "here by {below_teacher} points. A larger teacher knows more (MPNet, {base} % here)",
        "the standard error of such an accuracy is {error} points.",
    ),
    "docs/measure.md": (
        "one core of {cpu:words} with {simd_vnni:words}, otherwise idle, commit {commit}, {date} (",
        "the same times within some percent: ```sh {bench_command:command} ```",
        "Latency is at batch 1, throughput at batch {batch_size}, tokenisation included; {texts} test texts.",
        "faster at 128 | texts/s, 128 tokens |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n{measure_rows:rows}\n",
        "MPNet in INT8 is {base_above} points more accurate and takes {base_times} times as long.",
        "exported with `--set cascade.within_points={within}`, student and teacher in INT8, {cascade_texts} test texts, one core of "
        "{cascade_cpu:words} with {cascade_simd_vnni:words} (`{cascade_command:command}`, commit {cascade_commit}, {cascade_date}; ",
        "| ECE | mean, ms | faster than the teacher |\n|---|---:|---:|---:|---:|---:|\n{cascade_rows:rows}\n",
        "On dev the temperature ({temperature}) brings the student's ECE from {ece_dev_before} to {ece_dev_after}, on test from "
        "{ece_test_before} to {ece_test_after}.",
    ),
    "docs/findings.md": (
        "the [default student](#the-default-recipe) keeps {teacher_share} % of its teacher's accuracy.",
        "Seed {seed}. The search took ",
        ", {cost} % of the costliest.",
        "| | size, MB | dev, % | test, % |\n|---|---:|---:|---:|\n{findings_rows:rows}\n",
        "The INT8 student keeps {teacher_share} % of the teacher's test accuracy and closes {gap_share} % of the gap between linear model "
        "and teacher. Dev has {dev_texts} texts and test {texts}, which share no text, review or article with the {train_texts} training "
        "texts ({shared} of these share five words in a row with one of dev or test). The standard error of such an accuracy is {error} "
        "points.",
        "(MPNet) has {base} % of test; frozen, with logistic regression, {base_frozen} % (",
    ),
}
KINDS = {None: r"[^\s|]+", "words": r"[^|`()]{1,80}?", "command": r"[^`]+?", "rows": r"\|[^\n]*(?:\n\|[^\n]*)*"}
FIGURE = re.compile(r"\{(\w+)(?::(\w+))?\}")
# What no command can write, and the file after whose change it is to be done.
LEFT = (
    ("report.json", "`python docs/photograph_page.py`: docs/report-page.png shows the report; needs Chromium"),
    ("report.json", "docs/measure.md, On a CPU: the last paragraph, about earlier runs and other machines"),
    ("manifest.json", "README.md: the answer of /classify under Serve, and the minutes of `make compress-and-export`"),
    ("manifest.json", "docs/findings.md, The default recipe: machine, commits and minutes, a row of what was learned"),
    ("manifest.json", "docs/compared.md: `docs/measure_compared.py` measures the student again beside other tools"),
    ("genotype.json", "docs/findings.md, The default recipe: the cell of the search in words"),
    ("costs.json", "docs/costs.md: the sentences beside the tables"),
    ("search_cost.json", "docs/methods.md, How a student is made: the rank correlation, its machine and its date"),
    ("base_teacher.json", "docs/measure.md, On a CPU: how long the base-size BERT took to train"),
)


def main(arguments: list[str], root: Path = DOCS.parent) -> int:
    """Update the documents of a checkout; the exit status."""
    parser = argparse.ArgumentParser(description="Write the headline anew from the results of a run.")
    parser.add_argument("artifacts", type=Path, metavar="ARTIFACTS", help="for example artifacts/sentiment")
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if something would change")
    given = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return update(given.artifacts, root, Path(folder), check=given.check)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def update(artifacts: Path, root: Path, made: Path, *, check: bool) -> int:
    """Make all in the folder `made`, then show or install what is new there; the exit status."""
    missing = copy_tree(root, made, artifacts)
    evidence = read_evidence(made / "docs" / "sentiment")
    fill_documents(made, figures(evidence))
    for script in DRAWN.values():
        draw(made / script)
    changed = [file for file in outputs() if not same(made / file, root / file)]
    for name in missing:
        print(f"not in {artifacts}, left as it is: {name}")
    for file in changed:
        print(f"{'would change' if check else 'changed'}: {file}")
        if check:
            print("\n".join(changed_lines(root / file, made / file)))
        else:
            install(made / file, root / file)
    print("\n".join(left_to_do(changed, evidence)) if changed else "nothing to change")
    return 1 if check and changed else 0


def outputs() -> list[str]:
    """All files that this command writes."""
    return [*(f"docs/sentiment/{name}" for name in EVIDENCE), *PASSAGES, *DRAWN]


def copy_tree(root: Path, made: Path, artifacts: Path) -> list[str]:
    """Copy what is written and what draws it, with the evidence of a run in the place of the present one.

    :returns: what the run does not have.
    :raises UserError: there is no evidence in the folder, or only a part of that of one command.
    """
    for file in (*outputs(), *DRAWN.values()):
        (made / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, made / file)
    found = {name: place for name, folder in EVIDENCE.items() if (place := find(artifacts, folder, name))}
    missing = [name for name in EVIDENCE if name not in found]
    if not found:
        raise UserError(f"{artifacts}: none of {', '.join(EVIDENCE)} is there")
    parts = [name for name in missing if EVIDENCE[name] in {EVIDENCE[one] for one in found} - {"."}]
    if parts:
        raise UserError(f"{artifacts}: has no {', '.join(parts)}, but other files of the same command")
    for name, place in found.items():
        shutil.copyfile(place, made / "docs" / "sentiment" / name)
    report = made / "docs" / "sentiment" / "report.md"  # of the two pictures the small one is kept
    text = report.read_text(encoding="utf-8")
    report.write_text(text.replace("](latency_accuracy.svg)", "](latency_accuracy.png)"), encoding="utf-8")
    return missing


def find(artifacts: Path, folder: str, name: str) -> Path | None:
    """A file of a run, in the folder of its command or in none."""
    return next((place for place in (artifacts / folder / name, artifacts / name) if place.is_file()), None)


def fill_documents(made: Path, figures: dict[str, str]) -> None:
    """Write the figures into the documents.

    :raises UserError: a passage is not there, or there more than once.
    """
    for file in PASSAGES:
        text = filled(file, (made / file).read_text(encoding="utf-8"), figures)
        (made / file).write_text(text, encoding="utf-8")


def filled(file: str, text: str, figures: dict[str, str]) -> str:
    """A document with the figures in its passages.

    :raises UserError: a passage is not there, or there more than once.
    """
    for passage in PASSAGES[file]:
        matches = list(pattern(passage).finditer(text))
        if len(matches) != 1:
            times = "not found" if not matches else f"found {len(matches)} times"
            raise UserError(f"{file}: {times}: {' '.join(passage.split())}")
        text = with_figures(text, matches[0], [name for name, _ in FIGURE.findall(passage)], figures)
    return text


def pattern(passage: str) -> re.Pattern[str]:
    """What finds a passage with any figures; each is a group."""
    parts, end = [], 0
    for figure in FIGURE.finditer(passage):
        parts += [literal(passage[end : figure.start()]), f"({KINDS[figure[2]]})"]
        end = figure.end()
    return re.compile("".join([*parts, literal(passage[end:])]))


def literal(words: str) -> str:
    """A pattern of these words, with any ends of lines between them."""
    return r"\s+".join(map(re.escape, re.split(r"\s+", words)))


def with_figures(text: str, found: re.Match[str], names: list[str], figures: dict[str, str]) -> str:
    """The text with these figures in the groups of a match. One that is right already keeps its ends of lines."""
    for group, name in reversed(list(enumerate(names, start=1))):  # from the end, so that places before it stay
        if found[group].split() != figures[name].split():
            text = text[: found.start(group)] + figures[name] + text[found.end(group) :]
    return text


def draw(script: Path) -> None:
    """Run a script that draws from the evidence beside it.

    :raises UserError: it fails.
    """
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"docs/{script.name}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")


def same(made: Path, present: Path) -> bool:
    """Whether two files have the same bytes."""
    return made.read_bytes() == present.read_bytes()


def install(made: Path, present: Path) -> None:
    """Put a finished file in its place. No file is ever half written."""
    with replacing(present) as temporary:
        shutil.copyfile(made, temporary)


def changed_lines(present: Path, made: Path) -> Iterator[str]:
    """The lines of a page that differ, the old ones with - and the new ones with +; nothing of other files."""
    if present.suffix == ".md":
        before, after = (file.read_text(encoding="utf-8").splitlines() for file in (present, made))
        lines = difflib.unified_diff(before, after, n=0, lineterm="")
        yield from (f"  {line}" for line in lines if not line.startswith(("---", "+++", "@@")))


def left_to_do(changed: list[str], evidence: Evidence) -> Iterator[str]:
    """The steps that are left for a person."""
    yield "left for a person:"
    yield from (f"- {claim.file}: no longer true: {claim.words}" for claim in claims(evidence) if not claim.holds)
    yield from (f"- {step}" for name, step in LEFT if f"docs/sentiment/{name}" in changed)
    yield "- `make docs` and the tests; then read the pages once: words beside a figure may say less or more than it does now"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
