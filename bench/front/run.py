"""A front from start to end: make every student, measure them all, take the one that the budget takes, write the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxruntime

from bench.baseline import BaselineOptions
from bench.compare import labelled, own_texts
from bench.engines import BundleEngine, Engine, OnnxEngine, TorchEngine
from bench.environment import describe
from bench.front.candidates import OWN, Candidate
from bench.front.choice import choose, mark_front, verdict
from bench.front.make import FOLDER, Made, make_students
from bench.front.plot import write_plot
from bench.front.results import Front, Student, Teacher, write_front
from bench.isolate import choose_cpus
from bench.tables.latency import measure_engine
from bench.task import Task
from compress.busy import busy_share
from compress.console import console
from compress.data.corpus import Corpus
from compress.data.domains import load_student_corpus
from compress.data.files import fingerprint
from compress.pipeline.check import check
from compress.pipeline.run import compress, preflight_in_seconds
from compress.pipeline.stage import TaskTexts
from compress.pipeline.stages import STUDENT, stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.write import write_recipe
from compress.runtime.errors import UserError
from compress.students.genotype import Genotype
from export.build import build_bundle
from export.bundle import GRAPHS
from export.constraints import DevResult
from export.facts import teacher_accuracy


def run_front(recipe: Recipe, candidates: Sequence[Candidate], workspace: Workspace) -> tuple[Front, Path]:
    """Make and measure the students, and leave the one that the budget takes as the recipe's student and bundle.

    All of them learn from one teacher and one transfer set. Finished students are not made again; all are timed anew, one after
    the other, when nothing is trained any more. The results are `front.json`, `front.md` and a plot in `workspace.root/front`,
    with `recipe.toml`, the recipe of the student that was taken.

    :return: the results and their directory.
    :raises UserError: a student cannot be made, a model cannot be opened, or another process works on the recipe.
    """
    if recipe.domains.students == "per-domain":
        raise UserError("domains.students: a front is of students for one task; set domains.student to one domain")
    directory = workspace.root / FOLDER
    texts = TaskTexts(recipe).corpus
    for candidate in candidates:
        check(candidate.recipe, texts)
    with workspace.locked():
        _preflight(candidates, texts, workspace)
        _keep_own_student(recipe, workspace, Workspace(directory / OWN))
        compress(recipe, workspace, until="linear")
        made = make_students(candidates, workspace)
        front = _measure(recipe, made, load_student_corpus(recipe), workspace)
        write_front(front, directory)
        write_plot(front, directory)
        _leave(front, made, workspace)
    return front, directory


def _preflight(candidates: Sequence[Candidate], texts: Corpus, workspace: Workspace) -> None:
    """Check the models of all students that are yet to be made, before the teacher is trained."""
    from export.trial import trial_export

    for candidate in candidates:
        recipe, place = candidate.recipe, Workspace(workspace.root / FOLDER / candidate.folder)
        if not place.is_current(STUDENT.name, stage_keys(recipe)[STUDENT.name]):
            console.print(f"[bold]{candidate.title}[/]")
            preflight_in_seconds(recipe, texts, workspace.root, trial_export)


def _keep_own_student(recipe: Recipe, workspace: Workspace, place: Workspace) -> None:
    """Move the student that the recipe has already to the place of its candidate, since another one may be taken."""
    key = stage_keys(recipe)[STUDENT.name]
    if workspace.is_current(STUDENT.name, key) and not place.is_current(STUDENT.name, key):
        workspace.move_result(STUDENT.name, place)


def _leave(front: Front, made: Sequence[Made], workspace: Workspace) -> None:
    """Make the student that was taken the recipe's own, and export it as a plain run does."""
    for student in made:
        if student.candidate.title == front.taken:
            workspace.link_result(STUDENT.name, student.place)
            build_bundle(student.candidate.recipe, workspace, "cpu")
            write_recipe(student.candidate.recipe, workspace.root / FOLDER / "recipe.toml")


