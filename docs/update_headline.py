"""Write the headline anew, after a new run of the default recipe: the figures of README.md, docs/measure.md and docs/findings.md, the
evidence in docs/sentiment, and what is drawn from it (docs/results.svg, the tables of docs/costs.md).

Usage: python docs/update_headline.py ARTIFACTS           writes
       python docs/update_headline.py ARTIFACTS --check   shows what would change; exit status 1 if anything would

ARTIFACTS is the folder of a run, such as artifacts/sentiment, or a flat one, such as docs/sentiment. What it lacks stays as it is. All is
made in memory first: if a passage of a document is not found, or two files are of different runs, nothing is changed.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]  # the packages, and the modules beside this one

import draw_costs  # noqa: E402
import draw_results  # noqa: E402
from headline_evidence import Evidence, read_evidence  # noqa: E402
from headline_figures import claims, figures  # noqa: E402

from compress.runtime.errors import UserError  # noqa: E402
from compress.runtime.files import replacing  # noqa: E402

KEPT, PICTURE, COSTS = "docs/sentiment", "docs/results.svg", "docs/costs.md"
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
        "one core of {cpu:words} with {simd:words}, otherwise idle, commit {commit}, {date} (",
        "the same times within some percent: ```sh {bench_command:command} ```",
        "Latency is at batch 1, throughput at batch {batch_size}, tokenisation included; {texts} test texts.",
        "faster at 128 | texts/s, 128 tokens |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n{measure_rows:rows}\n",
        "MPNet in INT8 is {base_above} points more accurate and takes {base_times} times as long.",
        "exported with `--set cascade.within_points={within}`, student and teacher in INT8, {cascade_texts} test texts, one core of "
        "{cascade_cpu:words} with {cascade_simd:words} (`{cascade_command:command}`, commit {cascade_commit}, {cascade_date}; ",
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
            kept = Path(folder) / "sentiment"
            missing = gather(given.artifacts, root / KEPT, kept)
            evidence = read_evidence(kept)
            made = contents(root, kept, evidence)
    except (UserError, LookupError) as error:
        print(f"error: {error if isinstance(error, UserError) else f'the evidence has no {error}'}", file=sys.stderr)
        return 2
    changed = [file for file in outputs() if (root / file).read_bytes() != made[file]]
    for name in missing:
        print(f"not in {given.artifacts}, left as it is: {name}")
    for file in changed:
        if given.check:
            print("\n".join([f"would change: {file}", *changed_lines(root / file, made[file])]))
        else:
            print(f"changed: {file}")
            with replacing(root / file) as temporary:
                temporary.write_bytes(made[file])
    print("\n".join(left_to_do(changed, evidence)) if changed else "nothing to change")
    return int(given.check and bool(changed))


def outputs() -> list[str]:
    """All files that this command writes."""
    return [*(f"{KEPT}/{name}" for name in EVIDENCE), *PASSAGES, PICTURE, COSTS]


def gather(artifacts: Path, present: Path, folder: Path) -> list[str]:
    """Put the evidence of a run into a new folder, and the present one where the run has none.

    :returns: what the run does not have.
    :raises UserError: there is no evidence in the run, or only a part of that of one command.
    """
    places = {name: (artifacts / command / name, artifacts / name) for name, command in EVIDENCE.items()}
    found = {name: file for name, files in places.items() if (file := next(filter(Path.is_file, files), None))}
    missing = [name for name in EVIDENCE if name not in found]
    if not found:
        raise UserError(f"{artifacts}: none of {', '.join(EVIDENCE)} is there")
    commands = {EVIDENCE[name] for name in found} - {"."}
    if parts := [name for name in missing if EVIDENCE[name] in commands]:
        raise UserError(f"{artifacts}: has no {', '.join(parts)}, but other files of the same command")
    shutil.copytree(present, folder)
    for name, file in found.items():
        shutil.copyfile(file, folder / name)
    text = (folder / "report.md").read_text(encoding="utf-8")  # of the two pictures the small one is kept
    (folder / "report.md").write_text(
        text.replace("](latency_accuracy.svg)", "](latency_accuracy.png)"), encoding="utf-8"
    )
    return missing


def contents(root: Path, kept: Path, evidence: Evidence) -> dict[str, bytes]:
    """What each of `outputs` is to hold.

    :param kept: the folder of the evidence.
    :raises UserError: a passage is not in its document, or more than once.
    """
    before = {file: (root / file).read_text(encoding="utf-8") for file in (*PASSAGES, COSTS)}
    known = figures(evidence)
    texts = {file: filled(file, before[file], known) for file in PASSAGES}
    texts |= {PICTURE: draw_results.picture(evidence.manifest), COSTS: draw_costs.page(before[COSTS], kept)}
    files = {f"{KEPT}/{name}": (kept / name).read_bytes() for name in EVIDENCE}
    return files | {file: text.encode("utf-8") for file, text in texts.items()}


def filled(file: str, text: str, figures: dict[str, str]) -> str:
    """A document with the figures in its passages. Where a figure is right already, its ends of lines stay.

    :raises UserError: a passage is not there, or there more than once.
    """
    for passage in PASSAGES[file]:
        matches = list(pattern(passage).finditer(text))
        if len(matches) != 1:
            times = "not found" if not matches else f"found {len(matches)} times"
            raise UserError(f"{file}: {times}: {' '.join(passage.split())}")
        names = re.findall(r"\{(\w+)", passage)
        for group, name in reversed(list(enumerate(names, start=1))):  # from the end, so that places before it stay
            start, end = matches[0].span(group)
            if text[start:end].split() != figures[name].split():
                text = text[:start] + figures[name] + text[end:]
    return text


def pattern(passage: str) -> re.Pattern[str]:
    """What finds a passage with any figures, each of which is a group, and with any ends of lines."""
    words = re.sub(r"(?:\\\s)+", r"\\s+", re.escape(passage))
    return re.compile(re.sub(r"\\\{\w+(?::(\w+))?\\\}", lambda figure: f"({KINDS[figure[1]]})", words))


def changed_lines(present: Path, made: bytes) -> Iterator[str]:
    """The lines of a page that differ, the old ones with - and the new ones with +; nothing of other files."""
    if present.suffix == ".md":
        before, after = present.read_text(encoding="utf-8").splitlines(), made.decode("utf-8").splitlines()
        lines = difflib.unified_diff(before, after, n=0, lineterm="")
        yield from (f"  {line}" for line in lines if not line.startswith(("---", "+++", "@@")))


def left_to_do(changed: list[str], evidence: Evidence) -> Iterator[str]:
    """The steps that are left for a person."""
    yield "left for a person:"
    yield from (f"- {claim.file}: no longer true: {claim.words}" for claim in claims(evidence) if not claim.holds)
    yield from (f"- {step}" for name, step in LEFT if f"{KEPT}/{name}" in changed)
    yield "- `make docs` and the tests; then read the pages once: words beside a figure may say less or more than it does now"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