def _measure(recipe: Recipe, made: Sequence[Made], corpus: Corpus, workspace: Workspace) -> Front:
    environment = describe("cpu").model_copy(update={"busy_share": busy_share(choose_cpus(recipe.bench.threads))})
    timed, threads = own_texts(corpus, recipe), recipe.bench.threads

    def time_of(engine: Engine) -> float:
        return measure_engine(engine, timed, status.update, threads=threads)[0]

    with console.status("") as status:
        students = mark_front([_student(each, corpus, time_of) for each in made])
        teachers = _teachers(recipe, made[0], corpus, workspace, status.update)
    taken = choose(students, recipe.budget)
    return Front(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        split=corpus.report_split,
        texts=len(corpus.splits[corpus.report_split]),
        threads=threads,
        environment=environment,
        teachers=teachers,
        linear=_card(made[0])["linear"]["accuracy"][corpus.report_split],
        students=students,
        budget=recipe.budget,
        taken=taken.title if taken else None,
        verdict=verdict(students, recipe.budget),
    )


def _student(made: Made, corpus: Corpus, time_of: Callable[[Engine], float]) -> Student:
    card, manifest, root = _card(made), made.bundle.manifest, made.place.root
    model = manifest.models[manifest.default]
    accuracy = model.test_accuracy if corpus.report_split == "test" else model.dev_accuracy
    assert accuracy is not None, "the default model was evaluated"
    assert model.dev_accuracy is not None, "the default model was evaluated"
    ms = time_of(BundleEngine.of_student(_task(made.candidate.recipe, root, corpus), manifest.default))
    size = manifest.files[model.file].bytes
    genotype = Genotype.model_validate(card["genotype"]) if "genotype" in card else None
    return Student(
        title=made.candidate.title,
        family=made.candidate.family,
        settings=made.candidate.settings,
        folder=made.candidate.folder,
        precision=manifest.default,
        accuracy=accuracy,
        dev=DevResult(
            accuracy=model.dev_accuracy,
            teacher=teacher_accuracy(card)["dev"],
            linear=card["linear"]["accuracy"]["dev"],
            texts=len(corpus.splits["dev"]),
            file_bytes=size,
            latency_ms=ms,
        ),
        latency_ms=ms,
        file_bytes=size,
        parameters=card["parameters"],
        architecture=str(genotype) if genotype else None,
        seconds=made.place.seconds(STUDENT.name),
    )


def _teachers(
    recipe: Recipe, made: Made, corpus: Corpus, workspace: Workspace, progress: Callable[[str], None]
) -> list[Teacher]:
    """The teacher as it was trained, and in INT8."""
    task, timed, threads = _task(recipe, workspace.root, corpus), own_texts(corpus, recipe), recipe.bench.threads
    torch_ms, torch = measure_engine(TorchEngine.of_teacher(task), timed, progress, threads=threads)
    of_card = teacher_accuracy(_card(made))[corpus.report_split]
    progress("teacher in INT8")
    engine = OnnxEngine.of_teacher(task, _int8_teacher(recipe, corpus, workspace), "int8")
    ms, onnx = measure_engine(engine, timed, progress, threads=threads, scored=labelled(corpus))
    assert onnx.accuracy is not None, "the texts with labels were given"
    return [
        Teacher(torch.spec.title, of_card, torch_ms, torch.file_bytes, torch.parameters),
        Teacher(engine.title, onnx.accuracy.percent / 100, ms, onnx.file_bytes, onnx.parameters),
    ]


def _int8_teacher(recipe: Recipe, corpus: Corpus, workspace: Workspace) -> Path:
    """The .onnx file of the teacher in INT8; made once."""

    def make(directory: Path, _: Path) -> None:
        from export.judge import int8_teacher

        file = directory / "model.int8.onnx"
        int8_teacher(workspace.root / "teacher", file, pair=corpus.pair, max_length=recipe.target.max_length)

    key = fingerprint(stage_keys(recipe)["teacher"], corpus.pair, onnxruntime.__version__, GRAPHS)
    return Workspace(workspace.root / FOLDER).run("int8-teacher", key, make) / "model.int8.onnx"


def _task(recipe: Recipe, root: Path, corpus: Corpus) -> Task:
    return Task(root / "teacher", root / "bundle", corpus, recipe.target.max_length, "cpu", BaselineOptions())


def _card(made: Made) -> dict[str, Any]:
    return json.loads((made.place.root / STUDENT.name / "card.json").read_text(encoding="utf-8"))
